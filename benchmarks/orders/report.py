"""The certificate as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.orders.cases import label

Row = Mapping[str, Any]

GRIDS = ("uniform", "quadratic", "karras", "log_snr")  # of full-range slopes

INTRODUCTION = """\
# Certificate of orders

Written by `python benchmarks/orders/convergence.py` (`make certify`); every error and slope is in `convergence.json`
beside this. A one-dimensional Gaussian mixture with its exact score, float64, λ from −1.5 to 2 without final denoise,
on VP, EDM and Flow and on uniform, quadratic and Karras-like grids; steps doubled from 16 until the last three slopes
lie within 0.15 and the last two within 0.05. An order holds if all nine slopes lie within 0.2 of the declared one.

{count} measurements of {cases} solvers and variants, {verdict}. {environment}

![Errors and orders](convergence.png)

## On the probability-flow ODE

- *measured*: the range of the slopes over processes and grids; *worst*: where the slope is that is farthest from the
  declared order.
- *whole*: where a cold start lowers the order, its own error is so small that the slope of the whole error may stay
  above the declared order for thousands of steps. There *measured* is the order of the start itself, that of the
  distance to the run which differs in having a singlestep start, and *whole* the mean slope of the whole error up to at
  most 512 steps, which must not fall below the declared order either.
- *C*: error ≈ C N^−p for N steps and the declared order p, from the finest steps, over processes and grids; *C′*:
  error ≈ C′ NFE^−p, where a step takes several evaluations. Where the start is measured by itself, C is that of the
  start.
- *NFE*: evaluations for N steps without a final denoise.
{exceeding}
"""

EXCEEDING = """\
- Methods with the weights of equal steps in σ/α may be better than they declare on EDM's uniform grid, whose steps are
  equal; where they are, or are still on the way to the declared order, their range leaves it out. Mean slopes: """

FULL_RANGE = """\
Reported, not asserted: error at 64 steps and slope from 64 to 128 steps, without final denoise, on the solver's own
grid down to t_min; beside it the slopes on four grids. Three numbers are VP's, EDM's and Flow's; a dash stands where
the solver's variable is infinite at α = 0. On Flow the first step is DDIM's from α = 0 to a λ that tends to −5 as steps
are added: its error, about 2e-5, stays, and high orders level off there. EDM's uniform grid has most of its steps where
nothing happens, so that slopes there say little."""

WEAK = """\
Errors of a chain from the exact marginal, without sampling. *Mixture*: E[φ(x)] for φ = x, x², cos 2x, sin 3x and
exp(−2(x − ½)²), root mean square, by quadrature. *Gaussian*: Fréchet distance on data of mean 0.7 and variances 0.01,
0.25, 1 and 4, exact by `Plan.moments`; it must fall at least as fast as declared. A method that remembers two slopes
and more is, for hundreds of steps, one of third order with a small error of second order behind that; on the mixture,
and on VP's quadratic grids alone, its number is the larger of the mean and the last slope up to 256 steps (128 with
three slopes), which must not be below the declared order. *Numerical error* is what a coarser quadrature changes (two
thirds of the nodes in x, two fewer for each earlier state, one fewer for each draw), beside the weak error at the
same step count on quadratic grids."""


def rows_of(results: Mapping[str, Any], section: str) -> Iterator[tuple[Row, str, str, Row]]:
    """Every measurement: solver's row, process, shape, and what was found there."""
    for row in results[section]:
        for process, found in row["processes"].items():
            for shape, series in found["shapes"].items():
                yield row, process, shape, series


def failures(results: Mapping[str, Any]) -> list[str]:
    """The measurements that do not show the declared order, in words."""
    return [
        f"{label(row['solver'], row['options'])} on {process}, {shape}: declared {row['declared']}, measured "
        f"{series['measured']}, slopes {series['total']['slopes']}"
        for section in ("order", "weak_order")
        for row, process, shape, series in rows_of(results, section)
        if not series["holds"]
    ]


def report(results: Mapping[str, Any]) -> str:
    """The results as markdown."""
    failed = failures(results)
    every = [*rows_of(results, "order"), *rows_of(results, "weak_order")]
    environment = results["environment"]
    versions = ", ".join(f"{name} {environment[name]}" for name in ("python", "torch", "numpy", "scipy"))
    exceeding = [
        f"{label(row['solver'], row['options'])} {series['total']['mean']:.2f}"
        for row, _, _, series in rows_of(results, "order")
        if series.get("exceeds")
    ]
    lines = [
        INTRODUCTION.format(
            count=len(every),
            cases=len(results["order"]) + len(results["weak_order"]),
            verdict="all of which hold" if not failed else f"**{len(failed)} of which do not hold**, listed at the end",
            environment=f"{environment['seconds']} s in {environment['workers']} processes on {environment['cpu']}, "
            f"{versions}.",
            exceeding=f"{EXCEEDING}{', '.join(exceeding)}." if exceeding else "",
        ),
        "| solver | NFE | declared | measured | worst | whole | C | C′ |",
        "| --- | --- | ---: | --- | --- | --- | --- | --- |",
        *(_order_row(row) for row in results["order"]),
        "",
        "## From t_max to t_min",
        "",
        FULL_RANGE,
        "",
        f"| solver | own grid | error | slope | {' | '.join(GRIDS)} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_full_row(row) for row in results["order"]),
        "",
        "## Weak order on the reverse SDE",
        "",
        WEAK,
        "",
        "| solver | slopes remembered | declared | mixture | worst | C | Gaussian | weak error | numerical error |",
        "| --- | ---: | ---: | --- | --- | --- | --- | --- | --- |",
        *(_weak_row(row) for row in results["weak_order"]),
        "",
        "## Error of `pf_ode(method='dopri5')` against its tolerance (rtol = atol)",
        "",
        f"| process | {' | '.join(f'1e-{k}' for k in range(3, 10))} |",
        f"| --- |{' --- |' * 7}",
        *(
            f"| {process} | {' | '.join(f'{error:.1e}' for error in errors)} |"
            for process, errors in results["tolerance"].items()
        ),
    ]
    if failed:
        lines += ["", "## Not held", "", *(f"- {line}" for line in failed)]
    return "\n".join(lines) + "\n"


