"""All rows as Markdown and CSV, and steps against a metric as LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import fields

from scoresde.bench.rows import Estimate, Outcome, Row, Timing
from scoresde.files.text import cell as csv_cell
from scoresde.files.text import latex as escaped_latex
from scoresde.files.text import markdown as escaped_markdown
from scoresde.report import words
from scoresde.report.curves import OWN_STEPS, asked, condition, curves, varied
from scoresde.report.printable import printable
from scoresde.report.quantities import count, described, measured, parts, per_thousand, text, value

SYMBOLS = {"·": r"$\cdot$", "±": r"$\pm$", "−": "$-$", "η": r"$\eta$"}
FIELDS = [field.name for field in fields(Row) if field.name not in ("metrics", "spread")]


def markdown(outcome: Outcome) -> str:
    """The rows as a Markdown table, floors and sample count above it, and what failed below."""
    outcome = printable(outcome, escaped_markdown)
    metrics, names = measured(outcome.rows), varied(outcome.rows)
    shown = [name for name in names if name != "grid"]
    columns = ["solver", "grid", *shown, "asked for", "NFE", *(described(name).label for name in metrics)]
    columns.append("points/s" if outcome.points else "images/s")
    lines = [words.fid(outcome), ""]
    if "error" in metrics:
        lines += [words.error(outcome), ""]
    if told := words.runs(outcome):
        lines += [f"{told[0].upper()}{told[1:]}.", ""]
    if warning := words.few(outcome):
        lines += [warning, ""]
    lines += [
        f"±: the longer side of the interval. {words.INTERVALS}",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * (3 + len(shown))}{'---:|' * (2 + len(metrics))}",
    ]
    for row in outcome.rows:
        cells = [row.solver, row.grid, *(condition(row, name) for name in shown), asked(row), count(row.nfe)]
        cells += [_spread(row, name) for name in metrics]
        cells.append(f"{row.images_per_second:.4g}")
        lines.append(f"| {' | '.join(cells)} |")
    if outcome.failures:
        lines += ["", "Failed:", "", *(f"- {failure}" for failure in outcome.failures)]
    return "\n".join(lines)


def _spread(row: Row, name: str) -> str:
    """A value with its interval, and the lowest and the highest of the runs where there are several."""
    percent = described(name).percent
    ends = [text(Estimate(end), percent) for end in row.spread.get(name, ())]
    return " ".join([text(row.metrics.get(name), percent), *([f"{{{' … '.join(ends)}}}"] if ends else [])])


def table(outcome: Outcome) -> str:
    """The rows as CSV in full precision, the converged solution's last; ends of intervals have their own columns."""
    outcome = printable(outcome)
    rows = [*outcome.rows, outcome.converged]
    metrics = measured(rows)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = [f"{name}{end}" for name in metrics for end in ("", "_low", "_high")]
    runs = [f"{name}_{end}est_run" for name in metrics if any(row.spread for row in rows) for end in ("low", "high")]
    writer.writerow([*FIELDS, "seconds_per_1000_images", *ends, *runs])
    for row in rows:
        known = {**{name: getattr(row, name) for name in FIELDS}, "options": json.dumps(row.options)}
        known["seeds"] = " ".join(map(str, row.seeds))
        found = [row.metrics.get(name) for name in metrics]
        figures = [
            getattr(estimate, end, None) if estimate else None for estimate in found for end in ("value", "low", "high")
        ]
        spread = [end for name in metrics for end in row.spread.get(name, (None, None))] if runs else []
        writer.writerow([*map(csv_cell, known.values()), per_thousand(row), *figures, *spread])
    return file.getvalue()


