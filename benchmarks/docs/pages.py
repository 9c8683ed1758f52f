"""The pages on solvers and grids and their configurations, from the code and the certificate: `make docs`."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import solvers
from benchmarks.orders.convergence import RESULTS
from benchmarks.orders.report import measured, span
from scoresde.commands import choices
from scoresde.exact import DENSITIES
from scoresde.files import replacing
from scoresde.process import VP
from solvers import PlannedSolver, Solver
from solvers.catalogue import FAMILIES, SOLVERS
from solvers.docstrings import Docstring
from solvers.grids.grid import GRIDS

DOCS, CONF = (Path(__file__).parents[2] / name for name in ("docs", "conf"))
WRITTEN = "*Written by `python benchmarks/docs/pages.py` (`make docs`) from the code and the [certificate]({results}).*"
WIDTH = 120
CERTIFICATE = "../benchmarks/results/convergence.md"
ABOUT_SOLVERS = """\
*Steps* are intervals of the grid. The step to zero noise is one evaluation for every solver and comes beside the
evaluations a step below. *C* is the constant in error ≈ C N^−order after N steps, measured on an exact mixture on three
processes and three grids ([how](certificate.md)); compare it between solvers of one order. A starter keeps the order of
a multistep method for a few evaluations more; a cold start takes lower orders first."""
ABOUT_GRIDS = """\
A grid of N steps is N + 1 times from t_max to zero noise; the last step is a denoise. Fractions u run evenly from 0 to
1 over the noisy times, of which the first is t_max (λ = −5 in formulas where α is 0 there) and the last has the noise
level σ/α = `end`: a number, `by_steps` (4/steps², at most 0.1, as recommended grids have it), or none, which is t_min.
Any decreasing list of times is a grid too: `grid=[1, 0.6, 0.2, 0]` in Python, `'grid=[1,0.6,0.2,0]'` on the command
line."""
Results = Mapping[str, Any]


def ours() -> list[Solver]:
    """The solvers of this package, those of other modules left out."""
    found = (solvers.get(name) for name in solvers.names())
    return [solver for solver in found if (_source(solver).__module__ or "").startswith("solvers.")]


def _source(solver: Solver) -> Any:
    return solver.function if isinstance(solver, PlannedSolver) else type(solver)


def docstring(solver: Solver) -> Docstring:
    """What a solver says of itself."""
    return Docstring.of(_source(solver).__doc__)


def solver_page(results: Results) -> str:
    """docs/solvers.md."""
    found = ours()
    families = {family: [solver for solver in found if solver.family == family] for family in FAMILIES}
    lines = [
        "# Solvers",
        "",
        WRITTEN.format(results=CERTIFICATE),
        "",
        ABOUT_SOLVERS,
        "",
        f"![Errors and orders]({CERTIFICATE.removesuffix('.md')}.png)",
        "",
        "| solver | order | evaluations a step | recommended grid | use |",
        "| --- | --- | --- | --- | --- |",
    ]
    for members in families.values():
        for solver in members:
            cells = [f"[`{solver.name}`](#{solver.name})", _order(solver), _each(solver, results), _grid(solver)]
            lines.append(f"| {' | '.join([*cells, docstring(solver).sections.get('Use', '')])} |")
    for family, members in families.items():
        lines += ["", f"## {FAMILIES[family]}"] if members else []
        for solver in members:
            lines += ["", *_section(solver, results)]
    return "\n".join(lines) + "\n"


def _title(module: str) -> str:
    return (inspect.cleandoc(sys.modules[module].__doc__ or "").splitlines() or [module])[0].rstrip(".")


def _section(solver: Solver, results: Results) -> Iterable[str]:
    text = docstring(solver)
    also = sorted(name for name, of in solvers.aliases().items() if of == solver.name)
    yield f"### `{solver.name}`"
    if also:
        yield ""
        yield f"Also {', '.join(f'`{name}`' for name in also)}."
    for paragraph in text.paragraphs:
        yield ""
        yield paragraph
    if solver.options:
        yield from ["", "| option | default | |", "| --- | --- | --- |"]
        yield from _options(solver.options, text.meanings)
    yield ""
    yield f"- **Use**: {text.sections.get('Use', '')}"
    yield f"- **Reference**: {solver.reference}"
    yield f"- **Order**: {_order(solver)}"
    yield f"- **Evaluations**: {_evaluations(solver, results)}"
    yield f"- **Recommended grid**: {_grid(solver)}"
    yield f"- **Measured**: {_measured(solver, results)}"
    yield f"- **Source**: `{_source(solver).__module__.replace('.', '/')}.py`"


def _options(values: Mapping[str, Any], meanings: Mapping[str, str]) -> Iterable[str]:
    for name, value in values.items():
        shown = f"`{value:.4g}`" if isinstance(value, float) else "" if value is None else f"`{value}`"
        yield f"| `{name}` | {shown} | {meanings.get(name, '')} |"


def _kept(solver: Solver) -> Solver | None:
    """The solver with a singlestep start, where that changes its order."""
    if "starter" not in solver.options:
        return None
    kept = solvers.get(solver.name, starter="singlestep")
    return kept if kept.order != solver.order else None


def rows(solver: Solver, results: Results) -> dict[str, Mapping[str, Any]]:
    """What was measured of a solver at its defaults, with its starter, and of its noisy variants, by what it is."""
    kept, found = _kept(solver), {}
    for row in results["order"]:
        if row["solver"] == solver.name:
            options = solvers.get(solver.name, **row["options"]).options
            if options == solver.options:
                found[""] = row
            elif kept is not None and options == kept.options:
                found["starter=singlestep"] = row
    noisy = [row for row in results["weak_order"] if row["solver"] == solver.name]
    return found | {_words(row["options"]): row for row in noisy}


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _order(solver: Solver) -> str:
    if solver.adaptive:
        return "by its tolerance" if solver.per_sample else "by its method and tolerance"
    if solver.weak_order is not None:
        return f"weak {solver.weak_order}"
    if solver.order is None:
        return "none"
    kept = _kept(solver)
    return (
        f"{solver.order}"
        if kept is None
        else f"{solver.order} from a cold start, {kept.order} with `starter=singlestep`"
    )


def _each(solver: Solver, results: Results) -> str:
    found = rows(solver, results)
    if "" in found:
        return str(found[""]["evaluations"][0])
    return "by its tolerance" if solver.per_sample else "by its method" if solver.adaptive else _plain(solver)


def _plain(solver: Solver) -> str:
    """Evaluations that one more step costs."""
    process = VP()
    few, more = (solver.nfe(process, solver.recommended(process, steps)) for steps in (10, 11))
    return str(more - few)


def _evaluations(solver: Solver, results: Results) -> str:
    found = rows(solver, results)
    if "" not in found and solver.per_sample:
        return "as many as its tolerance takes, a number for each sample"
    if "" not in found and solver.adaptive:
        return "as many as its tolerance takes; `euler` 1, `midpoint` and `heun2` 2, `heun3` 3, `rk4` 4 a step"
    if "" not in found:
        return f"{_plain(solver)} a step"
    each, more = found[""]["evaluations"]
    text = f"{each} a step"
    if more:
        text += f", {abs(more)} {'more at the start' if more > 0 else 'fewer in the last steps'}"
    kept = found.get("starter=singlestep")
    return text if kept is None else f"{text}; {kept['evaluations'][1]} more at the start with `starter=singlestep`"


def _grid(solver: Solver) -> str:
    ends = ", ".join(f"`{key}={value}`" for key, value in solver.recommended.options.items() if key == "end" and value)
    grid = f"[`{solver.grid}`](grids.md#{solver.grid})" + (f" {ends}" if ends else "")
    if solver.per_sample:
        return "its own steps"
    return f"its own steps; {grid} for methods that need one" if solver.adaptive else grid


def _measured(solver: Solver, results: Results) -> str:
    parts, found = [], rows(solver, results)
    for words, row in found.items():
        weak = row in results["weak_order"]
        shapes = [shape for process in row["processes"].values() for shape in process["shapes"].values()]
        start = any("start" in shape for shape in shapes)
        constants = [(shape.get("start") or shape["total"])["constant"] for shape in shapes if not shape.get("exceeds")]
        name = f"`{words}` " if words else ""
        kind = "weak order" if weak else "order of the start" if start else "order"
        parts.append(f"{name}{kind} {measured(row)}, C = {span(constants, '.2g')}")
    more = sum(row["solver"] == solver.name and row not in found.values() for row in results["order"])
    if more:
        words = f"{more}{' more' if parts else ''} variant{'s' if more > 1 else ''}"
        parts.append(f"[{words}]({CERTIFICATE})")
    return "; ".join(parts)


def grid_page() -> str:
    """docs/grids.md."""
    modules: dict[str, dict[Callable[..., Any], list[str]]] = {}
    for name in solvers.grids.names():
        rule = solvers.grids.get(name).rule
        modules.setdefault(rule.__module__, {}).setdefault(rule, []).append(name)
    recommended: dict[str, list[str]] = {}
    for solver in (solver for solver in ours() if not solver.per_sample):
        recommended.setdefault(solver.grid, []).append(f"[`{solver.name}`](solvers.md#{solver.name})")
    lines = [
        "# Grids",
        "",
        WRITTEN.format(results=CERTIFICATE),
        "",
        ABOUT_GRIDS,
    ]
    for module in sorted(modules, key=lambda name: (name.rpartition(".")[2] != "in_half_log_snr", name)):
        lines += ["", f"## {_title(module)}"]
        for rule, names in modules[module].items():
            grid, text = solvers.grids.get(rule.__name__), Docstring.of(rule.__doc__)
            lines += ["", f"### `{grid.name}`"]
            also = [f"`{name}`" for name in names if name != grid.name]
            if also:
                lines += ["", f"Also {', '.join(also)}."]
            for paragraph in text.paragraphs:
                lines += ["", paragraph]
            if grid.options:
                lines += ["", "| option | default | |", "| --- | --- | --- |"]
                lines += _options(grid.options, Docstring.of(GRIDS[grid.name].__doc__).meanings)
            lines.append("")
            if "Source" in text.sections:
                lines.append(f"- **Source**: {text.sections['Source']}")
            if grid.name in recommended:
                lines.append(f"- **Recommended for**: {', '.join(recommended[grid.name])}")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """What the files in docs should hold."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {name: wrapped(text) for name, text in (("solvers.md", solver_page(results)), ("grids.md", grid_page()))}


