"""Result folders: one run at a time, one configuration each, recorded beside what it made."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    _refuse(out, differences(old, settings))
    before = before if isinstance(before, dict) else {}
    if changed := [key for key in now if key in before and before[key] != now[key]]:
        raise ValueError(
            f"{str(out)!r} holds results made with other content of {' and '.join(changed)}, at the same path: choose "
            "another folder with out=…"
        )
    if unknown := [key for key in now if key not in before]:
        say(f"note: {out} does not record the content of {', '.join(unknown)}: taken to be what it was begun with")
    return len(present) == len(results)


def anew(out: Path, marks: Sequence[str], files: Callable[[dict[str, Any]], Iterable[str]]) -> bool:
    """Remove what a run has left in a folder, so that another begins anew there; call it with the folder held.

    Returns:
        Whether there was one. Then nothing of it is there, whatever else is: :func:`complete` is not to be asked.

    Files of those names alone are removed, the record of the run last; a link is neither followed nor removed.

    Args:
        out: the folder; one without a record is left as it is.
        marks: settings that the records of this command have, and those of no other.
        files: paths in the folder that a run of a recorded configuration writes.

    Raises:
        ValueError: the record is of another command, or of something else, or damaged; or a link or a folder stands
            where a file of the run would be (nothing is removed then).
        OSError: a file cannot be removed.
    """
    before = recorded(out)
    if before is None:
        return False
    if not set(marks) <= before.keys():
        raise ValueError(
            f"{str(out / CONFIG)!r} is of no run of this command, and --force removes nothing else: choose another "
            "folder with out=…"
        )
    try:
        names = list(dict.fromkeys(files(before)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(out / CONFIG)!r} is damaged: {error}") from error
    there = [name for name in (*names, VERSIONS, CONFIG) if _is_there(out, name)]
    for name in there:
        (out / name).unlink(missing_ok=True)
    for folder in sorted({parent for name in there for parent in Path(name).parents} - {Path()}, reverse=True):
        with suppress(OSError):  # something of somebody else's is in it
            (out / folder).rmdir()
    say(f"{out}: begun anew; {len(there)} files of the run of before are removed")
    return True


def _is_there(out: Path, name: str) -> bool:
    """Whether a file of a run is there.

    Raises:
        ValueError: a link is on the way to it or in its place, or a folder or another thing is.
    """
    path = out / name
    for part in (*reversed([out / parent for parent in Path(name).parents if parent != Path()]), path):
        if part.is_symlink():
            raise ValueError(f"{str(part)!r} is a link, and --force follows none: remove it, or choose another folder")
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} is no file, as a run would have made: move it, or choose another folder")
    return path.exists()


def foresee(out: Path, config: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse a folder that :func:`complete` will refuse for one of some keys, before anything is made for the others.

    Raises:
        ValueError: it holds results made with other values of them.
    """
    old = recorded(out) or {}
    _refuse(out, [key for key in keys if key in old and key in config and old[key] != config[key]])


def _refuse(out: Path, differing: Sequence[str]) -> None:
    if differing:
        raise ValueError(
            f"{str(out)!r} holds results made with other values of {', '.join(differing)}: "
            "choose another folder with out=…"
        )


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
