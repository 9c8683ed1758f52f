"""``report.html``: one file with everything in it that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import yaml

from scoresde.bench.rows import Outcome, Row
from scoresde.report import words
from scoresde.report.choice import Pick, overlap, pareto, recommendations
from scoresde.report.curves import DASHES, asked, condition, curves, varied
from scoresde.report.markup import cell, chart, charted, grid, select, tag, terms
from scoresde.report.pictures import panels
from scoresde.report.printable import printable
from scoresde.report.quantities import (
    METRICS,
    Axis,
    brackets,
    count,
    distance,
    interval,
    measured,
    parts,
    per_thousand,
    text,
    value,
)

COSTS: dict[str, tuple[Axis, Callable[[Row], float]]] = {
    "nfe": (Axis("NFE", "model evaluations (NFE)"), lambda row: row.nfe),
    "seconds": (Axis("s per 1000 images", "seconds per 1000 images"), per_thousand),
}


def html(outcome: Outcome) -> str:
    """The report as the text of one HTML file.

    The script that draws is our own, 20 kB inline: with a chart library, megabytes, each report would weigh ten times
    as much as its figures and images.

    Raises:
        ValueError: there are no rows, or one has an unknown metric.
    """
    if not outcome.rows:
        raise ValueError("a report needs at least one row")
    page = _Page(printable(outcome))
    return charted(page.title, "report.js", page.figures(), *page.sections())


class _Page:
    def __init__(self, outcome: Outcome):
        self.outcome, self.rows = outcome, outcome.rows
        self.curves, self.metrics = curves(outcome.rows), measured(outcome.rows)
        self.owner = {index: number for number, curve in enumerate(self.curves) for index in curve.rows}
        self.distance = distance(self.rows)
        self.fronts = {name: pareto(self.rows, cost, self.distance) for name, (_, cost) in COSTS.items()}
        name = words.model(outcome.config)
        self.title = f"Solvers compared on {name}" if name else "Solvers compared"

    def sections(self) -> list[Element]:
        parts = [tag("h1", self.title), self.about(), self.chooser(), self.steps()]
        if self.fronts["nfe"]:
            parts += self.front()
        parts += [
            *self.recommended(),
            *self.table(),
            *self.failed(),
            *panels(self.outcome, self.curves),
            *self.setting(),
        ]
        return parts

    def figures(self) -> dict[str, Any]:
        """What the script draws; what is not finite is null."""
        rows = []
        for index, row in enumerate(self.rows):
            found = {}
            for name in self.metrics:
                if name in row.metrics:
                    low, high = interval(row.metrics[name]) or (None, None)
                    found[name] = [value(row, name), low, high]
            fronts = [name for name, members in self.fronts.items() if index in members]
            costs = {name: cost(row) for name, (_, cost) in COSTS.items()}
            about = {"asked for": asked(row)}
            rows.append({"curve": self.owner[index], "about": about, **costs, "metrics": found, "front": fronts})
        return {
            "axes": {name: vars(axis) for name, (axis, _) in COSTS.items()},
            "metrics": {name: vars(METRICS[name]) for name in self.metrics},
            "curves": [vars(curve) | {"dash": DASHES[curve.dash]} for curve in self.curves],
            "rows": rows,
            "lines": {name: self.lines(name) for name in self.metrics},
        }

    def lines(self, metric: str) -> list[dict[str, Any]]:
        """What a metric is read against: the floors of FID, the converged solution's value of the others."""
        floors = self.outcome.floors
        if metric == "fid" and floors is not None:
            real = {"label": "real test images", "value": floors.real.value, "spread": floors.spread, "style": "dotted"}
            return [real, {"label": "converged solution", "value": floors.converged.value, "style": "dashed"}]
        if metric == "error":
            reference = self.outcome.reference_error
            return [{"label": "reference against half its NFE", "value": reference, "style": "dashed"}]
        found = value(self.outcome.converged, metric)
        return [] if found is None else [{"label": "converged solution", "value": found, "style": "dashed"}]

    def about(self) -> Element:
        about = {"Measured": f"{len(self.rows)} rows, {words.samples(self.rows)}, {words.conditions(self.outcome)}."}
        about["FID and floors"] = words.fid(self.outcome)
        if words.spaces(self.outcome):
            about["FID and floors"] += (
                " FID depends on the feature space and falls as samples get more: compare it with these floors, not "
                "with figures from elsewhere."
            )
        if "error" in self.metrics:
            about["Error"] = words.error(self.outcome)
        about["Intervals"] = words.INTERVALS
        about["Cost"] = (
            "NFE is counted: the mean over samples of the model evaluations made. Seconds are wall time of this run on "
            "the hardware below, network included, and have no interval."
        )
        return terms(about)

    def chooser(self) -> Element:
        boxes = []
        for number, curve in enumerate(self.curves):
            hollow = " hollow" if curve.stochastic else ""
            swatch = tag("svg", class_=f"swatch c{curve.color}{hollow}", data_curve=number, aria_hidden="true")
            box = tag("input", type="checkbox", checked=True, data_curve=number)
            boxes.append(tag("label", box, swatch, tag("span", curve.label)))
        buttons = [tag("button", name, type="button", id=name) for name in ("all", "none")]
        sets = [tag("fieldset", tag("legend", "Solvers"), *buttons, *boxes)]
        for name in varied(self.rows):
            options = dict.fromkeys(condition(row, name) for row in self.rows)
            labels = [
                tag("label", tag("input", type="checkbox", checked=True, value=option, data_condition=name), option)
                for option in options
            ]
            sets.append(tag("fieldset", tag("legend", name), *labels))
        hint = "Filled markers: deterministic; hollow: draws noise. The choice holds for figures, rows and images."
        return tag(
            "div", *sets, tag("p", hint, class_="soft"), class_="chooser", role="group", aria_label="what is shown"
        )

    def steps(self) -> Element:
        first = [name for name in (self.distance, "error") if name in self.metrics] or self.metrics[:1]
        return tag("div", *(self.chart(f"steps-{name}", y=name) for name in first), class_="charts")

    def chart(self, id: str, y: str, x: str = "nfe", front: bool = False) -> Element:
        metrics = {name: METRICS[name].label for name in self.metrics}
        ranges = {"all": "all values", "near": "near the floor"}
        choices = [] if front else [select("y", "Metric", metrics, y)]
        choices += [] if front else [select("x", "against", {name: axis.label for name, (axis, _) in COSTS.items()}, x)]
        chosen = "near" if front else "all"
        choices.append(select("range", "Range", ranges, chosen))
        return chart(id, choices, data_x=x, data_y=y, data_range=chosen, data_front=front)

    def front(self) -> list[Element]:
        """Rows that no other beats, as figures and lists; each is held against the one before it."""
        lists = []
        for name, (axis, cost) in COSTS.items():
            body, before = [], None
            for index in self.fronts[name]:
                row = self.rows[index]
                gain = "" if before is None else "within intervals" if overlap(before, row, self.distance) else "clear"
                cells = [
                    cell(f"{cost(row):.4g}"),
                    tag("td", self.label(index)),
                    self.figure(row, self.distance),
                    tag("td", gain),
                ]
                body.append(tag("tr", *cells))
                before = row
            heads = [axis.label, "solver", METRICS[self.distance].label, "gain over the line above"]
            lists.append(grid(f"Pareto front against {axis.label}", heads, body))
        return [
            tag("h2", "Pareto front"),
            tag(
                "p",
                "Of all rows, whatever is chosen above: those that no other row beats in "
                f"{METRICS[self.distance].label} at no more cost.",
            ),
            tag(
                "div",
                *(self.chart(f"front-{name}", y=self.distance, x=name, front=True) for name in COSTS),
                class_="charts",
            ),
            tag("div", *lists, class_="charts"),
        ]

    def recommended(self) -> list[Element]:
        """The smallest FID and error within each budget, ties named."""
        body = []
        for found in recommendations(self.rows):
            fid, error = self.picked(found.fid, "fid"), self.picked(found.error, "error")
            cheapest = "" if found.fid is None else self.label(found.fid.cheapest, nfe=True)
            body.append(tag("tr", cell(count(found.budget)), *fid, tag("td", cheapest), *error))
        heads = ["NFE at most", "smallest FID", "indistinguishable from", "cheapest of them"]
        heads += ["smallest error (deterministic)", "indistinguishable from"]
        explained = (
            "Of all rows with at most so many evaluations. Rows are called indistinguishable where their 95 % "
            "intervals overlap, of each solver the best such row; the cheapest has the fewest evaluations of them all."
        )
        return [
            tag("h2", "Recommended solver per budget"),
            tag("p", explained),
            grid("recommended solver per budget", heads, body, class_="budgets"),
        ]

    def picked(self, pick: Pick | None, metric: str) -> list[Element]:
        if pick is None:
            return [tag("td", "none measured"), tag("td")]
        found = tag("span", text(self.rows[pick.row].metrics[metric]), class_="whole")
        best = tag("td", tag("strong", self.label(pick.row, nfe=True)), " ", found)
        ties = ", ".join(self.label(index, nfe=True) for index in pick.ties)
        return [best, tag("td", ties or "none")]

    def label(self, index: int, nfe: bool = False) -> str:
        label = self.curves[self.owner[index]].label
        return f"{label} at {count(self.rows[index].nfe)}" if nfe else label

    def table(self) -> list[Element]:
        names = [name for name in varied(self.rows) if name != "grid"]
        heads = ["solver", "grid", *names, "asked for", "NFE", *(METRICS[name].label for name in self.metrics)]
        heads += [COSTS["seconds"][0].label, "images/s"]
        body = []
        for index, row in enumerate(self.rows):
            cells = [tag("td", row.solver, data_value=row.solver, class_="solver")]
            cells += [tag("td", entry, data_value=entry) for entry in (row.grid, *(condition(row, n) for n in names))]
            cells += [tag("td", asked(row), data_value=row.budget), cell(count(row.nfe), row.nfe)]
            cells += [self.figure(row, name) for name in self.metrics]
            cells += [cell(f"{speed:.4g}", speed) for speed in (per_thousand(row), row.images_per_second)]
            body.append(tag("tr", *cells, data_curve=self.owner[index]))
        about = "In brackets 95 % intervals. A heading sorts; a second time, the other way round."
        return [tag("h2", "All rows"), tag("p", about), grid("all rows", heads, body, class_="rows")]

    def failed(self) -> list[Element]:
        """What was asked for and has no row."""
        if not self.outcome.failures:
            return []
        body = [
            tag("tr", tag("td", failure.solver), tag("td", asked(failure)), tag("td", failure.failed))
            for failure in self.outcome.failures
        ]
        about = "Asked for and not measured; the same command tries them again."
        return [
            tag("h2", "Rows that failed"),
            tag("p", about),
            grid("rows that failed", ["solver", "asked for", "why"], body),
        ]

    def figure(self, row: Row, name: str) -> Element:
        estimate = row.metrics.get(name)
        if estimate is None:
            return cell("", "")
        percent, known = METRICS[name].percent, value(row, name)
        ends = brackets(estimate, percent)
        made = cell(parts(estimate, percent)[0] + (" " if ends else ""), "" if known is None else known)
        if ends:
            made.append(tag("span", ends, class_="interval"))
        return made

    def setting(self) -> list[Element]:
        config = yaml.safe_dump(self.outcome.config, sort_keys=False, allow_unicode=True)
        return [
            tag("h2", "Environment"),
            terms(self.outcome.environment),
            tag("h2", "Configuration"),
            tag("pre", config),
        ]
