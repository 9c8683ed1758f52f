"""The command ``scoresde``: finds the command asked for and runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import scoresde
from scoresde.commands.app import UsageError, guarded, launch
from solvers.errors import nearest

# Each command is conf/<name>.yaml and run(config, out) in scoresde/commands/<name>.py: what it does, and an example.
# One that is written with words in an order of its own has settings(arguments) there, which makes settings of them.
COMMANDS = {
    "sample": ("draw images from a model", "scoresde sample solver=heun nfe=20 grid=karras n=64"),
    "bench": ("compare solvers by FID, error and speed", "scoresde bench 'solvers=[heun,dpmpp_2m]' 'nfe=[10,20]'"),
    "train": ("train a model on your images", "scoresde train data=folder data.path=photos epochs=40 out=runs/photos"),
    "convert": ("make a model folder of another project's file", "scoresde convert edm in.pkl out/"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status: 0, 1 for errors, 2 for wrong usage, 130 for Ctrl-C.

    Args:
        arguments: what follows the program's name; None takes it from the shell.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(f"scoresde {scoresde.__version__}")
        return
    command, *rest = arguments
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{nearest(command, COMMANDS)}")
    module = importlib.import_module(f"scoresde.commands.{command}")
    launch(command, module.run, module.settings(rest) if hasattr(module, "settings") else rest)


def _help() -> str:
    lines = ["scoresde: score-based generative models, and every way of sampling from them", ""]
    for name, (what, example) in COMMANDS.items():
        lines += [f"  scoresde {name:<8} {what}", f"      {example}", ""]
    return "\n".join([*lines, "scoresde <command> --help tells what a command can be given."])
