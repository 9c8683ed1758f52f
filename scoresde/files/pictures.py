"""Pictures: many images in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from scoresde.files import replacing
from scoresde.files.text import plain

SMALLEST = 56  # cells are enlarged by a whole factor to about this many pixels, so that small images can be judged
GAP, FONT = 2, 13


def save_grid(
    path: str | Path,
    pixels: Tensor,
    columns: int,
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> None:
    """Write :func:`grid` to a file, whose suffix chooses the format."""
    canvas = grid(pixels, columns, row_labels=row_labels, column_labels=column_labels)
    with replacing(path) as temporary:
        canvas.save(temporary)


def grid(
    pixels: Tensor,
    columns: int,
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Image.Image:
    """Images as one picture, row by row, with text beside the rows and above the columns where it is given.

    Args:
        pixels: uint8 of shape (n, channels, height, width) with 1 or 3 channels, on any device.
        columns: images in a row; the last row may be shorter.
        row_labels, column_labels: one text for each row or column.

    Raises:
        ValueError: another shape or dtype, no images, columns < 1, or labels that do not number the rows or columns.
    """
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not len(pixels) or str(pixels.dtype) != "torch.uint8":
        raise ValueError(f"pixels must be uint8 of shape (n, 1 or 3, h, w), got {pixels.dtype} {tuple(pixels.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    rows = -(-len(pixels) // columns)
    for word, labels, count in (("row", row_labels, rows), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{len(labels)} {word} labels for {count} {word}s")
    row_labels, column_labels = ([plain(text) for text in labels or ()] for labels in (row_labels, column_labels))
    height, width = pixels.shape[2:]
    factor = max(1, -(-SMALLEST // max(height, width)))
    font = ImageFont.load_default(FONT)
    left = GAP + max((round(font.getlength(text)) + 2 * GAP for text in row_labels), default=0)
    top = GAP + (FONT + 2 * GAP if column_labels else 0)
    step_x, step_y = width * factor + GAP, height * factor + GAP
    mode = "L" if pixels.shape[1] == 1 else "RGB"
    canvas = Image.new(mode, (left + columns * step_x, top + rows * step_y), "white")
    draw = ImageDraw.Draw(canvas)
    for row, text in enumerate(row_labels):
        draw.text((GAP, top + row * step_y + (height * factor) // 2), text, "black", font, "lm")
    for column, text in enumerate(column_labels):
        draw.text((left + column * step_x + (width * factor) // 2, GAP), text, "black", font, "mt")
    for index, image in enumerate(pixels.permute(0, 2, 3, 1).cpu().numpy()):
        cell = Image.fromarray(image[..., 0] if mode == "L" else image)
        row, column = divmod(index, columns)
        cell = cell.resize((width * factor, height * factor), Image.Resampling.NEAREST)
        canvas.paste(cell, (left + column * step_x, top + row * step_y))
    return canvas
