"""What benchmarks/peers/compare.py says about the errors that it has measured: tables, JSON and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.peers.problems import STEPS
from benchmarks.tuning.grids import mean
from scoresde.files import replacing

NFE = (5, 6, 8, 10, 12, 15, 20, 30, 50)
FEW = (5, 20)  # NFE from and to which means are taken
OURS = "scoresde"
MEASURES = ("RMSE", "median")
COLORS = {OURS: "#000000", "auto": "#d62728", "diffusers": "#1f77b4", "k-diffusion": "#2ca02c", "azula": "#9467bd"}
COLORS |= {"DPM-Solver": "#ff7f0e", "UniPC": "#8c564b"}
Cache = dict[str, Any]  # versions, absent, seconds, doubts and errors[process][toolkit][label][nfe]
Best = tuple[float, str]  # an error and the configuration that has it


@dataclass(frozen=True)
class Cell:
    """One process, problem, budget and measure.

    Attributes:
        best: the smallest error of each toolkit, and the configuration that has it.
        auto: the error of ``auto``, None if it was not measured.
    """

    process: str
    problem: str
    nfe: int
    measure: str
    best: Mapping[str, Best]
    auto: float | None

    @property
    def ours(self) -> Best | None:
        return self.best.get(OURS)

    @property
    def peer(self) -> tuple[float, str, str] | None:
        """The smallest error of any peer, its toolkit and its configuration."""
        found = [(error, toolkit, label) for toolkit, (error, label) in self.best.items() if toolkit != OURS]
        return min(found, default=None)

    @property
    def least(self) -> float:
        """The smallest error of all, ours included."""
        return min((error for error, _ in self.best.values()), default=math.nan)

    @property
    def ratio(self) -> float | None:
        """Ours over the best peer's."""
        return self.ours[0] / self.peer[0] if self.ours and self.peer else None


def values(labels: Mapping[str, Any], problem: str, nfe: int, measure: str) -> Iterator[Best]:
    """The errors of all configurations that took at most that many evaluations."""
    for label, entries in labels.items():
        for budget, (evaluations, errors) in entries.items():
            if evaluations <= nfe and int(budget) <= nfe:
                error = errors[problem][MEASURES.index(measure)]
                if math.isfinite(error):
                    yield error, label


def cells(kept: Cache) -> list[Cell]:
    """All cells of the table."""
    found = []
    for process, toolkits in kept["errors"].items():
        entries = [entry for labels in toolkits.values() for by in labels.values() for entry in by.items()]
        problems = list(entries[0][1][1]) if entries else []
        budgets = sorted({int(nfe) for nfe, _ in entries})
        for problem in problems:
            for nfe in budgets:
                for measure in MEASURES:
                    best = {
                        toolkit: min(values(labels, problem, nfe, measure), default=(math.inf, ""))
                        for toolkit, labels in toolkits.items()
                        if toolkit != "auto"
                    }
                    chosen = at(toolkits.get("auto", {}).get("auto", {}), problem, nfe, measure)
                    best = {toolkit: pair for toolkit, pair in best.items() if math.isfinite(pair[0])}
                    found.append(Cell(process, problem, nfe, measure, best, chosen))
    return found


def at(entries: Mapping[str, Any], problem: str, nfe: int, measure: str) -> float | None:
    """The error of one configuration with this budget, None if it has none."""
    error = entries[str(nfe)][1][problem][MEASURES.index(measure)] if str(nfe) in entries else math.nan
    return error if math.isfinite(error) else None


def singles(kept: Cache, found: Sequence[Cell], processes: Sequence[str], measure: str = "RMSE") -> list[Single]:
    """Every public configuration over the best of all, ours included: mean and largest ratio over the problems of the
    processes and all budgets from FEW on, the best first. Those that lack one of these are left out."""
    chosen = [c for c in found if c.process in processes and c.measure == measure and FEW[0] <= c.nfe <= FEW[1]]
    names = {
        (toolkit, label)
        for process in processes[:1]
        for toolkit, labels in kept["errors"][process].items()
        for label in labels
        if toolkit not in (OURS, "auto")
    }
    result = []
    for toolkit, label in names:
        ratios = []
        for c in chosen:
            error = at(kept["errors"][c.process].get(toolkit, {}).get(label, {}), c.problem, c.nfe, measure)
            if error is None:
                break
            ratios.append(error / c.least)
        else:
            result.append(Single(mean(ratios), max(ratios), toolkit, label))
    return sorted(result, key=lambda single: (single.mean, single.label))


