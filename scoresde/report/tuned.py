"""``tuned.html``: what a tuned solver gains over the best fixed one, and its plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import yaml

from scoresde.bench.rows import Estimate
from scoresde.bench.store import model
from scoresde.files.text import plain
from scoresde.report.curves import COLORS, DASHES, MARKERS
from scoresde.report.markup import cell, chart, charted, grid, select, tag, terms
from scoresde.report.printable import nested
from scoresde.report.quantities import Axis, Metric, count, text
from scoresde.tuned import Member, TunedSolver

WAYS = {"fixed": "best fixed solver", "taken": "tuned"}
DISTANCE = "distance from the converged sample of the same start, root mean square per element"
SUMMARIES = {
    "mean": Metric("mean error", f"mean over fresh samples of the {DISTANCE}"),
    "rms": Metric("RMS error", f"root mean square over fresh samples of the {DISTANCE}"),
    "median": Metric("median error", f"median over fresh samples of the {DISTANCE}"),
}
COMPARED = {
    "spread": Metric("spread", "Fréchet distance from the converged samples in random features; smaller is better"),
    "texture": Metric(
        "texture", "Fréchet distance from the converged samples in energies of fine filters; smaller is better"
    ),
    "variance": Metric("variance", "total variance over that of the converged samples; 1 is best", log=False),
}
LOST = Metric("basins lost", "fresh samples that ended in another basin", log=False, whole=True)
EVALUATIONS = Axis("NFE", "model evaluations (NFE)", whole=True)
LEVEL = Axis("noise level", "noise level σ/α")
BASINS = (
    "A sample counts as lost if it ended nearer to the converged end of another of these samples than to its own, and "
    "farther from its own than a quarter of the standard deviation of these ends, per element. Where data have "
    "separate modes, it ended in another one than it should; where they have none, it is a sample in another's place. "
    "In a mode that none of these ends is in, a lost one may be missed."
)


def html(solver: TunedSolver, config: Mapping[str, Any]) -> str:
    """The page as the text of one HTML file.

    Args:
        solver: with the reports of :func:`scoresde.tune`; those of earlier versions, which do not know what was lost,
            will do.
        config: the settings that it was tuned with.
    """
    page = _Page(solver, nested(config))
    return charted(page.title, "tuned.js", page.drawings(), *page.sections())


class _Page:
    def __init__(self, solver: TunedSolver, config: Mapping[str, Any]):
        self.members, self.config, self.version = solver.members, config, solver.version
        self.about = nested(solver.about)
        self.reports = {nfe: member.report for nfe, member in solver.members.items()}
        self.plans = {nfe: member.numbers for nfe, member in solver.members.items() if member.numbers is not None}
        self.judged = len(next(iter(self.reports.values()))["samples"]["fixed"])
        self.back = max((len(row) for plan in self.plans.values() for row in plan.history), default=0)
        self.distances = {
            name: metric for name, metric in COMPARED.items() if all(name in report for report in self.reports.values())
        }
        self.counted = {nfe: report["lost"] for nfe, report in self.reports.items() if "lost" in report}
        name = model(config)
        self.title = f"A solver tuned to {name}" if name else "A tuned solver"

    def sections(self) -> list[Element]:
        setting = tag("pre", yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))
        return [
            *(tag("h1", self.title), self.setting()),
            *self.gained(),
            *self.single(),
            *self.levels(),
            *(tag("h2", "Configuration"), setting),
        ]

    def setting(self) -> Element:
        """What was tuned, and how."""
        about, seeds, teacher = self.about, self.about["seeds"], self.about["teacher"]
        return terms(
            {
                "Process": about["process"],
                "Prediction, guidance": f"{about['prediction']}, {about['guidance'] or 'no guidance'}",
                "Shape": " × ".join(map(str, about["shape"])),
                "Trajectories": f"{len(seeds)}, seeds {min(seeds)} to {max(seeds)}; {self.judged} of them judge, "
                "which neither fit nor choice has seen, and all errors here are theirs",
                "Noise scale": f"σ* = {about['noise_scale']:.4g}",
                "Converged samples": f"{teacher['steps']} steps; half of them change a sample by "
                f"{teacher['median']:.2g} in the median, {teacher['rms']:.2g} in the root mean square",
                "Effort and target": f"{about['effort']}; {about['target']}",
                "Version": f"scoresde {plain(self.version)}",
            }
        )

    def gained(self) -> list[Element]:
        """Errors and distributions of the best fixed solver and the tuned one, by evaluations."""
        heads = ["NFE", *(metric.label for metric in SUMMARIES.values()), "difference", "log ratio"]
        heads += ["taken", "best fixed solver"]
        errors, distributions = [], []
        for nfe, member in self.members.items():
            report = member.report
            cells = [cell(count(nfe)), *(_pair({way: report[way][name] for way in WAYS}) for name in SUMMARIES)]
            cells += [cell(_margin(report[name])) for name in ("difference", "log_ratio")]
            taken = tag("td", tag("span", _taken(member), class_="whole"))
            errors.append(tag("tr", *cells, taken, tag("td", plain(member.fixed), class_="named")))
            distributions.append(tag("tr", cell(count(nfe)), *(_pair(report[name]) for name in self.distances)))
        explained = {
            "before → after": "by the best fixed solver, and by what was taken: the tuned plan, or the fixed solver "
            "where the tuned one was not better.",
            "error": f"{DISTANCE[0].upper()}{DISTANCE[1:]}.",
            "difference, log ratio": "of the errors before and after, and of their logarithms: paired, with their "
            "standard errors, above 0 where the plan is better. Where the fixed solver was kept, of the plan that was "
            "refused.",
            **{metric.label: f"{metric.meaning[0].upper()}{metric.meaning[1:]}." for metric in self.distances.values()},
        }
        metrics = {name: metric.label for name, metric in self.compared().items()}
        charts = [
            self.chart(f"by-nfe-{first}", [select("y", "Metric", metrics, first)], "nfe", first, of="compared")
            for first in ("mean", "spread")
        ]
        return [
            tag("h2", "Before and after"),
            terms(explained),
            grid("errors before and after", heads, errors, class_="budgets"),
            tag("div", *charts, class_="charts"),
            grid("distributions before and after", ["NFE", *(m.label for m in self.distances.values())], distributions),
        ]

    def single(self) -> list[Element]:
        """The errors of single samples, and those that ended in another basin."""
        parts = [tag("h2", "Single samples, and basins lost"), tag("p", BASINS)]
        if self.counted:
            body = []
            for nfe, lost in self.counted.items():
                before, after = (set(lost[way]) for way in WAYS)
                shown = (nfe, self.judged, len(before), len(after), len(before & after))
                body.append(tag("tr", *(cell(count(number)) for number in shown)))
            heads = ["NFE", "samples", "lost before", "lost after", "by both"]
            parts.append(grid("basins lost by number of evaluations", heads, body))
        if missing := [count(nfe) for nfe in self.members if nfe not in self.counted]:
            earlier = f"Not counted yet by the version that tuned for NFE {', '.join(missing)}."
            parts.append(tag("p", earlier, class_="soft"))
        below = "Each point is a sample; below the line the tuned solver is nearer to its converged end."
        hollow = " Hollow: lost by the tuned one." if self.counted else ""
        return [*parts, tag("p", below + hollow), self.chart("samples", [], "fixed", "taken", data_pairs=True)]

    def levels(self) -> list[Element]:
        """The plans, as pictures and as numbers."""
        if not self.plans:
            return [tag("h2", "Plans"), tag("p", "The fixed solver was kept everywhere: there are no numbers.")]
        explained = (
            "Where each plan evaluates the network, from noise to data, and what it makes of the evaluations before: "
            "Dᵢ + c₁ (Dᵢ − Dᵢ₋₁) + c₂ (Dᵢ₋₁ − Dᵢ₋₂), Dᵢ being the denoised sample at evaluation i, takes the step to "
            "the next level. The first evaluation, at full noise, has none before it and is not drawn."
        )
        told = any(plan.offsets for plan in self.plans.values())
        heads = ["NFE", "evaluation", "noise level", *["told level"] * told, *map(_coefficient, range(self.back))]
        body = []
        for nfe, plan in self.plans.items():
            for index, level in enumerate(plan.levels):
                shown = [level, *[level * math.exp(plan.offset(index))] * told]
                cells = [cell(count(nfe)), cell(count(index + 1)), *(cell(f"{each:.4g}") for each in shown)]
                row = plan.history[index]
                cells += [cell(f"{row[back]:.4g}" if back < len(row) else "") for back in range(self.back)]
                body.append(tag("tr", *cells))
        charts = [self.chart("levels", [], "level", "nfe", data_falling=True)]
        if self.back:
            coefficients = {f"c{back}": _coefficient(back) for back in range(self.back)}
            choice = [select("y", "Coefficient", coefficients, "c0")]
            charts.append(self.chart("history", choice, "level", "c0", data_falling=True))
        return [
            tag("h2", "Plans"),
            tag("p", explained),
            tag("div", *charts, class_="charts"),
            tag("details", tag("summary", "The same in numbers"), grid("numbers of the plans", heads, body)),
        ]

    def chart(self, id: str, choices: list[Element], x: str, y: str, of: str | None = None, **more: Any) -> Element:
        return chart(id, choices, data_of=of or id, data_x=x, data_y=y, data_range="all", data_key=True, **more)

    def compared(self) -> dict[str, Metric]:
        return SUMMARIES | self.distances | ({"lost": LOST} if self.counted else {})

    def drawings(self) -> dict[str, Any]:
        """What the charts draw, by the name that they know it by."""
        plans = {nfe: f"{count(nfe)} NFE" for nfe in self.members}
        curves = [{"label": label, **_look(index), "dash": DASHES[0]} for index, label in enumerate(plans.values())]
        place = {nfe: index for index, nfe in enumerate(plans)}
        levels = {
            "nfe": Metric("model evaluations", "each line is a plan, each point an evaluation", False, whole=True)
        }
        history = {f"c{back}": Metric(_coefficient(back), _meaning(back), log=False) for back in range(self.back)}
        pairs = {"taken": Metric("error by the tuned solver", DISTANCE)}
        steps = [
            (place[nfe], nfe, index, level, plan.history[index])
            for nfe, plan in self.plans.items()
            for index, level in enumerate(plan.levels)
            if index > 0
        ]
        return {
            "compared": _drawn(
                self.compared(),
                {"nfe": EVALUATIONS},
                [
                    {"label": WAYS["fixed"], **_look(6), "dash": DASHES[1]},
                    {"label": WAYS["taken"], **_look(1), "dash": DASHES[0]},
                ],
                [
                    _row(curve, {}, self.values(report, way), nfe=nfe)
                    for nfe, report in self.reports.items()
                    for curve, way in enumerate(WAYS)
                ],
            ),
            "samples": _drawn(
                pairs,
                {"fixed": Axis("error by the best fixed solver", "error by the best fixed solver")},
                curves,
                [row for nfe, report in self.reports.items() for row in _samples(place[nfe], report)],
            ),
            "levels": _drawn(
                levels,
                {"level": LEVEL},
                curves,
                [
                    _row(curve, {"evaluation": count(index + 1)}, {"nfe": nfe}, level=level)
                    for curve, nfe, index, level, _ in steps
                ],
            ),
            "history": _drawn(
                history,
                {"level": LEVEL},
                curves,
                [
                    _row(
                        curve,
                        {"evaluation": count(index + 1)},
                        {f"c{back}": value for back, value in enumerate(row)},
                        level=level,
                    )
                    for curve, _, index, level, row in steps
                ],
            ),
        }

    def values(self, report: Mapping[str, Any], way: str) -> Mapping[str, float]:
        found = {name: report[way][name] for name in SUMMARIES} | {name: report[name][way] for name in self.distances}
        return found | ({"lost": len(report["lost"][way])} if "lost" in report else {})


def _pair(values: Mapping[str, float]) -> Element:
    return cell(" → ".join(f"{values[way]:#.3g}".rstrip(".") for way in WAYS))


def _margin(value: Sequence[float]) -> str:
    mean, error = value
    return text(Estimate(mean, mean - error, mean + error))


def _taken(member: Member) -> str:
    return "fixed solver kept" if member.numbers is None else plain(member.report["plan"])


def _coefficient(back: int) -> str:
    return f"coefficient c{_lower(back + 1)}"


def _lower(number: int) -> str:
    return "".join(chr(ord("₀") + int(digit)) for digit in str(number))


def _meaning(back: int) -> str:
    here, before = (f"Dᵢ{f'₋{_lower(index)}' if index else ''}" for index in (back, back + 1))
    return f"what {here} − {before} counts in the step from evaluation i"


def _look(index: int) -> dict[str, Any]:
    return {"color": index % len(COLORS), "marker": index % len(MARKERS)}


def _samples(curve: int, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    lost = report.get("lost", {})
    made = []
    for index, (before, after) in enumerate(zip(report["samples"]["fixed"], report["samples"]["taken"], strict=True)):
        by = [label for way, label in WAYS.items() if index in lost.get(way, ())]
        about = {"sample": count(index + 1), **({"lost by": ", ".join(by)} if by else {})}
        made.append(_row(curve, about, {"taken": after}, fixed=before, hollow=index in lost.get("taken", ())))
    return made


def _row(curve: int, about: dict[str, str], values: Mapping[str, float], **more: float) -> dict[str, Any]:
    """A point as ``chart.js`` takes it; what is not finite is null."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    metrics = {name: [known(value), None, None] for name, value in values.items()}
    return {"curve": curve, "about": about, "metrics": metrics, **{key: known(value) for key, value in more.items()}}


def _drawn(
    metrics: Mapping[str, Metric], axes: Mapping[str, Axis], curves: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "metrics": {name: vars(metric) for name, metric in metrics.items()},
        "axes": {name: vars(axis) for name, axis in axes.items()},
        "curves": curves,
        "rows": rows,
        "lines": {},
    }
