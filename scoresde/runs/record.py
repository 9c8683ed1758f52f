"""Result folders: one run at a time, one configuration each, recorded beside what it made."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from scoresde import noise
from scoresde.files import regular, remove_temporary, replacing
from scoresde.files.text import say
from scoresde.runs.differences import differences
from scoresde.runs.hardware import describe
from scoresde.runs.locks import Lock
from scoresde.version import __version__

CONFIG, VERSIONS = "config.yaml", "versions.json"
INPUTS = "inputs"  # what the settings that are paths led to, by digests
DTYPE = "dtype_auto"  # what dtype=auto was found to be; not compared, since a folder may be asked for other dtypes too
LONGEST = 2**20  # bytes of a configuration
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def take(lock: Lock, out: Path, places: Sequence[str] = ()) -> OSError | None:
    """Make the folder this run's own, and remove what killed runs left in it and in ``places`` of it.

    Returns:
        The error, if the folder is there but cannot be written: that is enough for who finds all results there.

    Raises:
        BlockingIOError: another run has it.
        ValueError: its lock is not ours.
        OSError: it cannot be made.
    """
    try:
        if lock.take():
            for folder in (out, *(out / place for place in places)):
                remove_temporary(folder)
        else:
            say(f"note: {out} cannot be locked here; see that no other run uses it")
    except OSError as error:
        if error.errno not in READ_ONLY or not (out / CONFIG).exists():
            raise
        return error
    return None


@contextmanager
def held(out: Path, places: Sequence[str] = ()) -> Iterator[OSError | None]:
    """The folder as this process's own for the length of the block; see :func:`take`."""
    lock = Lock(out)
    try:
        yield take(lock, out, places)
    finally:
        lock.drop(remove=True)


def complete(out: Path, config: dict[str, Any], results: Sequence[str]) -> bool:
    """Whether the folder holds all results of this configuration already; call it with the folder held.

    Inputs whose digests the folder does not record, since an earlier version began it, are taken for those of then.

    Raises:
        ValueError: it holds those of another configuration or of other inputs (named), or of none.
    """
    present = [name for name in results if (out / name).exists()]
    old = recorded(out)
    if old is None:
        if present:
            raise ValueError(f"{str(out)!r} holds {present[0]} but no {CONFIG}: choose another folder with out=…")
        return False
    before, now = old.pop(INPUTS, None) or {}, config.get(INPUTS) or {}
    settings = {key: value for key, value in config.items() if key not in (INPUTS, DTYPE)}
    old.pop(DTYPE, None)
    if differing := differences(old, settings):
        raise ValueError(
            f"{str(out)!r} holds results made with other values of {', '.join(differing)}: "
            "choose another folder with out=…"
        )
    before = before if isinstance(before, dict) else {}
    if changed := [key for key in now if key in before and before[key] != now[key]]:
        raise ValueError(
            f"{str(out)!r} holds results made with other content of {' and '.join(changed)}, at the same path: choose "
            "another folder with out=…"
        )
    if unknown := [key for key in now if key not in before]:
        say(f"note: {out} does not record the content of {', '.join(unknown)}: taken to be what it was begun with")
    return len(present) == len(results)


def recorded(out: Path) -> dict[str, Any] | None:
    """The configuration that a folder records, or None.

    Raises:
        ValueError: it is damaged.
    """
    path = out / CONFIG
    try:
        if regular(path).stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no settings")
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    return content


def versions(device: torch.device) -> dict[str, str]:
    """What the results depend on besides the configuration."""
    found = {"scoresde": __version__, "noise": noise.VERSION, "torch": torch.__version__, "numpy": np.__version__}
    return found | {"python": platform.python_version(), "platform": platform.platform(), "device": describe(device)}


def write(out: Path, config: dict[str, Any], device: torch.device) -> None:
    """Write the configuration beside the results, and the versions that it is begun with where there are none."""
    if (old := recorded(out)) != config:
        # What else an earlier start of the same configuration found at its paths stays known.
        kept = {DTYPE: old[DTYPE]} if old and DTYPE in old else {}
        inputs = {**((old or {}).get(INPUTS) or {}), **(config.get(INPUTS) or {})}
        whole = {**config, **kept, **({INPUTS: inputs} if inputs else {})}
        if whole != old:
            with replacing(out / CONFIG) as path:
                path.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if not (out / VERSIONS).exists():
        with replacing(out / VERSIONS) as path:
            path.write_text(json.dumps(versions(device), indent=2) + "\n", encoding="utf-8")


def versions_of(out: Path) -> dict[str, str]:
    """The versions that a folder was begun with; empty where it records none.

    Raises:
        ValueError: its record of them is damaged.
    """
    path = out / VERSIONS
    try:
        found = json.loads(regular(path).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no versions")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}; remove it, and the same command goes on") from error
    return {str(key): str(value) for key, value in found.items()}


def said(found: Mapping[str, str]) -> str:
    """Of versions, those that figures and times depend on most, in words."""
    named = [f"{name} {found[name]}" for name in ("scoresde", "torch") if name in found]
    return ", ".join([*named, *filter(None, [found.get("device")])])


def changes(out: Path, device: torch.device) -> str:
    """What is not as it was when the folder was begun, in words; empty if all is.

    Raises:
        ValueError: its record of versions is damaged.
    """
    old, new = versions_of(out), versions(device)
    old.setdefault("noise", noise.VERSION)  # before there were numbers: what commands draw has not changed since
    return "; ".join(f"{key} {old.get(key)}, now {new.get(key)}" for key in differences(old, new))
