"""The numeric tests on other kernels, other Pythons and the lowest versions allowed: what holds here holds elsewhere.

    python benchmarks/robustness/kernels.py --out benchmarks/results/kernels.md

Another processor is another order of sums. Environment variables make torch, oneDNN, MKL and OpenBLAS take the kernels
of processors without AVX-512, without AVX2, or by other makers: with ``MKL_CBWR=COMPATIBLE`` MKL takes what it takes on
an AMD EPYC. Other Pythons and the lowest versions are installed into ``.venv-kernels``, once. What cannot be had, or is
not done within 60 minutes in all, counts as failed.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

from scoresde.files import replacing
from scoresde.runs.hardware import cpu

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-kernels"
MINUTES = 60.0  # for everything, installations too
TESTS = ["tests/solvers"] + [
    f"tests/scoresde/{name}"
    for name in (
        *("test_score.py", "test_process.py", "test_sampling.py", "test_noise.py", "test_invariance.py"),
        *("exact", "guidance", "models/test_models.py"),
        *("metrics/test_metrics.py", "metrics/test_figures.py", "metrics/test_real_images.py"),
    )
]


@dataclass(frozen=True)
class Environment:
    """Where the tests run.

    Attributes:
        variables: of the environment.
        python: the version of an interpreter to make a virtual environment with; None is the one that runs this.
        constraints: the file of versions installed into it; None is the newest that this Python has.
    """

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    constraints: str | None = None


ENVIRONMENTS = (
    Environment("default", {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"}),
    Environment(
        "avx2",
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_CBWR": "COMPATIBLE",
            "OPENBLAS_CORETYPE": "Zen",
        },
    ),
    Environment("sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Environment("two threads", {"OMP_NUM_THREADS": "2", "PYTEST_ADDOPTS": "-n 0"}),
    Environment("python3.10", python="3.10"),  # the newest numpy and scipy of constraints.txt need 3.11
    Environment("python3.13", python="3.13", constraints="constraints.txt"),
    Environment("lowest", python="3.11", constraints="constraints-lowest.txt"),
)


@dataclass(frozen=True)
class Outcome:
    """What the tests came to: how many passed, which failed, and in a line why they could not run, if so."""

    environment: Environment
    versions: str
    passed: int
    failed: tuple[str, ...]
    missing: str
    minutes: float

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.failed and not self.missing


class UnavailableError(Exception):
    """An environment that cannot be had; the message is one line."""


def run(environment: Environment, torch: str, deadline: float) -> Outcome:
    """The numeric tests in one environment, which is made first if it is not there."""
    began, versions, passed, failed, missing = time.monotonic(), "", 0, (), ""
    try:
        python = sys.executable if environment.python is None else installed(environment, torch, deadline)
        versions = _output([python, "-c", _VERSIONS], deadline).strip()
        passed, failed = _tests(python, environment.variables, deadline)
    except UnavailableError as error:
        missing = str(error)
    return Outcome(environment, versions, passed, failed, missing, (time.monotonic() - began) / 60)


_VERSIONS = (
    "import sys, numpy, scipy, torch; "
    "print(f'Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {numpy.__version__}, "
    "scipy {scipy.__version__}')"
)


def installed(environment: Environment, torch: str, deadline: float) -> str:
    """The interpreter of the environment's own virtual environment, made anew when what it needs has changed."""
    home = HOME / environment.name
    constraints = environment.constraints and (ROOT / environment.constraints).read_text(encoding="utf-8")
    needs = sha256("\n".join([(ROOT / "pyproject.toml").read_text(), constraints or "", torch]).encode()).hexdigest()
    python, stamp = home / "bin" / "python", home / "installed"
    if stamp.is_file() and stamp.read_text() == needs:
        return str(python)
    assert environment.python is not None
    _output([interpreter(environment.python), "-m", "venv", "--clear", str(home)], deadline)
    pinned = [] if environment.constraints is None else ["-c", str(ROOT / environment.constraints)]
    _output([str(python), "-m", "pip", "install", "-q", *pinned, torch, "-e", f"{ROOT}[test]"], deadline)
    stamp.write_text(needs)
    return str(python)


def interpreter(version: str) -> str:
    """An interpreter of this version: on the path, or among pyenv's.

    Raises:
        UnavailableError: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    for candidate in [*([on_path] if on_path else []), *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"))]:
        asked = subprocess.run([candidate, "--version"], capture_output=True, text=True)  # pyenv's shims may be empty
        if asked.stdout.startswith(f"Python {version}."):
            return candidate
    raise UnavailableError(f"Python {version} is not installed")


def _tests(python: str, variables: dict[str, str], deadline: float) -> tuple[int, tuple[str, ...]]:
    """How many tests passed, and the names of the others."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *TESTS]
        shared = {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": os.environ.get("PYTEST_ADDOPTS", "-n 2")}  # as `make test`
        _output(command, deadline, {**shared, **variables}, statuses=(0, 1))
        cases = list(ElementTree.parse(report).iter("testcase"))
    bad = [case for case in cases if any(child.tag in ("failure", "error", "skipped") for child in case)]
    return len(cases) - len(bad), tuple(f"{case.get('classname')}::{case.get('name')}" for case in bad)


def _output(
    command: list[str], deadline: float, variables: dict[str, str] | None = None, statuses: Iterable[int] = (0,)
) -> str:
    """What a command prints.

    Raises:
        UnavailableError: it ended with another status, or too late; with its last line of error.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**environment, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=max(0.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"not done within {MINUTES:g} minutes in all") from None
    if done.returncode not in statuses:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise UnavailableError(f"{' '.join(command[1:4])}: exit status {done.returncode}, {said}")
    return done.stdout


def table(outcomes: list[Outcome], command: str) -> str:
    """The outcomes as Markdown."""
    lines = [
        f"`{command}`",
        "",
        f"{cpu()}; {' '.join(TESTS)}",
        "",
        "| environment | variables | versions | passed | failed | minutes |",
        "|---|---|---|---:|---:|---:|",
    ]
    for one in outcomes:
        variables = " ".join(f"`{key}={value}`" for key, value in one.environment.variables.items())
        failed = "all" if one.missing else f"{len(one.failed):,}"
        lines.append(
            f"| {one.environment.name} | {variables} | {one.versions} | {one.passed:,} | {failed} | {one.minutes:.1f} |"
        )
    wrong = [f"- {one.environment.name}: {what}" for one in outcomes for what in (one.missing, *one.failed) if what]
    return "\n".join([*lines, *([""] if wrong else []), *wrong]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    names = [environment.name for environment in ENVIRONMENTS]
    parser.add_argument("--only", choices=names, action="append", help="this environment; may be given several times")
    parser.add_argument("--torch", help="what pip is asked for (default: the torch of constraints.txt)")
    parser.add_argument("--out", type=Path, help="write the table there")
    chosen = parser.parse_args()
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    torch = chosen.torch or next(line for line in pinned if line.startswith("torch=="))

    deadline = time.monotonic() + 60 * MINUTES
    command = " ".join(["python benchmarks/robustness/kernels.py", *sys.argv[1:]])
    outcomes: list[Outcome] = []
    for environment in ENVIRONMENTS:
        if chosen.only is None or environment.name in chosen.only:
            outcomes.append(run(environment, torch, deadline))
            if chosen.out is not None:
                with replacing(chosen.out) as path:
                    path.write_text(table(outcomes, command), encoding="utf-8")
    print(table(outcomes, command), end="")
    return 0 if all(one.good for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
