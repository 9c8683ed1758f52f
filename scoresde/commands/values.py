"""Values from a configuration, checked where the library would not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from scoresde import plugins
from scoresde.commands.numbers import whole_number
from scoresde.runs.torchrun import restarted
from scoresde.score import PRECISIONS
from solvers.errors import known


def resolved(config: DictConfig, *, without: Sequence[str] = ("out",)) -> dict[str, Any]:
    """The configuration as plain values, less what does not touch the results; of plugins, what they are and contain.

    Raises:
        omegaconf.MissingMandatoryValue: something must be given and was not.
    """
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    settings = {str(key): value for key, value in content.items() if key not in (*without, "plugins", "force")}
    return {**settings, "plugins": plugins.identity()} if plugins.identity() else settings


def whole(config: DictConfig, key: str, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Raises:
        ValueError: names the key and its value.
    """
    return whole_number(key, config[key], least)


def number(config: DictConfig, key: str) -> float:
    """A finite number, zero or more.

    Raises:
        ValueError: names the key and its value.
    """
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{key} must be a number of at least 0, got {value!r}")
    return float(value)


def flag(config: DictConfig, key: str) -> bool:
    """True or false.

    Raises:
        ValueError: names the key and its value.
    """
    if not isinstance(config[key], bool):
        raise ValueError(f"{key} must be true or false, got {config[key]!r}")
    return config[key]


def forced(config: DictConfig) -> bool:
    """Whether ``--force`` begins anew; a command that torchrun has started again goes on.

    Raises:
        ValueError: it is neither true nor false.
    """
    return flag(config, "force") and not restarted()


def begun_in(config: DictConfig, out: Path) -> Path | None:
    """The folder whose record goes before what is not asked for; None where ``--force`` begins anew."""
    return None if forced(config) else out


def going_on(out: Path, anew: bool) -> str:
    """What goes on with a run that was stopped, in words; ``anew`` as :func:`forced` has it."""
    return f"the same command with out={out}{' and without --force' if anew else ''} goes on"


def several(settings: Mapping[str, Any], key: str, names: Iterable[str]) -> list[str]:
    """A list of names, or one name.

    Raises:
        ValueError: it is empty, or holds what is none of the names (the nearest is given).
    """
    value = settings[key]
    found = [known(key, each, names) for each in (value if isinstance(value, list) else [value])]
    if not found:
        raise ValueError(f"{key} must name one or more, got {value!r}")
    return found


def dtype(config: DictConfig, key: str, names: tuple[str, ...] = tuple(PRECISIONS)) -> torch.dtype:
    """One of the named precisions."""
    return PRECISIONS[known(key, config[key], names)]


def device(config: DictConfig) -> torch.device:
    """The device of that name; ``auto`` is the accelerator of this machine (cuda, mps, xpu, …) if there is one.

    Raises:
        ValueError: unknown device, or one this machine does not have.
    """
    if config.device == "auto":
        there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if there is None else there
    try:
        chosen = torch.device(config.device)
    except (RuntimeError, TypeError) as error:
        known = "auto, cpu, cuda, cuda:<number>, mps, xpu"
        raise ValueError(f"unknown device {config.device!r}; known: {known}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {config.device!r} is not there: torch sees {torch.cuda.device_count()} GPUs")
    try:
        torch.ones(1, device=chosen).cpu()
    except (RuntimeError, NotImplementedError, AssertionError, ImportError) as error:
        raise ValueError(f"device {config.device!r} is not there: this torch cannot compute on it here") from error
    return chosen


def named(group: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """A group's choice as its name in our registries and its options."""
    return group["name"], {key: value for key, value in group.items() if key != "name"}
