"""``report.html``: one file with everything in it that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import yaml

from scoresde.bench.rows import Estimate, Outcome, Row, Timing
from scoresde.files.text import plain
from scoresde.report import words
from scoresde.report.choice import Pick, overlap, pareto, recommendations
from scoresde.report.curves import DASHES, alike, asked, condition, curves, key, varied
from scoresde.report.markup import cell, chart, charted, grid, select, tag, terms
from scoresde.report.pictures import panels
from scoresde.report.printable import printable
from scoresde.report.quantities import (
    Axis,
    Metric,
    brackets,
    count,
    described,
    distance,
    interval,
    measured,
    parts,
    per_thousand,
    text,
    useful,
    value,
)
from scoresde.report.tables import table

COSTS: dict[str, tuple[Axis, Callable[[Row], float]]] = {
    "nfe": (Axis("NFE", "model evaluations (NFE)", measured=True), lambda row: row.nfe),
    "seconds": (Axis("s per 1000 images", "seconds per 1000 images"), per_thousand),
}


def html(outcome: Outcome, title: str = "") -> str:
    """The report as the text of one HTML file; without a title it is called by its models.

    The script that draws is our own, 20 kB inline: with a chart library, megabytes, each report would weigh ten times
    as much as its figures and images.

    Raises:
        ValueError: there are no rows.
    """
    if not outcome.rows:
        raise ValueError("a report needs at least one row")
    page = _Page(printable(outcome), plain(title))
    return charted(page.title, "report.js", page.figures(), *page.sections())


class _Page:
    def __init__(self, outcome: Outcome, title: str = ""):
        self.outcome, self.rows = outcome, outcome.rows
        self.curves, self.metrics = curves(outcome.rows), measured(outcome.rows)
        self.owner = {index: number for number, curve in enumerate(self.curves) for index in curve.rows}
        self.distance = distance(self.rows)
        self.costs = {name: (axis.of(outcome.points), cost) for name, (axis, cost) in COSTS.items()}
        self.fronts = {name: pareto(self.rows, cost, self.distance) for name, (_, cost) in self.costs.items()}
        self.title = title or words.title(outcome)

    def sections(self) -> list[Element]:
        parts = [tag("h1", self.title), *self.verdict(), self.chooser(), self.steps()]
        if self.fronts["nfe"]:
            parts += self.front()
        parts += [
            *self.speed(),
            *self.table(),
            *self.failed(),
            *panels(self.outcome, self.curves),
            tag("h2", "What the figures are, and are not"),
            self.about(),
            *self.setting(),
        ]
        return parts

    def verdict(self) -> list[Element]:
        """What was found, and what to take at each budget; then what must be known to read it."""
        warning = words.few(self.outcome)
        return [
            tag("p", tag("strong", words.verdict(self.outcome)), class_="verdict"),
            *self.recommended(),
            *([tag("p", tag("strong", "Few samples. "), warning, class_="warning")] if warning else []),
        ]

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
            costs = {name: cost(row) for name, (_, cost) in self.costs.items()}
            about = {"asked for": asked(row)}
            rows.append({"curve": self.owner[index], "about": about, **costs, "metrics": found, "front": fronts})
        tops = {name: top for name in self.metrics if (top := useful(self.rows, name)) is not None}
        return {
            "tops": tops,
            "axes": {name: vars(axis) for name, (axis, _) in self.costs.items()},
            "metrics": {name: vars(described(name, self.outcome.points)) for name in self.metrics},
            "curves": [vars(curve) | {"dash": DASHES[curve.dash]} for curve in self.curves],
            "rows": rows,
            "lines": {name: self.lines(name) for name in self.metrics},
            "timing": self.timing(),
        }

    def timing(self) -> dict[str, Any]:
        """What the charts of speed draw: seconds of a batch, and images a second, of each size of batch."""
        firsts = [self.rows[curve.rows[0]] for curve in self.curves]
        metrics: dict[str, Any] = {}
        rows = []
        for each in self.outcome.timings:
            number = next((number for number, row in enumerate(firsts) if alike(each, row)), None)
            if number is None:
                continue  # its rows have failed
            latency, rate = (f"{kind}_{each.batch}" for kind in ("latency", "rate"))
            size = f"a batch of {each.batch}"
            metrics[latency] = Metric(f"seconds of {size}", f"median of repeats for {size}, bars: quartiles")
            metrics[rate] = Metric(f"images/s in batches of {each.batch}", "images of a batch over its median seconds")
            middle, low, high = each.seconds
            found = {latency: [middle, low, high], rate: [each.batch / time for time in (middle, high, low)]}
            about = {"asked for": asked(each), "runs": str(each.runs)} | (
                {"folder": each.folder} if each.folder else {}
            )
            rows.append({"curve": number, "about": about, "nfe": each.nfe, "metrics": found, "front": []})
        return {
            "axes": {"nfe": vars(COSTS["nfe"][0])},
            "metrics": {name: vars(metric) for name, metric in metrics.items()},
            "curves": [vars(curve) | {"dash": DASHES[curve.dash]} for curve in self.curves],
            "rows": rows,
            "lines": {},
        }

    def speed(self) -> list[Element]:
        """Latency and throughput by warmed-up repeats, where they were asked for."""
        timings = self.outcome.timings
        if not timings:
            return []
        batches = sorted({each.batch for each in timings})
        found: dict[tuple[object, ...], dict[int, Timing]] = {}
        for each in timings:
            found.setdefault((*key(each), each.budget), {})[each.batch] = each
        body = []
        for members in found.values():
            first = next(iter(members.values()))
            cells = [tag("td", ", ".join(filter(None, [first.solver, first.folder]))), cell(count(first.nfe))]
            for batch in batches:
                known = members.get(batch)
                cells += [cell(f"{known.seconds[0]:.4g}" if known else ""), cell(_rate(known) if known else "")]
            body.append(tag("tr", *cells))
        heads = ["solver", "NFE"]
        for batch in batches:
            heads += [f"seconds of {batch}", f"images/s in {batch}"]
        kinds = {"latency": "seconds of a batch of {}", "rate": "images/s in batches of {}"}
        charts = []
        for kind, batch in (("latency", batches[0]), ("rate", batches[-1])):
            options = {f"{kind}_{each}": kinds[kind].format(each) for each in batches}
            choice = select("y", "Metric", options, f"{kind}_{batch}")
            more = {"data_x": "nfe", "data_y": f"{kind}_{batch}", "data_range": "all", "data_of": "timing"}
            charts.append(chart(f"speed-{kind}", [choice], **more))
        explained = (
            "Whole runs after one to warm up, network and host included: medians of repeats, with quartiles as bars. "
            "The first chart begins with the smallest batch, the second with the largest."
        )
        return [
            tag("h2", "Speed"),
            tag("p", explained),
            tag("div", *charts, class_="charts"),
            grid("speed", heads, body),
        ]

    def lines(self, metric: str) -> list[dict[str, Any]]:
        """What a metric is read against: the floors of FID, the converged solution's value of the others."""
        made = []
        for limits in self.outcome.limits:
            of = f" of {limits.converged.model}" if self.outcome.others else ""
            floors, converged = limits.floors, value(limits.converged, metric)
            if metric == "error":
                made.append((f"reference{of} against half its NFE", limits.reference_error, None, "dashed"))
                continue
            if metric == "fid" and floors is not None:
                converged = floors.converged.value
                made.append((f"real test images{of}", floors.real.value, floors.spread, "dotted"))
            if converged is not None:
                made.append((f"converged solution{of}", converged, None, "dashed"))
        return [dict(zip(("label", "value", "spread", "style"), line, strict=True)) for line in made]

    def about(self) -> Element:
        about = {"Measured": f"{len(self.rows)} rows, {words.samples(self.rows)}, {words.conditions(self.outcome)}."}
        if told := words.runs(self.outcome):
            about["Of"] = f"{told}."
        if self.outcome.points:
            about["Distance"] = words.fid(self.outcome)
        elif words.spaces(self.outcome):
            about["FID and floors"] = (
                f"{words.fid(self.outcome)} FID depends on the feature space and falls as samples get more: compare it "
                "with these floors, not with figures from elsewhere."
            )
        else:
            about["Distance"] = words.fid(self.outcome)
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
        metrics = {name: described(name).label for name in self.metrics}
        ranges = {"useful": "without what failed", "all": "all values", "near": "near the floor"}
        choices = [] if front else [select("y", "Metric", metrics, y)]
        choices += (
            [] if front else [select("x", "against", {name: axis.label for name, (axis, _) in self.costs.items()}, x)]
        )
        chosen = "near" if front else "useful"
        choices.append(select("range", "Range", ranges, chosen))
        return chart(id, choices, data_x=x, data_y=y, data_range=chosen, data_front=front)

    def front(self) -> list[Element]:
        """Rows that no other beats, as figures and lists; each is held against the one before it."""
        lists = []
        for name, (axis, cost) in self.costs.items():
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
            heads = [axis.label, "solver", described(self.distance).label, "gain over the line above"]
            lists.append(grid(f"Pareto front against {axis.label}", heads, body))
        return [
            tag("h2", "Pareto front"),
            tag(
                "p",
                "Of all rows, whatever is chosen above: those that no other row beats in "
                f"{described(self.distance).label} at no more cost.",
            ),
            tag(
                "div",
                *(self.chart(f"front-{name}", y=self.distance, x=name, front=True) for name in self.costs),
                class_="charts",
            ),
            tag("div", *lists, class_="charts"),
        ]

    def recommended(self) -> list[Element]:
        """The smallest FID and error within each budget, ties named."""
        body = []
        for found in recommendations(self.rows):
            fid, error = self.picked(found.distance, self.distance), self.picked(found.error, "error")
            cheapest = "" if found.distance is None else self.label(found.distance.cheapest, nfe=True)
            body.append(tag("tr", cell(count(found.budget)), *fid, tag("td", cheapest), *error))
        heads = ["NFE at most", f"smallest {described(self.distance).label}", "indistinguishable from"]
        heads += ["cheapest of them", "smallest error (deterministic)", "indistinguishable from"]
        for line in body:
            for head, entry in zip(heads, line, strict=True):
                entry.set("data-head", head)
        explained = (
            "Of all rows with at most so many evaluations. Rows are called indistinguishable where their 95 % "
            "intervals overlap, of each solver the best such row; the cheapest has the fewest evaluations of them all."
        )
        return [
            grid("recommended solver per budget", heads, body, class_="budgets"),
            tag("p", explained, class_="soft"),
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
        heads = ["solver", "grid", *names, "asked for", "NFE", *(described(name).label for name in self.metrics)]
        heads += [self.costs["seconds"][0].label, "points/s" if self.outcome.points else "images/s"]
        body = []
        for index, row in enumerate(self.rows):
            cells = [tag("td", row.solver, data_value=row.solver, class_="solver")]
            cells += [tag("td", entry, data_value=entry) for entry in (row.grid, *(condition(row, n) for n in names))]
            cells += [tag("td", asked(row), data_value=row.budget), cell(count(row.nfe), row.nfe)]
            cells += [self.figure(row, name) for name in self.metrics]
            cells += [cell(f"{speed:.4g}", speed) for speed in (per_thousand(row), row.images_per_second)]
            body.append(tag("tr", *cells, data_curve=self.owner[index]))
        made = grid("all rows", heads, body, class_="rows")
        main = {"solver", "NFE", *(described(name).label for name in (self.distance, "error"))}
        minor = [number for number, head in enumerate(heads) if head not in main]
        for line in made.iter("tr"):
            for number in minor:
                line[number].set("class", f"{line[number].get('class') or ''} minor".strip())
        about = "In brackets 95 % intervals. A heading sorts; a second time, the other way round. "
        csv = base64.b64encode(table(self.outcome).encode()).decode()
        link = tag("a", "table.csv", href=f"data:text/csv;base64,{csv}", download="table.csv")
        columns = tag("label", tag("input", type="checkbox", id="columns"), " all columns", class_="columns")
        return [tag("h2", "All rows"), tag("p", about, "In full precision: ", link, ". ", columns), made]

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
        percent, known = described(name).percent, value(row, name)
        ends = brackets(estimate, percent)
        made = cell(parts(estimate, percent)[0] + (" " if ends else ""), "" if known is None else known)
        if ends:
            made.append(tag("span", ends, class_="interval"))
        if name in row.spread:
            low, high = (text(Estimate(end), percent) for end in row.spread[name])
            made.append(tag("span", f" {{{low} … {high}}}", class_="interval"))
        return made

    def setting(self) -> list[Element]:
        config = yaml.safe_dump(self.outcome.config, sort_keys=False, allow_unicode=True)
        return [
            tag("h2", "Environment"),
            terms(self.outcome.environment),
            tag("h2", "Configuration"),
            tag("pre", config),
        ]


def _rate(timing: Timing) -> str:
    return f"{timing.batch / timing.seconds[0]:.4g}"
