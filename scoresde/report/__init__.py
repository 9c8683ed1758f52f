"""What a benchmark found, as a page, figures and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scoresde.bench.rows import Outcome
from scoresde.files import replacing
from scoresde.report import figures, tables
from scoresde.report.choice import pareto, recommendations
from scoresde.report.page import html
from scoresde.report.quantities import distance, measured

FILES = ("report.html", "table.md", "table.tex", "table.csv", "samples.png")
FILES += ("steps_vs_fid.png", "steps_vs_fid.svg", "pareto.png", "pareto.svg")  # all that write() may make

__all__ = ["FILES", "figures", "html", "pareto", "recommendations", "tables", "write"]


def write(outcome: Outcome, folder: str | Path) -> list[str]:
    """Write everything into a folder.

    ``report.html``; ``steps_vs_fid.png`` and ``.svg``; ``pareto.png`` and ``.svg`` where FID was measured;
    ``samples.png``; ``table.md``, ``table.tex`` (FID and error by NFE) and ``table.csv`` (all in full precision).

    Returns:
        The files' names.

    Raises:
        ValueError: there are no rows, or one has an unknown metric.
    """
    folder = Path(folder)
    known = measured(outcome.rows)
    shown = [name for name in ("own_fd", "fid", "error") if name in known]
    texts = {
        "report.html": html(outcome),
        "table.md": tables.markdown(outcome) + "\n",
        "table.tex": "\n".join(tables.latex(outcome, name) for name in shown),
        "table.csv": tables.table(outcome),
    }
    for name, content in texts.items():
        with replacing(folder / name) as path:
            path.write_text(content, encoding="utf-8")
    drawings: dict[str, Callable[[Outcome, Path], None]] = {"samples.png": figures.images}
    if shown:
        drawings |= {"steps_vs_fid.png": figures.steps, "steps_vs_fid.svg": figures.steps}
    if pareto(outcome.rows, lambda row: row.nfe, distance(outcome.rows)):
        drawings |= {"pareto.png": figures.front, "pareto.svg": figures.front}
    for name, draw in drawings.items():
        draw(outcome, folder / name)
    return [*texts, *drawings]
