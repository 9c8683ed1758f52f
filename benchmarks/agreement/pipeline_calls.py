"""What each pipeline of diffusers asks of its scheduler: python benchmarks/agreement/pipeline_calls.py.

The source of every pipeline class that takes a scheduler is read: attributes of ``self.scheduler`` that it reads and
calls that it makes, by the names of their arguments, ``retrieve_timesteps`` and ``prepare_extra_step_kwargs`` included.
They are compared with our Scheduler: what it lacks is listed by pipeline, with the reason why it is left out.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import diffusers
from torch import Tensor

from benchmarks.agreement.families import FAMILIES, Family
from benchmarks.recorded import RESULTS
from scoresde.integrations.diffusers import Scheduler, tune

SOLVERS = ("dpmpp_2m", "heun", "uni_pc", "euler_ancestral", "dpmpp_2m_sde")  # that every family is run with
# Arguments of a step that are taken where they say what the solver does anyway.
TAKEN = {"eta", "use_clipped_model_output", "prev_timestep"}
# Schedulers of other kinds, whose pipelines ask what only those have: no marginals of α and σ, or tokens.
OTHERS = {
    "chronoedit": "edits UniPC's history between steps",
    "cosmos": "reads EDMEulerScheduler's own c_in",
    "deprecated": "pipelines of before: masked tokens (Amused), two kinds of step (ScoreSdeVe), steps back in time of "
    "a scheduler of its own (RePaint), DDIM's own coefficients (CycleDiffusion, paradigms), Karras's own stages",
    "diffusion_gemma": "text",
    "helios": "stages at several resolutions, in a scheduler of its own",
    "ledits_pp": "inverts by DDIM's or DPM-Solver's own coefficients",
    "llada2": "text",
    "sana": "SCMScheduler's trigonometric flow (SanaSprint)",
}


@dataclass
class Asked:
    """What a pipeline class asks of its scheduler.

    Attributes:
        name: of the class.
        family: the folder of diffusers.pipelines that it lies in.
        attributes: that it reads.
        calls: of each method, the names of arguments, and how many have none.
        lacking: of those what our Scheduler does not have.
    """

    name: str
    family: str
    attributes: list[str]
    calls: list[str]
    lacking: list[str] = field(default_factory=list)


def asked() -> list[Asked]:
    """Every pipeline class of the installed diffusers that takes a scheduler, by name."""
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0]) / "pipelines"
    found = [one for path in sorted(root.rglob("*.py")) for one in _in(path, root)]
    return sorted(found, key=lambda one: (one.family, one.name))


def _in(path: Path, root: Path) -> Iterator[Asked]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shared = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Pipeline") or not _takes_scheduler(node):
            continue
        # retrieve_timesteps of the file is read with the arguments that the class gives it.
        used = {
            call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        }
        attributes, calls = _uses(node)
        for function in shared:
            if function.name in used and any(argument.arg == "scheduler" for argument in function.args.args):
                more = {name for name, _ in _uses(function)[1]}
                calls |= {(name, given) for name, given in _uses(function)[1] if name != "set_timesteps"}
                if "set_timesteps" in more:
                    calls |= {("set_timesteps", given) for given in _retrieved(node)}
        family = path.relative_to(root).parts[0].removesuffix(".py")
        told = sorted(f"{name}({', '.join(given)})" for name, given in calls)
        names = sorted(attributes - {name for name, _ in calls})
        yield Asked(node.name, family, names, told, _lacking(attributes, calls))


def _takes_scheduler(node: ast.ClassDef) -> bool:
    starts = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return any(
        "scheduler" in argument.arg for start in starts for argument in (*start.args.args, *start.args.kwonlyargs)
    )


def _is_scheduler(node: ast.expr) -> bool:
    return ast.unparse(node).split(".")[-1] == "scheduler" and not ast.unparse(node).startswith("schedulers.")


def _uses(tree: ast.AST) -> tuple[set[str], set[tuple[str, tuple[str, ...]]]]:
    """Attributes of the scheduler, and calls of its methods: names of arguments, "·" for each without."""
    attributes, calls = set[str](), set[tuple[str, tuple[str, ...]]]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_scheduler(node.value) and isinstance(node.ctx, ast.Load):
            attributes.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_scheduler(node.func.value):
            given = ("·",) * len(node.args) + tuple(keyword.arg or "**" for keyword in node.keywords)
            calls.add((node.func.attr, given))
    return attributes, calls


def _retrieved(node: ast.ClassDef) -> Iterator[tuple[str, ...]]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "retrieve_timesteps":
            names = tuple(keyword.arg or "**" for keyword in call.keywords)
            yield ("·", *names) if len(call.args) > 1 else names


@functools.cache
def _parameters(method: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(Scheduler, method)).parameters)


def _lacking(attributes: set[str], calls: set[tuple[str, tuple[str, ...]]]) -> list[str]:
    found = set[str]()
    for name in attributes:
        if not hasattr(Scheduler, name) and name not in _MADE and not name.startswith("__"):
            found.add(name)
    for name, given in calls:
        if not hasattr(Scheduler, name):
            continue
        known = _parameters(name)
        places = [p for p in known.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if given.count("·") > len(places) - 1:
            found.add(f"{name}() with {given.count('·')} arguments")
        found |= {f"{name}({argument}=)" for argument in given if not _fits(name, argument, known)}
    return sorted(found)


_MADE = {"config", "timesteps", "sigmas", "num_inference_steps", "_step_index", "_internal_dict"}


def _fits(name: str, argument: str, known: dict[str, inspect.Parameter]) -> bool:
    if name == "step" and argument in TAKEN:
        return True
    takes_all = name != "step" and any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return argument in ("·", "**") or argument in known or takes_all


def table(found: list[Asked]) -> str:
    """Markdown: families, how many pipelines of each our Scheduler has all that they ask, and what is lacking."""
    lines = ["| family | pipelines | all there | lacking, and why |", "|---|---|---|---|"]
    for family in dict.fromkeys(one.family for one in found):
        ours = [one for one in found if one.family == family]
        lacking = sorted({item for one in ours for item in one.lacking})
        why = f"{', '.join(f'`{item}`' for item in lacking)}: {OTHERS.get(family, '?')}" if lacking else ""
        lines.append(f"| {family} | {len(ours)} | {sum(not one.lacking for one in ours)} | {why} |")
    return "\n".join(lines)


def ran(solvers: Sequence[str] = SOLVERS) -> str:
    """Markdown: small pipelines of each family, with our Scheduler in the place of their own.

    Where it is the same method on the same times, the difference from their own scheduler's result, relative to its
    root mean square; elsewhere whether the result is finite and of the right shape, or the error.
    """
    lines = [f"| kind | pipeline | as their own scheduler | {' | '.join(f'`{name}`' for name in solvers)} | tuned |"]
    lines.append("|---" * (4 + len(solvers)) + "|")
    for family in FAMILIES:
        own = family.call(family.made())
        same = f"`{family.solver}` {difference(family, own):.1e}" if family.solver else "other times"
        told = [*(_told(family, name, own) for name in solvers), tuned(family)]
        lines.append(f"| {family.group} | {family.name} | {same} | {' | '.join(told)} |")
    return "\n".join(lines)


def ours(family: Family, name: str) -> Tensor:
    """What the pipeline makes with our Scheduler."""
    pipe = family.made()
    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver=name)
    return family.call(pipe)


def difference(family: Family, own: Tensor) -> float:
    """Largest difference of the method of ours that the pipeline's own scheduler is, relative to the result's size."""
    return float((ours(family, family.solver) - own).abs().max() / own.square().mean().sqrt())


def _told(family: Family, name: str, own: Tensor) -> str:
    try:
        found = ours(family, name)
    except ValueError:
        return "refused"
    return "runs" if found.shape == own.shape and bool(found.isfinite().all()) else "**not finite**"


class _BegunError(Exception):
    """A fit is about to begin."""


def tuned(family: Family) -> str:
    """Whether the pipeline is fitted to, as far as its converged samples; or refused."""

    def stop(line: str) -> None:
        raise _BegunError

    arguments = dict(family.arguments())
    rows = {key: value for key, value in arguments.items() if isinstance(value, Tensor)}
    call = {key: value for key, value in arguments.items() if key not in rows}
    try:
        tune(family.made(), rows, nfe=1, seeds=range(16), batch_size=16, progress=stop, **call)
    except _BegunError:
        return "runs"
    except ValueError:
        return "refused"
    raise AssertionError("a fit says that it begins")


PAGE = """# Pipelines of diffusers

