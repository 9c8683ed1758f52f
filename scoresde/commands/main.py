"""The command ``scoresde``: finds the command asked for and runs it.

Nothing heavy is imported above: loading torch takes seconds, in which Ctrl-C must already have its one line.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import scoresde
from scoresde.commands.interrupts import quick_to_stop
from scoresde.runs.torchrun import several

# Each command is conf/<name>.yaml and run(config, out) in scoresde/commands/<name>.py: what it does, and an example.
COMMANDS = {
    "sample": ("draw images from a model", "scoresde sample solver=heun nfe=20 grid=karras n=64"),
    "bench": ("compare solvers by FID, error and speed", "scoresde bench 'solvers=[heun,dpmpp_2m]' 'nfe=[10,20]'"),
    "report": ("make a benchmark's report again, or one of several", "scoresde report runs/seed0 runs/seed1000"),
    "tune": ("fit a solver to a model, so that it needs fewer steps", "scoresde tune nfe=5 out=runs/tuned"),
    "train": ("train a model on your images", "scoresde train data=folder data.path=photos epochs=40 out=runs/photos"),
    "plan": ("see what a solver does, as numbers and a picture", "scoresde plan solver=heun nfe=9"),
    "certify": ("measure the order of a solver", "scoresde certify solver=heun"),
    "convert": (
        "make a model folder of another project's file, or pictures of a run",
        "scoresde convert edm in.pkl out/",
    ),
}

# Commands that take words without a name, and what makes settings of them.
WORDS = {"convert": lambda app, words: app.converted(words), "report": lambda app, words: app.reported(words)}
LOAD = Path("/proc/loadavg")
SHARED = {"sample", "bench", "train"}  # by several processes, as torchrun starts them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status: 0, 1 for errors, 2 for wrong usage, 130 for Ctrl-C.

    Args:
        arguments: what follows the program's name; None takes it from the shell.
    """
    _complete_streams()
    # Threads of torch that wait by spinning take the cores of whatever else runs: beside other work a step is several
    # times slower by it. On an idle machine waking threads that sleep costs more: up to half of the speed of a batch
    # where the machine is virtual. It is read when torch is loaded.
    if busy():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        importlib.import_module("scoresde.commands.completion").complete(COMMANDS)
    with quick_to_stop():
        app = importlib.import_module("scoresde.commands.app")
    status = app.guarded(lambda: _dispatch(arguments, app))
    # What is buffered is written now, when a reader that has gone is no error; Python itself would complain of it.
    return app.guarded(sys.stdout.flush) or status


def busy(looks: int = 7, pause: float = 0.005) -> bool:
    """Whether other programs want a quarter of the machine's cores: of several looks, most of the time.

    By ``/proc/loadavg``, whose fourth entry begins with how many tasks run or wait for a core now, this one among them.
    Where there is none, nobody knows, and that is False.
    """
    others = list[int]()
    with suppress(OSError, ValueError, IndexError):
        for _ in range(looks):
            others.append(int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1)
            time.sleep(pause)
    return bool(others) and 4 * statistics.median(others) >= (os.cpu_count() or 1)


def _dispatch(arguments: list[str], app: Any) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(f"scoresde {scoresde.__version__}")
        return
    if arguments[0] == "--completion":
        completion = importlib.import_module("scoresde.commands.completion")
        print(completion.script(" ".join(arguments[1:])))
        return
    command, *rest = arguments
    if command not in COMMANDS:
        raise app.UsageError(f"unknown command {command!r}{app.nearest(command, COMMANDS)}")
    if several() and command not in SHARED:
        raise app.UsageError(f"{command} is the work of one process: start it without torchrun")
    app.launch(command, WORDS[command](app, rest) if command in WORDS else rest)


def _help() -> str:
    lines = ["scoresde: score-based generative models, and every way of sampling from them", ""]
    for name, (what, example) in COMMANDS.items():
        lines += [f"  scoresde {name:<8} {what}", f"      {example}", ""]
    lines += [
        "scoresde <command> --help tells what a command can be given.",
        'eval "$(scoresde --completion bash)" completes what is typed, by the tabulator; zsh and fish alike.',
    ]
    return "\n".join(lines)


def _complete_streams() -> None:
    """Input, output and errors that can be written, whatever the shell has closed and whichever letters it knows."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, or the next file opened would
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # of a stream that a program put in its place
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
