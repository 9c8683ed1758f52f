"""The house keeps its walls: imports run one way, tests run, and the wheel stands alone."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import solvers
from benchmarks.recorded import RESULTS
from solvers import PlannedSolver

ROOT = Path(__file__).resolve().parents[1]
EVADING = {"skip", "skipif", "xfail", "importorskip"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("solvers", {"scoresde", "benchmarks", "tests", "hydra", "omegaconf", "diffusers"}),
        ("scoresde", {"benchmarks", "tests"}),
    ],
)
def test_imports_run_one_way(folder: str, forbidden: set[str]) -> None:
    files = sources(folder)
    assert files
    for path in files:
        found = {name.partition(".")[0] for name in imports(path)} & forbidden
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


# The rooms of both packages, and what each may import: never itself by a detour, never what stands above it.
GROUND = {"errors", "arrays", "steps", "prediction", "views", "aliasing", "registry", "standin", "signature"}
SCORES = {"process", "score"}
ROOMS = {
    "solvers": {
        "errors": set[str](),
        "arrays": set[str](),
        "steps": set[str](),
        "views": set[str](),
        "aliasing": set[str](),
        "docstrings": set[str](),
        "standin": set[str](),
        "signature": {"steps", "views"},
        "prediction": {"errors"},
        "registry": {"errors"},
        "grids": GROUND | {"docstrings"},
        "coefficients": GROUND | {"grids"},
        "plan": GROUND,
        "driver": GROUND,
        "base": GROUND | {"grids", "plan", "driver"},
        "catalogue": GROUND | {"driver", "base"},
        "methods": GROUND | {"grids", "coefficients", "base", "catalogue"},
        "adaptive": GROUND | {"grids", "coefficients", "base", "catalogue"},
        "certificate": GROUND | {"plan", "base", "catalogue"},
        "__init__": {"grids", "coefficients", "plan", "base", "catalogue", "certificate"},
    },
    "scoresde": {
        "version": set[str](),
        "process": set[str](),
        "noise": set[str](),
        "conditions": set[str](),
        "files": set[str](),
        "score": {"process"},
        "preconditioning": {"process"},
        "energy": SCORES,
        "exact": SCORES | {"energy"},
        "guidance": SCORES | {"energy", "conditions"},
        "tuned": SCORES | {"files", "version"},
        "sampling": SCORES | {"conditions", "networks", "noise", "tuned"},
        "edits": SCORES | {"noise", "sampling"},
        "data": {"files"},
        "networks": SCORES | {"files"},
        "integrations": SCORES | {"conditions", "files", "networks", "noise", "preconditioning", "tuned", "tuning"},
        "models": SCORES | {"exact", "files", "networks", "preconditioning", "integrations", "tuned"},
        "metrics": {"files", "data", "networks"},
        "runs": {"files", "data", "noise", "metrics", "version"},
        "training": SCORES | {"files", "data", "preconditioning", "runs"},
        "plugins": {"exact", "files", "process", "networks", "guidance", "metrics"},
        "tuning": SCORES | {"conditions", "noise", "files", "tuned", "metrics"},
        "bench": SCORES | {"edits", "files", "data", "metrics", "models", "runs", "sampling", "tuned"},
        "report": SCORES | {"files", "networks", "exact", "sampling", "bench", "tuned"},
        "__init__": SCORES | {"exact", "guidance", "models", "sampling", "runs", "tuned", "tuning", "version"},
        "commands": SCORES
        | {"exact", "files", "data", "guidance", "models", "metrics", "runs", "sampling", "training", "bench", "report"}
        | {"edits", "plugins", "tuned", "tuning", "__init__"},
        "__main__": {"commands"},
    },
}


def modules(package: str) -> dict[str, set[str]]:
    """Every module of a package, and the modules of it that it imports, wherever in the file."""
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources(package)}
    known = {name.removesuffix(".__init__"): name for name in names.values()}
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for path, name in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [target for target in inner if target in known] or [node.module]
            found[name] |= {known[target] for target in targets if target in known} - {name}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself; empty if there is none."""
    left = dict(graph)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize(("package", "least"), [("solvers", 60), ("scoresde", 100), ("benchmarks", 40)])
