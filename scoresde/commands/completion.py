"""Tab completion of ``scoresde`` in bash, zsh and fish, by argcomplete: commands, choices, settings, files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from scoresde.commands import app

SHELLS = ("bash", "zsh", "fish")
FLAGS = ("--help", app.FORCE, "--config-dir", "--multirun", "-m")


def script(shell: str) -> str:
    """What a shell runs to learn of it: ``eval "$(scoresde --completion bash)"``.

    Raises:
        UsageError: another shell.
    """
    if shell not in SHELLS:
        raise app.UsageError(f"completion is for {', '.join(SHELLS)}, got {shell!r}{app.nearest(shell, SHELLS)}")
    return shellcode(["scoresde"], shell=shell)


def complete(commands: Mapping[str, Any]) -> None:
    """Tell the shell that asks, and leave."""
    parser = argparse.ArgumentParser("scoresde", add_help=False, prefix_chars="\0")  # flags are words like all others

    def settings(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        return candidates(parsed_args.command, list(parsed_args.settings or ()), prefix)

    parser.add_argument("command", choices=[*commands, "--help", "--version", "--completion"])
    parser.add_argument("settings", nargs="*").completer = settings  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def candidates(command: str, typed: list[str], prefix: str) -> list[str]:
    """What may stand for a word that begins with ``prefix``, after what is typed."""
    if command == "--completion":
        return [*SHELLS]
    if not (app.config_folder() / f"{command}.yaml").is_file():
        return []
    if prefix.startswith("-"):
        return [*FLAGS]
    config = app.composed(command, [word for word in typed if "=" in word])
    key, equals, value = prefix.partition("=")
    if not equals:
        return _keys(config, prefix)
    known = f"{key}={value[: value.rfind(',') + 1]}"  # several, with -m
    places = [f"{key}={place}" for place in _places(key, value)]
    if (app.config_folder() / key).is_dir():
        return [*(f"{known}{path.stem}" for path in (app.config_folder() / key).glob("*.yaml")), *places]
    group, _, last = key.rpartition(".")
    default = (config.get(group) or {}).get(last) if group else config.get(last)
    return [f"{known}true", f"{known}false"] if isinstance(default, bool) else places


def _keys(config: Any, prefix: str) -> list[str]:
    """Settings; those of a choice once its group is typed."""
    group, dot, _ = prefix.partition(".")
    inner = config.get(group) if dot else config
    return [f"{group}.{key}=" if dot else f"{key}=" for key in inner or () if key != "name"]


def _places(key: str, value: str) -> list[str]:
    if key == app.MODEL:
        return [place for place in DirectoriesCompleter()(value) if "/" in place or Path(place).is_dir()]
    return list(FilesCompleter()(value)) if app.PATHS.match(f"{key}=") else []