def timings(outcome: Outcome) -> str:
    """The timings as CSV in full precision: medians and quartiles of the seconds of a batch, and images a second."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [field.name for field in fields(Timing) if field.name != "seconds"]
    writer.writerow([*names, "seconds", "seconds_first_quartile", "seconds_third_quartile", "images_per_second"])
    for each in printable(outcome).timings:
        told = [csv_cell(getattr(each, name)) for name in names]
        writer.writerow([*told, *each.seconds, each.batch / each.seconds[0]])
    return file.getvalue()


def by_budget(outcome: Outcome) -> dict[int, dict[str, float]]:
    """Finite values of all rows by NFE, in whole numbers and rising, for programs that show curves over steps.

    Their names are ``fid/ddim eta 0.5``: the metric, or ``seconds`` of a thousand samples, and the curve, without signs
    that such programs refuse.
    """
    found: dict[int, dict[str, float]] = {}
    for curve in curves(outcome.rows):
        name = re.sub(r"[^\w.-]+", " ", curve.label).strip()
        for row in (outcome.rows[index] for index in curve.rows):
            values = {key: estimate.value for key, estimate in row.metrics.items()} | {"seconds": per_thousand(row)}
            finite = {f"{key}/{name}": value for key, value in values.items() if math.isfinite(value)}
            found.setdefault(round(row.nfe), {}).update(finite)
    return dict(sorted(found.items()))


def latex(outcome: Outcome, metric: str = "fid") -> str:
    r"""A table for papers (package ``booktabs``): a line per curve, a column per NFE budget.

    Entries are value ± the longer side of the 95 % interval, the best of each column bold. Where fewer evaluations were
    made than the budget allows, their number stands in brackets; of a solver that chooses its own steps the best row
    that fits the budget is taken.
    """
    outcome = printable(outcome)
    rows = outcome.rows
    budgets = sorted({row.budget for row in rows if row.grid != OWN_STEPS} or {row.nfe for row in rows})
    lines: list[tuple[str, list[Row | None]]] = []
    for curve in curves(rows):
        members = [rows[index] for index in curve.rows if value(rows[index], metric) is not None]
        if members:
            lines.append((curve.label, [_entry(members, budget, metric) for budget in budgets]))
    columns = list(zip(*(entries for _, entries in lines), strict=True))
    best = [min((row.metrics[metric].value for row in column if row), default=None) for column in columns]
    body = []
    for label, entries in lines:
        cells = [
            _cell(row, budget, metric, smallest) for row, budget, smallest in zip(entries, budgets, best, strict=True)
        ]
        body.append(f"    {_escape(label)} & {' & '.join(cells)} \\\\")
    about = words.error(outcome) if metric == "error" else words.fid(outcome)
    caption = (
        f"{described(metric).label} by model evaluations (NFE). {about} ±: longer side of the 95 % interval over draws "
        "of the samples. In brackets: evaluations made, where they are fewer. Bold: smallest of the column."
    )
    return "\n".join(
        [
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{_escape(caption)}}}",
            f"  \\label{{tab:steps-vs-{metric}}}",
            f"  \\begin{{tabular}}{{l{'r' * len(budgets)}}}",
            "    \\toprule",
            f"    solver & {' & '.join(count(budget) for budget in budgets)} \\\\",
            "    \\midrule",
            *body,
            "    \\bottomrule",
            "  \\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _entry(members: list[Row], budget: float, metric: str) -> Row | None:
    """The row asked for at this budget, or the best that fits it of a solver that chooses its own steps."""
    if members[0].grid == OWN_STEPS:
        fitting = [row for row in members if row.nfe <= budget]
        return min(fitting, key=lambda row: row.metrics[metric].value, default=None)
    return next((row for row in members if row.budget == budget), None)


def _cell(row: Row | None, budget: float, metric: str, best: float | None) -> str:
    if row is None:
        return "--"
    number, margin = parts(row.metrics[metric])
    bold = row.metrics[metric].value == best
    shown = f"\\mathbf{{{number}}}" if bold else number
    entry = f"${shown} \\pm {margin}$" if margin else f"${shown}$"
    return entry if row.nfe == budget else f"{entry} ({count(row.nfe)})"


def _escape(text: str) -> str:
    return "".join(SYMBOLS.get(character) or escaped_latex(character) for character in text)