@dataclass(frozen=True)
class Single:
    """One public configuration over the best of all: mean and largest ratio."""

    mean: float
    worst: float
    toolkit: str
    label: str


def summary(kept: Cache, found: Sequence[Cell]) -> list[str]:
    """The comparison process by process."""
    lines = [
        f"| process | measure | cells where ours ≤ best peer | ours / best peer, NFE {FEW[0]}–{FEW[1]} | all NFE | "
        f"worst cell | auto / best of peers, NFE {FEW[0]}–{FEW[1]} | auto / best of all | best single public "
        "configuration / best of all: mean, worst |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for process in kept["errors"]:
        for measure in MEASURES:
            single = next(iter(singles(kept, found, [process], measure)), None)
            chosen = [c for c in found if (c.process, c.measure) == (process, measure)]
            few = [c for c in chosen if FEW[0] <= c.nfe <= FEW[1]]
            ratios = [c.ratio for c in chosen if c.ratio is not None]
            auto = [c for c in few if c.auto is not None]
            shown = f"{single.mean:.2f}, {single.worst:.2f}" if single else "–"
            lines.append(
                f"| {process} | {measure} | {sum(ratio <= 1 for ratio in ratios)} of {len(ratios)} | "
                f"{_ratio([c.ratio for c in few if c.ratio is not None])} | {_ratio(ratios)} | "
                f"{max(ratios, default=math.nan):.2f} | "
                f"{_ratio([c.auto / c.peer[0] for c in auto if c.auto is not None and c.peer])} | "
                f"{_ratio([c.auto / c.least for c in auto if c.auto is not None])} | {shown} |"
            )
    lines += ["", "The best single public configurations, mean and worst RMSE over the best of all:", ""]
    names = list(kept["errors"])
    for processes in dict.fromkeys((*((name,) for name in names), tuple(names))):
        for best in singles(kept, found, processes)[:1]:
            each = [one for name in processes for one in singles(kept, found, [name]) if one.label == best.label]
            shown = "; ".join(
                f"{name} {one.mean:.2f}, {one.worst:.2f}" for name, one in zip(processes, each, strict=True)
            )
            lines.append(f"- {best.toolkit}, `{best.label}`: {shown}")
    return lines


def _ratio(ratios: Sequence[float]) -> str:
    return f"{mean(ratios):.3f}" if ratios else "–"


def _error(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}"


def report(kept: Cache) -> str:
    """The page."""
    found = cells(kept)
    toolkits = list(dict.fromkeys(toolkit for c in found for toolkit in c.best))
    peers = [toolkit for toolkit in toolkits if toolkit != OURS]
    lines = [
        "# Ours beside every peer",
        "",
        "Written by `python benchmarks/peers/compare.py --peers FOLDER --data FOLDER`; its docstring says how it is "
        "measured.",
        *(f"Compared: {peer} {version}." for peer, version in kept["versions"].items()),
        *(f"Absent: {peer} ({why})." for peer, why in kept["absent"].items()),
        *(f"{_census(kept, toolkit)}." for toolkit in toolkits),
        f"The converged solution, by {STEPS} steps of rk4, differs from that with half the steps by "
        + "; ".join(
            f"{', '.join(f'{value:.0e} ({problem})' for problem, value in doubts.items())} on {process}"
            for process, doubts in kept["doubts"].items()
        )
        + ", root mean square.",
        f"Measured in {sum(kept['seconds'].values()):.0f} s, the seconds of all processes added up.",
        "",
        "## Summary",
        "",
        *summary(kept, found),
    ]
    for process in kept["errors"]:
        for problem in dict.fromkeys(c.problem for c in found if c.process == process):
            for measure in MEASURES:
                lines += [
                    "",
                    f"## {problem} on {process}, {measure}",
                    "",
                    "| NFE | ours | best peer | ratio | auto | auto / best of all | "
                    + " | ".join(peers)
                    + " | ours is | best peer is |",
                    "|---:|" + "---:|" * (5 + len(peers)) + "---|---|",
                ]
                for c in found:
                    if (c.process, c.problem, c.measure) == (process, problem, measure):
                        lines.append(_row(c, peers))
    return "\n".join(lines) + "\n"


def _census(kept: Cache, toolkit: str) -> str:
    """How many configurations of a toolkit there are, and how many gave nothing."""
    counts = []
    for process, toolkits in kept["errors"].items():
        labels = toolkits.get(toolkit, {})
        idle = sum(
            not any(math.isfinite(pair[0]) for _, errors in entries.values() for pair in errors.values())
            for entries in labels.values()
        )
        counts.append(f"{len(labels)} on {process}" + (f" ({idle} without a finite result)" if idle else ""))
    return f"{toolkit}: configurations: {', '.join(counts)}"


def _row(c: Cell, peers: Sequence[str]) -> str:
    ours, peer = c.ours or (None, ""), c.peer or (None, "", "")
    against = None if c.auto is None else c.auto / c.least
    cells = [
        str(c.nfe),
        _error(ours[0]),
        _error(peer[0]),
        "–" if c.ratio is None else f"{c.ratio:.2f}",
        _error(c.auto),
        "–" if against is None else f"{against:.2f}",
        *(_error(c.best[name][0] if name in c.best else None) for name in peers),
        ours[1].replace(" | ", " on "),
        f"{peer[1]}: {peer[2].replace(' | ', ' on ')}" if peer[1] else "–",
    ]
    return f"| {' | '.join(cells)} |"


def figure(found: Sequence[Cell], path: Path) -> None:
    """RMSE against NFE, a panel for each process and problem."""
    chosen = [c for c in found if c.measure == "RMSE"]
    rows, columns = (list(dict.fromkeys(getattr(c, key) for c in chosen)) for key in ("process", "problem"))
    size = (4 * len(columns), 3.2 * len(rows))
    drawing, axes = pyplot.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharex=True, sharey="col")
    for (i, process), (j, problem) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        panel = axes[i][j]
        here = [c for c in chosen if (c.process, c.problem) == (process, problem)]
        for toolkit, color in COLORS.items():
            pairs = [(c.nfe, c.auto if toolkit == "auto" else c.best.get(toolkit, (None, ""))[0]) for c in here]
            pairs = [(nfe, error) for nfe, error in pairs if error is not None]
            if pairs:
                heavy = toolkit in (OURS, "auto")
                style = {"linestyle": "--" if toolkit == "auto" else "-", "linewidth": 1.8 if heavy else 1.0}
                panel.loglog(*zip(*pairs, strict=True), label=toolkit, color=color, marker=".", **style)
        panel.set_title(f"{problem}, {process}", fontsize=10)
        panel.set_xticks([c.nfe for c in here], [str(c.nfe) for c in here], fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        if i == len(rows) - 1:
            panel.set_xlabel("NFE")
        if j == 0:
            panel.set_ylabel("RMSE")
    axes[0][-1].legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    pyplot.close(drawing)


def write(kept: Cache, out: Path) -> str:
    """The page, its cells as JSON and the figure beside it, if anything was measured; returns the page."""
    found, text = cells(kept), report(kept)
    rows = [asdict(c) for c in found]
    content = {key: kept[key] for key in ("versions", "absent", "seconds", "doubts")} | {"cells": rows}
    with replacing(out) as path:
        path.write_text(text, encoding="utf-8")
    with replacing(out.with_suffix(".json")) as path:
        path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    if found:
        with replacing(out.with_suffix(".png")) as path:
            figure(found, path)
    return text
