"""Result folders: one configuration each, recorded beside what it made."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

import scoresde
from scoresde.files import replacing
from scoresde.hardware import describe
from scoresde.training import differences

CONFIG, VERSIONS = "config.yaml", "versions.json"


def resolved(config: DictConfig, *, without: Sequence[str] = ("out",)) -> dict[str, Any]:
    """The configuration as plain values, less what does not touch the results.

    Raises:
        omegaconf.MissingMandatoryValue: something must be given and was not.
    """
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key not in without}


def complete(out: Path, config: dict[str, Any], results: Sequence[str]) -> bool:
    """Whether the folder holds all results of this configuration already.

    Raises:
        ValueError: it holds those of another configuration (the differing keys are named), or of none.
    """
    recorded = out / CONFIG
    present = [name for name in results if (out / name).exists()]
    if not recorded.exists():
        if present:
            raise ValueError(f"{str(out)!r} holds {present[0]} but no {CONFIG}: choose another folder with out=…")
        return False
    try:
        old = yaml.safe_load(recorded.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(recorded)!r} is damaged: {error}") from error
    if differing := differences(old, config):
        raise ValueError(
            f"{str(out)!r} holds results made with other values of {', '.join(differing)}: "
            "choose another folder with out=…"
        )
    return len(present) == len(results)


def versions(device: torch.device) -> dict[str, str]:
    """What the results depend on besides the configuration."""
    found = {"scoresde": scoresde.__version__, "torch": torch.__version__, "numpy": np.__version__}
    return found | {"python": platform.python_version(), "platform": platform.platform(), "device": describe(device)}


def record(out: Path, config: dict[str, Any], device: torch.device) -> None:
    """Write the configuration and the versions it was run with beside the results."""
    with replacing(out / CONFIG) as path:
        path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    with replacing(out / VERSIONS) as path:
        path.write_text(json.dumps(versions(device), indent=2) + "\n", encoding="utf-8")