def _order_row(row: Row) -> str:
    each, more = row["evaluations"]
    nfe = f"{'' if each == 1 else each}N" + (f" {'+' if more > 0 else '−'} {abs(more)}" if more else "")
    series = [found for process in row["processes"].values() for found in process["shapes"].values()]
    cold = [found["total"]["mean"] for found in series if "start" in found]
    constants = [(found.get("start") or found["total"])["constant"] for found in series if not found.get("exceeds")]
    per_evaluation = [None if constant is None else constant * each ** row["declared"] for constant in constants]
    cells = [
        label(row["solver"], row["options"]),
        nfe,
        str(row["declared"]),
        measured(row),
        _worst(row),
        span(cold) if cold else "",
        span(constants, ".2g"),
        span(per_evaluation, ".2g") if each > 1 else "",
    ]
    return f"| {' | '.join(cells)} |"


def _full_row(row: Row) -> str:
    full = {process: found["full_range"] for process, found in row["processes"].items()}
    own = {process: found["full_range"][found["grid"]] for process, found in row["processes"].items()}
    (grid,) = {found["grid"] for found in row["processes"].values()}
    choices = [own, *({process: found[name] for process, found in full.items()} for name in GRIDS)]
    cells = [
        label(row["solver"], row["options"]),
        grid,
        ", ".join("–" if errors[2] is None else f"{errors[2]:.0e}" for errors in own.values()),
        *(", ".join(_last_slope(errors) for errors in choice.values()) for choice in choices),
    ]
    return f"| {' | '.join(cells)} |"


def _last_slope(errors: Sequence[float | None]) -> str:
    *_, coarse, fine = errors
    return "–" if coarse is None or fine is None else f"{math.log2(coarse / fine):.2f}"


def _weak_row(row: Row) -> str:
    checks = [found["quadrature"] for found in row["processes"].values()]
    worst = max(checks, key=lambda check: check["numerical_error"] / check["weak_error"])
    series = {f"{p} {shape}": s for p, found in row["processes"].items() for shape, s in found["shapes"].items()}
    depth = next(iter(row["processes"].values()))["remembers"]
    mixture = {place: s for place, s in series.items() if depth < 2 or place == "VP quadratic"}
    slopes = {
        place: max(s["total"]["mean"], s["total"]["slopes"][-1]) if depth > 1 else s["measured"]
        for place, s in mixture.items()
    }
    cells = [
        label(row["solver"], row["options"]),
        str(depth),
        str(row["declared"]),
        span(list(slopes.values())),
        _farthest(slopes, row["declared"]),
        span([s["total"]["constant"] for s in series.values()], ".2g") if depth < 2 else "",
        span([s["frechet"]["slopes"][-1] for s in series.values()]),
        f"{worst['weak_error']:.1e} at {worst['steps']} steps",
        f"{worst['numerical_error']:.0e}",
    ]
    return f"| {' | '.join(cells)} |"


def _slopes(row: Row) -> dict[str, float | None]:
    """Measured order by process and shape, without the grids on which the method is better than it declares."""
    return {
        f"{process} {shape}": series["measured"]
        for process, found in row["processes"].items()
        for shape, series in found["shapes"].items()
        if not series.get("exceeds")
    }


def measured(row: Row) -> str:
    """The range of a solver's measured orders."""
    return span(list(_slopes(row).values()))


def _worst(row: Row) -> str:
    return _farthest(_slopes(row), row["declared"])


def _farthest(slopes: Mapping[str, float | None], declared: int) -> str:
    def miss(item: tuple[str, float | None]) -> float:
        return math.inf if item[1] is None else abs(item[1] - declared)

    place, slope = max(slopes.items(), key=miss)
    return f"{place} {'not settled' if slope is None else f'{slope:.2f}'}"


def span(values: Sequence[float | None], form: str = ".2f") -> str:
    """A range in words."""
    known = [value for value in values if value is not None]
    if not known:
        return "not settled"
    low, high = f"{min(known):{form}}", f"{max(known):{form}}"
    text = low if low == high else f"{low} to {high}"
    return text if len(known) == len(values) else f"{text}, {len(values) - len(known)} not settled"