Written by `python benchmarks/agreement/pipeline_calls.py`, for diffusers {version}. How our Scheduler is put into a
pipeline: [diffusers](diffusers.md).

## Which ran

Small pipelines with random weights, 4 steps, our Scheduler in the place of their own. *Refused* is an error in one line
that says why: a method of several evaluations a step whose steps are not all alike begins nowhere but at the first.
*Tuned* says whether [`tune`](tuned.md) takes the pipeline as it is called here. Refused are those that take no
`latents`, that need images to begin with, that feed parts or times of their own, or have no conditions.

{ran}

## What each pipeline asks of its scheduler

Read from the source of all {count} pipeline classes that take one: attributes, calls and the names of their arguments.
{fitting} of them find all that they ask; what the others ask is of a scheduler of another kind.

{asked}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "pipeline_calls.json")
    parser.add_argument("--page", type=Path, default=Path(__file__).parents[2] / "docs" / "pipelines.md")
    chosen = parser.parse_args()
    found = asked()
    # One pipeline in a line.
    rows = ",\n".join(json.dumps(asdict(one), ensure_ascii=False) for one in found)
    chosen.out.write_text(f'{{"diffusers": "{diffusers.__version__}", "pipelines": [\n{rows}\n]}}\n', encoding="utf-8")
    fitting = sum(not one.lacking for one in found)
    page = PAGE.format(version=diffusers.__version__, ran=ran(), count=len(found), fitting=fitting, asked=table(found))
    chosen.page.write_text(page, encoding="utf-8")
    print(f"{len(found)} pipelines, {fitting} with all that they ask; {chosen.out} and {chosen.page} written")


if __name__ == "__main__":
    main()