def test_no_module_imports_itself_by_a_detour(package: str, least: int) -> None:
    graph = modules(package)
    assert len(graph) > least
    assert not circle(graph)
    assert circle({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == ["a", "b", "c"]


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_what_stands_below_them(package: str) -> None:
    rooms = ROOMS[package]
    assert not circle({name: needs & rooms.keys() for name, needs in rooms.items()})
    for name, needs in modules(package).items():
        room = name.split(".")[1]
        above = {need for need in needs if need.split(".")[1] not in rooms[room] | {room}}
        assert not above, f"{name} imports {above}"


def test_no_method_imports_a_method_and_each_is_in_the_file_of_its_name() -> None:
    graph, packages = modules("solvers"), ("solvers.methods", "solvers.adaptive")
    for name, needs in graph.items():
        if name.startswith("solvers.methods.") and name != "solvers.methods.__init__":
            assert not {need for need in needs if need.startswith(packages)}, name
    for name in solvers.names():
        made = solvers.get(name)
        module = made.function.__module__ if isinstance(made, PlannedSolver) else type(made).__module__
        if module.startswith("solvers."):
            assert module.startswith(packages) and module.rpartition(".")[2] == name


def test_one_register_for_all_that_is_chosen_by_name() -> None:
    """No second way of looking a name up: every kind is a Registry, which alone says what is unknown."""
    kinds, unknown, lookups = set[str](), list[str](), list[str]()
    for path in [*sources("solvers"), *sources("scoresde")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Registry":
                kinds.add(ast.literal_eval(node.args[0]))
        lookups += [
            path.relative_to(ROOT).as_posix()
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == "get"
        ]
        if re.search(r"unknown .*nearest\(", path.read_text(encoding="utf-8")):
            unknown.append(path.relative_to(ROOT).as_posix())
    assert kinds == {"solver", "grid", "frame", "tableau", "process", "guidance", "preconditioning"} | {
        *("feature space", "network", "format", "objective", "density"),
    }
    assert lookups == ["solvers/coefficients/frames.py"]  # which also knows the frame that a process prefers
    assert set(unknown) <= {"solvers/errors.py", "scoresde/commands/app.py", "scoresde/commands/main.py"}


def test_scripts_write_where_their_results_are_kept() -> None:
    named = set[str]()
    for path in sources("benchmarks"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "recorded.py" or not re.search(r"__file__\)[^\n]*results", text), path
        named |= set(re.findall(r'RESULTS / "([\w.]+)"', text))
    assert len(named) > 6
    for name in named:
        assert (RESULTS / name).exists(), name


def test_what_a_module_keeps_to_itself_is_nobody_s_import() -> None:
    for path in [*sources("solvers"), *sources("scoresde")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("solvers", "scoresde")):
                private = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name[1] != "_"]
                assert not private, f"{path.relative_to(ROOT)} imports {private}"


def test_only_the_commands_know_hydra() -> None:
    for path in sources("scoresde"):
        if "commands" not in path.parts:
            assert not {name.partition(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}, path


def test_no_test_is_skipped() -> None:
    for path in sources("tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr in EVADING), f"{path.name}:{node.lineno}"


def test_every_test_file_collects_by_its_name() -> None:
    for path in sources("tests"):
        assert path.name == "conftest.py" or path.name.startswith("test_"), path


@pytest.mark.slow
def test_an_installed_wheel_runs_from_any_folder_and_adds_nothing_else_at_top_level(
    installed: Any, tmp_path: Path
) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        assert {"scoresde/py.typed", "solvers/py.typed", "scoresde/conf/sample.yaml"} <= set(archive.namelist())
    assert {top for top in tops if not top.endswith(".dist-info")} == {"scoresde", "solvers"}
    assert {name for name in installed.added if not name.endswith(".dist-info")} == {"scoresde", "solvers"}

    def scoresde(*arguments: str) -> str:
        run = installed.run("scoresde", *arguments, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        return run.stdout

    origin = "import scoresde, solvers; print(scoresde.__file__, solvers.__file__)"
    where = installed.run("python", "-c", origin, cwd=tmp_path).stdout.split()
    assert where and all(Path(file).is_relative_to(installed.home) for file in where)
    assert "scoresde sample" in scoresde("--help")
    assert "dpmpp_2m" in scoresde("sample", "--help")
    scoresde("sample", "n=2", "nfe=3", "batch_size=2", "out=images")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    assert (tmp_path / "images" / "samples.npz").is_file()


def test_the_lowest_versions_tested_are_the_lowest_allowed() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project]")[2]
    ours = project.partition("\ninception = ")[0]  # what comes after is for networks of others and for development
    allowed = dict(re.findall(r'"([a-z-]+)>=([0-9.]+)"', ours))
    assert {"torch", "numpy", "scikit-learn", "pytest"} < set(allowed)
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert tested == {name: version for name, version in allowed.items() if name != "torch"}
