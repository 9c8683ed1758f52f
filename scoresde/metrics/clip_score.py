"""How well images fit their prompts, by CLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.files import digest_of
from scoresde.metrics.figures.estimate import Estimate
from scoresde.metrics.spaces.space import as_rgb, in_batches, pixels_of

DEFAULT = "openai/clip-vit-base-patch16"
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of colours, CLIP's own


def find(source: str) -> Path | None:
    """The folder of a CLIP of transformers: itself, or that of a hub id in the hub's cache; nothing is downloaded."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(source, "config.json")
    except HFValidationError:  # no hub id
        return None
    return Path(found).parent if isinstance(found, str) else None


class ClipScore:
    """100 · max(cos(image, prompt), 0) of CLIP's embeddings, the mean over images: the CLIP score of most tables.

    Images are resized to CLIP's size by their shorter side (bicubic, antialiased) and cut to a square in the middle;
    prompts are cut to CLIP's length.

    Source: Hessel et al. 2021, CLIPScore, with 100 in the place of its factor 2.5 and its "A photo depicts".

    Args:
        network: a CLIPModel of transformers, on its device.
        words: its tokenizer.
        prompts: the texts that labels number.
    """

    def __init__(self, network: nn.Module, words: Any, prompts: Sequence[str]):
        self.network: Any = network.eval()
        self.device = next(network.parameters()).device
        self.side = int(self.network.config.vision_config.image_size)
        length = int(self.network.config.text_config.max_position_embeddings)
        with torch.no_grad():
            texts = [
                self._text(words(text, truncation=True, max_length=length, return_tensors="pt")) for text in prompts
            ]
        self.texts = nn.functional.normalize(torch.cat(texts), dim=1)
        weights = sorted(network.state_dict().items())
        sha = digest_of(key.encode() + value.detach().cpu().contiguous().numpy().tobytes() for key, value in weights)
        self.name = f"CLIP ({sha[:8]}), {self.side}×{self.side}"

    def __call__(self, images: Tensor, labels: Tensor | None) -> Estimate:
        """The score of uint8 images (n, channels, height, width) of 1 or 3 channels, which labels (n,) give prompts.

        Raises:
            ValueError: there are no labels, or images of another kind.
        """
        if labels is None or len(labels) != len(images):
            raise ValueError("a CLIP score needs the number of each image's prompt")
        found = in_batches(self._image, as_rgb(self.name, pixels_of(images)), self.device)
        cosine = (nn.functional.normalize(found, dim=1) * self.texts[labels]).sum(1).double()
        scores = 100 * cosine.clamp(min=0)
        error = float(scores.std()) / math.sqrt(len(scores)) if len(scores) > 1 else None
        return Estimate.of(float(scores.mean()), error, least=0.0, most=100.0)

    def _text(self, tokens: Any) -> Tensor:
        given = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return self.network.text_projection(self.network.text_model(**given).pooler_output).float().cpu()

    def _image(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        scale = self.side / min(height, width)
        sides = [self.side if side == min(height, width) else int(side * scale) for side in (height, width)]
        resized = nn.functional.interpolate(pixels.float(), sides, mode="bicubic", antialias=True)
        top, left = ((side - self.side) // 2 for side in sides)
        cut = resized.round().clamp(0, 255)[:, :, top : top + self.side, left : left + self.side] / 255
        mean, spread = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
        found = self.network.vision_model(pixel_values=(cut - mean) / spread)
        return self.network.visual_projection(found.pooler_output)
