"""What hostile inputs have in common: their form, and ways to damage texts, bytes and files."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoresde.commands.main import main

# What stands where something else should; of numbers also those that other readers take for numbers.
ODD: list[Any] = [None, True, False, -1, 0, 1, 2, 3, 7, 10**7, 10**30, -(2**63), 0.5, 1e-300, 1e300, float("nan")]
ODD += [float("inf"), "", "x", "1", "\x1b[31m", "../x", [], {}, [[]], [1], [-1, 2], {"a": 1}, "x" * 5000]


class RefusedError(Exception):
    """A command that ended in one line."""


class WrongError(Exception):
    """What must not be."""


@dataclass(frozen=True)
class Attack:
    """An input.

    Attributes:
        about: what it is.
        run: tries it in the working folder; raises what the product raises, :class:`RefusedError`, or
            :class:`WrongError` where what comes of it is not right.
    """

    about: str
    run: Callable[[], Any]


Kind = Callable[[random.Random, Path], Iterator[Attack]]


def check(right: object, what: str) -> None:
    if not right:
        raise WrongError(what)


def say(*arguments: str) -> str:
    """What a command that succeeds prints.

    Raises:
        RefusedError: it ended with 1 or 2 and one line.
        WrongError: it ended in another way, or said something on stderr beside its success.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            status = main(arguments)
        finally:
            for stream, number, old in ((sys.stdout, 1, kept[0]), (sys.stderr, 2, kept[1])):
                with contextlib.suppress(ValueError, OSError):
                    stream.flush()
                os.dup2(old, number)
                os.close(old)
        said, complained = (_read(file) for file in (out, err))
    for text in (said, complained):
        if odd := [letter for letter in text if letter != "\n" and not letter.isprintable()]:
            raise WrongError(f"it printed {odd[0]!r}: {text!r:.200}")
    if status == 0 and not complained:
        return said
    one = complained.startswith("scoresde: ") and complained.count("\n") == 1
    if status in (1, 2) and one and "No such error should get here" not in complained:
        raise RefusedError(complained)
    raise WrongError(f"exit {status}, saying {complained!r:.400}")


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape").replace("\t", " ")


def damaged(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Bytes changed in one of the ways in which files are, with what was done."""
    changed, size = bytearray(content), max(1, len(content))
    way = rng.choice(
        ("cut", "emptied", "a bit", "bits", "a hole", "doubled", "zeros", "longer", "another's", "shifted")
    )
    place = rng.randrange(size)
    if way == "cut":
        del changed[place:]
    elif way == "emptied":
        changed = bytearray()
    elif way in ("a bit", "bits"):
        for place in [rng.randrange(size) for _ in range(1 if way == "a bit" else 20)]:
            if changed:
                changed[place] ^= 1 << rng.randrange(8)
    elif way == "a hole":
        del changed[place : place + rng.randint(1, 64)]
    elif way == "doubled":
        changed += bytes(changed)
    elif way == "zeros":
        changed[place : place + 64] = bytes(min(64, len(changed) - place))
    elif way == "longer":
        changed += rng.randbytes(rng.randint(1, 100))
    elif way == "another's":
        changed = bytearray(
            rng.choice((b"PK\x03\x04", b"\x80\x04.", b"{}", b"[]", b"\x93NUMPY", b"%!PS", b"null\n", b"\0" * 999))
        )
    else:
        changed[:0] = b"\xef\xbb\xbf"
    return f"{way} at {place}", bytes(changed)


def odd_json(content: Any, rng: random.Random) -> tuple[tuple[Any, ...], str, Any]:
    """A copy with one value changed: where it is, what was done, and the whole."""
    whole = copy.deepcopy(content)
    places = list(_places(whole))
    path, holder, key = rng.choice(places)
    way = rng.choice(("odd", "odd", "odd", "odd", "removed", "renamed", "near", "another's"))
    if way == "removed":
        del holder[key]
    elif way == "renamed" and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
    elif way == "near" and type(holder[key]) in (int, float):
        holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 2, holder[key] / 3, str(holder[key])))
    elif way == "another's":
        _, other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name])
    else:
        way, holder[key] = "odd", copy.deepcopy(rng.choice(ODD))
    told = repr(holder[key])[:40] if way in ("odd", "near", "another's") else ""
    return path, f"{'.'.join(map(str, path))} {way} {told}".strip(), whole


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Every value inside, as (where, what holds it, key)."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key), value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key], (*path, key))


def odd_text(rng: random.Random) -> tuple[str, bytes]:
    """A text in place of JSON or YAML."""
    name, content = rng.choice(
        (
            ("nothing", b""),
            ("deep lists", b"[" * 100_000),
            ("deep mappings", b'{"a":' * 50_000),
            ("a number without end", b"1" * 10_000),
            ("no UTF-8", b'{"a": "\xff\xfe"}'),
            ("NaN", b"NaN"),
            ("a list", b"[1, 2]"),
            ("a surrogate", b'{"format": "\\ud800"}'),
            ("a word", b"word"),
            ("null", b"null"),
            ("tags", b"!!python/object/apply:os.system ['touch ran']"),
            (
                "many anchors",
                b"a: &a [1,1,1,1,1,1,1,1]\n"
                + b"".join(
                    b"%c: &%c [%s]\n" % (97 + i, 97 + i, b",".join([b"*%c" % (96 + i)] * 8)) for i in range(1, 12)
                ),
            ),
        )
    )
    return name, content


def odd_file(path: Path, rng: random.Random) -> str:
    """Something that is no file of that content where one was; what it is."""
    path.unlink()
    way = rng.choice(("a FIFO", "a folder", "a link to nothing", "a link to itself", "a device", "nothing", "unlike"))
    if way == "a FIFO":
        os.mkfifo(path)
    elif way == "a folder":
        path.mkdir()
    elif way == "a link to nothing":
        path.symlink_to("none")
    elif way == "a link to itself":
        path.symlink_to(path.name)
    elif way == "a device":
        path.symlink_to("/dev/zero")
    elif way == "unlike":
        path.symlink_to(Path("thesis.txt").absolute())
    return way


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