def wrapped(text: str) -> str:
    """The page with no line of prose over ``WIDTH`` letters."""
    lines: list[str] = []
    for line in text.splitlines():
        if len(line) <= WIDTH or line.startswith(("|", "#", "!")):
            lines.append(line)
            continue
        indent = "  " if line.startswith("- ") else ""
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def configurations() -> dict[str, str]:
    """What the files of solvers, grids and exact models in conf should hold: what signatures and docstrings say."""
    groups = {
        "solver": choices.folder(SOLVERS, {"tuned.yaml": choices.TUNED}),
        "grid": choices.folder(GRIDS, {"recommended.yaml": choices.RECOMMENDED, "times.yaml": choices.TIMES}),
        "model": choices.folder(DENSITIES, {}),
    }
    return {f"{group}/{name}": text for group, files in groups.items() for name, text in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the pages on solvers and grids, and their configurations.")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pages")
    parser.add_argument("--conf", type=Path, default=CONF, help="folder of the configurations")
    args = parser.parse_args()
    written = {args.out / name: text for name, text in pages().items()}
    written |= {args.conf / name: text for name, text in configurations().items()}
    for path, text in written.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for group in ("solver", "grid"):
        for path in (args.conf / group).glob("*.yaml"):
            if path not in written:
                path.unlink()
    print(f"{', '.join(str(args.out / name) for name in pages())} and {len(configurations())} files in {args.conf}")


if __name__ == "__main__":
    main()
