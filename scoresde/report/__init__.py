"""What a benchmark found, as a page, figures and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scoresde.bench.rows import Outcome
from scoresde.files import replacing
from scoresde.report import figures, plans, points, tables, trajectories
from scoresde.report.choice import pareto, recommendations
from scoresde.report.page import html
from scoresde.report.quantities import METRICS, Metric, distance, measured

FILES = ("report.html", "table.md", "table.tex", "table.csv", "samples.png")
FILES += ("steps_vs_fid.png", "steps_vs_fid.svg", "pareto.png", "pareto.svg")
FILES += ("timings.csv", "speed.png", "speed.svg")  # all that write() may make

__all__ = [
    "FILES",
    "METRICS",
    "Metric",
    "figures",
    "html",
    "pareto",
    "plans",
    "points",
    "recommendations",
    "tables",
    "trajectories",
    "write",
]


def write(outcome: Outcome, folder: str | Path, title: str = "") -> list[str]:
    """Write everything into a folder; the page is called by its models where no title is given.

    ``report.html``; ``steps_vs_fid.png`` and ``.svg``; ``pareto.png`` and ``.svg`` where FID was measured;
    ``samples.png``; ``table.md``, ``table.tex`` (FID and error by NFE) and ``table.csv`` (all in full precision);
    ``timings.csv``, ``speed.png`` and ``.svg`` where solvers were timed.

    Returns:
        The files' names.

    Raises:
        ValueError: there are no rows.
    """
    folder = Path(folder)
    known = measured(outcome.rows)
    shown = [name for name in dict.fromkeys(("own_fd", "fid", distance(outcome.rows), "error")) if name in known]
    texts = {
        "report.html": html(outcome, title),
        "table.md": tables.markdown(outcome) + "\n",
        "table.tex": "\n".join(tables.latex(outcome, name) for name in shown),
        "table.csv": tables.table(outcome),
    }
    if outcome.timings:
        texts["timings.csv"] = tables.timings(outcome)
    for name, content in texts.items():
        with replacing(folder / name) as path:
            path.write_text(content, encoding="utf-8")
    drawings: dict[str, Callable[[Outcome, Path], None]] = {
        "samples.png": points.grid if outcome.points else figures.images
    }
    if shown:
        drawings |= {"steps_vs_fid.png": figures.steps, "steps_vs_fid.svg": figures.steps}
    if pareto(outcome.rows, lambda row: row.nfe, distance(outcome.rows)):
        drawings |= {"pareto.png": figures.front, "pareto.svg": figures.front}
    if outcome.timings:
        drawings |= {"speed.png": figures.speed, "speed.svg": figures.speed}
    for name, draw in drawings.items():
        draw(outcome, folder / name)
    return [*texts, *drawings]
