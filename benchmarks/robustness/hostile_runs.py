"""Damaged folders, odd command lines and odd calls: kinds of :mod:`benchmarks.robustness.attacks`."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

import scoresde
import solvers
from benchmarks.robustness import kills
from benchmarks.robustness.hostile import (
    ODD,
    Attack,
    Kind,
    check,
    damaged,
    odd_file,
    odd_json,
    odd_text,
    read_json,
    say,
    write_json,
)
from benchmarks.robustness.inputs import SIDE
from scoresde import models
from scoresde.metrics import FeatureSpace
from scoresde.metrics.spaces.network import load_features
from scoresde.runs import shards

OUT = "out"
DONE, HALF = "done", "half"


def prepare(good: Path) -> None:
    """Folders of results, whole and of runs that were killed on their way, of each work of :mod:`kills`."""
    for state in (DONE, HALF):
        (good / state).mkdir()
        (good / state / "inputs").symlink_to(good)  # where the works look for what they read
    for work in kills.WORKS:
        done, half = good / DONE / work, good / HALF / work
        for place in (done, half):
            (place / OUT).mkdir(parents=True)
        ended, events = kills.undisturbed(work, done)
        if ended.status or ended.err:
            raise RuntimeError(f"{work}: an undisturbed run ended with {ended.status}: {ended.err}")
        kills.killed(work, half, signal.SIGKILL, events * 2 // 3)


# ---------------------------------------------------------------------------------------------------------------------
# folders of results


def of_samples(rng: random.Random, good: Path) -> Iterator[Attack]:
    """every file as an undisturbed run makes it, to the byte, after the same command; or, read as it is, its samples"""
    wholes = {work: shards.load(good / DONE / work / OUT) for work in kills.WORKS if work.startswith("sample")}

    def read(work: str) -> None:
        found, whole = shards.load(OUT), wholes[work]
        for name in ("samples", "seeds", "labels", "features"):
            check(np.array_equal(getattr(found, name), getattr(whole, name)), f"other {name}")

    for attack in _folders(rng, good, list(wholes)):
        yield attack
        work, seed = rng.choice(list(wholes)), rng.randrange(10**9)

        def run(work: str = work, seed: int = seed) -> None:
            shutil.copytree(good / DONE / work / OUT, OUT)
            _damage(Path(OUT), random.Random(seed))
            read(work)

        yield Attack(f"{work}, read, damaged {seed}", run)


def of_benchmarks(rng: random.Random, good: Path) -> Iterator[Attack]:
    """every file as an undisturbed run makes it, to the byte; a row in which another figure stands, as it stands"""
    return _folders(rng, good, ["bench"])


def of_trainings(rng: random.Random, good: Path) -> Iterator[Attack]:
    """every file as an undisturbed run makes it, to the byte"""
    return _folders(rng, good, ["train"])


def of_conversions(rng: random.Random, good: Path) -> Iterator[Attack]:
    """every file as an undisturbed run makes it, to the byte"""
    return _folders(rng, good, ["convert"])


def _folders(rng: random.Random, good: Path, works: list[str]) -> Iterator[Attack]:
    while True:
        work, state, seed = rng.choice(works), rng.choice((DONE, HALF)), rng.randrange(10**9)
        about = f"{work}, {state}, damaged {seed}"
        yield Attack(about, partial(_resumed, good, work, state, seed))


def _resumed(good: Path, work: str, state: str, seed: int) -> None:
    """A damaged folder, and the same command again."""
    shutil.copytree(good / state / work / OUT, OUT, symlinks=True)
    out, rng = Path(OUT), random.Random(seed)
    touched, told = _damage(out, rng)
    own = {".own.1.md": "mine", "own/file.txt": "mine"}
    for name, text in own.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    kills.clock()
    said = say(*kills.WORKS[work], f"out={OUT}")
    for name, text in own.items():
        check((out / name).read_text(encoding="utf-8") == text, f"{name} changed")
        (out / name).unlink()
    found, right = kills.summary(out), kills.summary(good / DONE / work / OUT)
    other = {name for name in {*found, *right} if found.get(name) != right.get(name)}
    if touched == "versions.json" and ("note: begun with" in said or work == "train"):
        other -= {"versions.json"}
    if touched == "config.yaml" and "config.yaml" in other:
        same = yaml.safe_load((out / touched).read_text(encoding="utf-8")) == yaml.safe_load(
            (good / DONE / work / OUT / touched).read_text(encoding="utf-8")
        )
        other -= {"config.yaml"} if same else set()
    if other == {touched} and touched.startswith(("images/", "converged/")):  # what holds the same arrays stays
        other -= {touched} if _held(out / touched) == _held(good / DONE / work / OUT / touched) else set()
    if touched == "checkpoint.pt" and state == DONE:  # what trains no more needs none
        other -= {touched}
    if touched == "results.jsonl":  # has no checksum: what stands there is what was measured
        other = {name for name in other if name.startswith(("images/", "converged/", "config", "versions"))}
    check(not other, f"{told}: exit 0, and other bytes in {sorted(other)[:4]}")


def _held(path: Path) -> dict[str, bytes]:
    with np.load(path) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def _damage(folder: Path, rng: random.Random) -> tuple[str, str]:
    """One file damaged; which, and how."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "scoresde-part" not in path.name)
    path = rng.choice(paths)
    if rng.random() < 0.4:  # rather what is read again than pictures
        path = rng.choice(
            [path for path in paths if path.suffix in (".json", ".jsonl", ".yaml", ".pt", ".npz")] or paths
        )
    name, content = path.relative_to(folder).as_posix(), path.read_bytes()
    way = rng.choice(("bytes", "bytes", "bytes", "value", "value", "value", "text", "file", "other", "removed"))
    if way == "value" and path.suffix == ".json":
        _, about, changed = odd_json(read_json(path), rng)
        write_json(path, changed)
    elif way == "value" and path.suffix == ".yaml":
        _, about, changed = odd_json(yaml.safe_load(content), rng)
        path.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    elif way == "value" and path.suffix == ".jsonl":
        rows = content.decode().splitlines()
        index = rng.randrange(len(rows))
        _, about, changed = odd_json(json.loads(rows[index]), rng)
        rows[index] = json.dumps(changed)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    elif way == "text":
        about, changed = odd_text(rng)
        path.write_bytes(changed)
    elif way == "file":
        about = odd_file(path, rng)
    elif way == "other":
        other = rng.choice(paths)
        about = f"replaced by {other.name}"
        path.write_bytes(other.read_bytes())
    elif way == "removed":
        about = way
        path.unlink()
    else:
        about, changed = damaged(content, rng)
        path.write_bytes(changed)
    return name, f"{name}: {about}"


# ---------------------------------------------------------------------------------------------------------------------
# command lines


TYPED = ["", "0", "-1", "1", "2", "3", "1e3", "0.5", "nan", "inf", "-inf", "null", "true", "false", "[]", "[1]", "[[]]"]
TYPED += [
    "{}",
    "{a: 1}",
    "''",
    "'x'",
    '"3"',
    "03",
    "0x10",
    "1_0",
    "½",
    "x",
    "\x1b[31m",
    "a\nb",
    "${n}",
    "${oc.env:HOME}",
]
TYPED += [
    "???",
    "$(ls)",
    "~",
    "..",
    "%s",
    "-",
    "é",
    "1,2",
    "!!python/object:os.system",
    "0-3",
    "[0-1,3]",
    "3-0",
    "auto",
]
TYPED += [
    "x" * 5000,
    "=",
    "a=b",
    "#",
    "'",
    "[",
    "{",
    "\\",
    "9" * 400,
    "1e400",
    "0-99999999999999999999",
    "\u202e",
    "null,",
]
LARGE = ["1000000000", "9223372036854775807", "9223372036854775808", "1e9"]
LONG = {"epochs", "nfe", "steps", "reference_nfe"}  # of which much is much work, and meant
KEYS = {
    "sample": "solver grid process guidance features model nfe steps n seed seeds label batch_size shard format keep "
    "metrics reference device dtype threads out model.path solver.eta solver.starter grid.end features.shape "
    "guidance.scale",
    "bench": "solvers grids nfe tolerances guidances dtype compile n seed batch_size reference_nfe reference device "
    "threads out model features model.path",
    "train": "data network process prediction epochs batch_size learning_rate warmup clip ema label_dropout bf16 seed "
    "every weights device threads out data.path network.channels network.depth process.beta_max",
    "convert": "edm weights out",
}
FORMS = ("{key}={value}",) * 12 + (
    "+{key}={value}",
    "++{key}={value}",
    "~{key}",
    "{key}",
    "={value}",
    "--{key}={value}",
)
FORMS += ("{key}.x={value}", "{key}@x={value}", "hydra.{key}={value}", "-m {key}={value}", "{key}={value} {key}=1")
WORK = {"sample": "sample npz", "bench": "bench", "train": "train", "convert": "convert"}


def of_lines(rng: random.Random, good: Path) -> Iterator[Attack]:
    """what was asked for, in one new folder"""
    while True:
        name = rng.choice(("sample", "sample", "sample", "bench", "train", "convert"))
        given = []
        for _ in range(rng.choice((1, 1, 1, 2))):
            key = rng.choice(KEYS[name].split())
            large = key not in LONG and not (name == "bench" and key == "n") and rng.random() < 0.1
            form = rng.choice(FORMS).format(key=key, value=rng.choice(LARGE if large else TYPED))
            given += form.split(" ", 1) if form.startswith("-m ") else [form]
        yield Attack(f"scoresde {name} {' '.join(given)!r:.300}", partial(_line, name, given))


def _line(name: str, given: list[str]) -> None:
    typed = {item.partition("=")[0] for item in given}
    usual = [word for word in (*kills.WORKS[WORK[name]], f"out={OUT}") if word.partition("=")[0] not in typed]
    before = set(os.listdir())
    said = say(*usual, *given)
    made = set(os.listdir()) - before
    check(len(made) <= 1, f"it made {sorted(made)}")
    if "-m" in given or not made:
        check(said, "it made nothing and said nothing")
        return
    out = Path(*made)
    if name == "sample" and (out / "config.yaml").is_file():
        found, config = shards.load(out), yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
        asked = config["n"] if config["seeds"] is None else len(found.seeds)
        check(len(found.seeds) == asked and len(found.labels) == asked, f"{len(found.seeds)} images of {asked}")
        check(found.samples is None or np.isfinite(found.samples).all(), "samples that are not finite")
        for item in given:
            if match := re.fullmatch(r"n=(\d+)", item):
                check(asked == int(match[1]), f"{asked} images")
    elif name == "train" and (out / "model").is_dir():
        values = models.load(out / "model").model.net.parameters()  # type: ignore[union-attr]
        check(all(value.isfinite().all() for value in values), "weights that are not finite")


# ---------------------------------------------------------------------------------------------------------------------
# names


NAMES = (
    "\x1b[31mred",
    "two\nlines",
    "=1+1",
    "@SUM(A1)",
    "$x$",
    "<img src=x onerror=alert(1)>",
    "%s%n",
    "a\\input{b}",
    "{0}",
)
NAMES += (
    "|a|b|",
    "[a](javascript:x)",
    "\u202eabc",
    "\udcff\udcfe",
    "é" * 60,
    "#",
    "~",
    "-x",
    "\x07\x08",
    "\u2028x",
    "'",
    '"',
)


def of_names(rng: random.Random, good: Path) -> Iterator[Attack]:
    """nothing unprintable on the terminal, and no markup that a name brought into a page or table"""
    while True:
        name, place = rng.choice(NAMES), rng.choice(("out", "model", "data", "classes", "edm"))
        yield Attack(f"{name!r} as the name of {place}", partial(_named, name, place, good))


def _named(name: str, place: str, good: Path) -> None:
    from scoresde.commands.app import quoted

    if place == "out":
        say(*_without(kills.WORKS["sample npz"], "metrics"), f"out={quoted(f'./{name}')}")
    elif place == "model":
        shutil.copytree(good / "model", name)
        say(*_without(kills.WORKS["bench"], "model.path"), f"model.path={quoted(f'./{name}')}", f"out={OUT}")
        page = Path(OUT, "report.html").read_text(encoding="utf-8")
        check("<img src=x" not in page, "the page has the name's markup")
        for kind in ("tex", "md", "csv"):
            text = Path(OUT, f"table.{kind}").read_text(encoding="utf-8")
            check("\x1b" not in text and "\\input{b}" not in text and "\n=1+1" not in text, f"the {kind} has the name")
    elif place == "edm":
        shutil.copy(good / "edm.pkl", f"{name}.pkl")
        say("convert", f"edm={quoted(f'./{name}.pkl')}", f"out={OUT}")
    else:
        folder = Path("photos", name) if place == "classes" else Path(name)
        folder.mkdir(parents=True)
        from PIL import Image

        for index in range(16):
            Image.fromarray(np.full((SIDE, SIDE), index, np.uint8)).save(folder / f"{index}.png")
        source = "photos" if place == "classes" else f"./{name}"
        say(
            *_without(kills.WORKS["train"], "data", "data.path"),
            "data=folder",
            f"data.path={quoted(source)}",
            f"out={OUT}",
        )


def _without(words: list[str], *keys: str) -> list[str]:
    return [word for word in words if word.partition("=")[0] not in keys]


# ---------------------------------------------------------------------------------------------------------------------
# options of solvers


def of_options(rng: random.Random, good: Path) -> Iterator[Attack]:
    """finite samples, the same twice"""
    names = sorted(solvers.names())
    process = scoresde.VP()
    model = scoresde.ScoreModel(lambda x, t: 0.3 * x, process)
    values = [
        *ODD,
        4,
        12,
        1e-12,
        1e-3,
        -0.5,
        1 + 1j,
        b"x",
        "cold",
        "edm",
        "flow",
        "bh2",
        "rk4",
        "karras",
        (1, 2),
        object,
    ]
    while True:
        name = rng.choice(names)
        options = [key for key in solvers.get(name).options if key != "max_nfe"] or ["eta"]
        key, value = rng.choice(options), rng.choice(values)
        yield Attack(f"{name}, {key} = {value!r:.40}", partial(_option, model, name, key, value))


def _option(model: scoresde.ScoreModel, name: str, key: str, value: Any) -> None:
    solver = solvers.get(name, **{key: value})
    more: dict[str, Any] = {} if solver.adaptive else {"nfe": 6}
    first, second = (scoresde.sample(model, solver, shape=(2, 1, 2, 2), seeds=0, **more).samples for _ in range(2))
    check(first.isfinite().all(), "samples that are not finite")
    check(torch.equal(first, second), "other samples the second time")
    default = solvers.get(name).options.get(key)
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    check(not (number and not isinstance(value, (int, float, type(None)))), "taken for a number")
    check(not (isinstance(value, float) and math.isnan(value)), "NaN is taken")


# ---------------------------------------------------------------------------------------------------------------------
# calls


class _Writes(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.mul_(0.3)


class _Again(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = torch.empty(0)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.buffer.shape != x.shape:
            self.buffer = torch.empty_like(x)
        return torch.mul(x, 0.3, out=self.buffer)


class _Draws(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.dropout(0.3 * x)


# Networks, and whether the samples must be those of 0.3 x where they are taken.
NETWORKS: dict[str, tuple[Callable[[], Any], bool]] = {
    "writes into its input": (_Writes, True),
    "returns one buffer": (_Again, True),
    "dropout": (_Draws, False),
    "none": (lambda: lambda x, t: None, False),
    "a tuple": (lambda: lambda x, t: (0.3 * x,), True),
    "a dictionary": (lambda: lambda x, t: {"sample": 0.3 * x}, True),
    "another shape": (lambda: lambda x, t: 0.3 * x[:, :, :1], False),
    "broadcast": (lambda: lambda x, t: torch.zeros(1), False),
    "complex": (lambda: lambda x, t: 0.3 * x + 0.1j, False),
    "booleans": (lambda: lambda x, t: x > 0, False),
    "integers": (lambda: lambda x, t: (0.3 * x).to(torch.int64), False),
    "not finite": (lambda: lambda x, t: x / 0, False),
    "not finite once": (lambda: lambda x, t: torch.where(t.flatten()[0] < 0.5, x / 0, 0.3 * x), False),
    "double": (lambda: lambda x, t: 0.3 * x.double(), True),
    "half": (lambda: lambda x, t: (0.3 * x).to(torch.bfloat16), False),
    "strided": (lambda: lambda x, t: (0.3 * x.mT).contiguous().mT, True),
    "expanded": (lambda: lambda x, t: (0.3 * x)[:1].expand_as(x), False),
    "its input": (lambda: lambda x, t: x, False),
    "a view of its input": (lambda: lambda x, t: x.view_as(x), False),
    "meta": (lambda: lambda x, t: x.to("meta"), False),
    "sparse": (lambda: lambda x, t: (0.3 * x).to_sparse(), False),
    "numpy": (lambda: lambda x, t: (0.3 * x).numpy(), False),
    "raises": (lambda: _raises, False),
    "needs gradients": (lambda: lambda x, t: (0.3 * x).requires_grad_(), True),
    "changes the time": (lambda: lambda x, t: (t.zero_(), 0.3 * x)[1], True),
    "no network": (lambda: 3, False),
}


def _raises(x: Tensor, t: Tensor) -> Tensor:
    raise ValueError("of the network")


COUNT, INNER = 4, (1, 4, 4)
STATE = torch.arange(64.0).view(COUNT, *INNER) / 32 - 1
# Arguments, and whether the samples must be those of the usual ones where they are taken.
ARGUMENTS: dict[str, Sequence[Any]] = {
    "shape": [
        (value, False)
        for value in ((), (0, 1, 4, 4), (-1, 1, 4, 4), (4,), (4.0, 1, 4, 4), "x", 4, None, (True, 1, 4, 4))
    ]
    + [((10**12, 1, 4, 4), False), ((4, 0, 4), False), ([4, 1, 4, 4], True), (torch.Size((4, 1, 4, 4)), True)],
    "x_init": [
        (value, False) for value in (STATE.long(), STATE.to(torch.complex64), STATE > 0, STATE[0, 0, 0, 0], STATE / 0)
    ]
    + [(STATE.numpy(), False), (STATE.tolist(), False), (STATE.to("meta"), False), (STATE.half(), False), ("x", False)],
    "grid": [
        (value, False) for value in ("unknown", "", [1.0], [0.1, 0.9], [float("nan"), 0.0], [0.9, 0.9, 0.0], [2.0, 0.0])
    ]
    + [
        (3, False),
        ({}, False),
        ([], False),
        ([0.9, 0.1, -5], False),
        (["a", "b"], False),
        ([1e-9, 0], False),
        (object(), False),
    ],
    "seeds": [
        (value, False) for value in (-1, 2**63, 2**64, 1.5, True, "0", [0, 1], [0, 1, 2, -3], [None] * 4, [0.5] * 4, {})
    ]
    + [(range(4), True), ([0, 1, 2, 3], True), (np.arange(4), True), (torch.arange(4), True), ((0, 1, 2, 3), True)],
    "cond": [
        (value, False) for value in ([], 3, {"label": torch.zeros(3)}, {1: torch.zeros(4)}, {"label": object()}, "x")
    ]
    + [({"x": torch.zeros(4)}, False), ({"t": torch.zeros(4)}, False), ({"label": torch.tensor(1)}, False), ({}, True)],
    "batch_size": [(value, False) for value in (0, -1, 1.5, True, "2", float("nan"), [2])]
    + [(2, True), (3, True), (100, True)],
    "dtype": [(value, False) for value in (torch.float16, torch.int64, "float32", torch.complex64, 3, float)]
    + [(torch.float32, True)],
    "device": [(value, False) for value in ("cuda:99", "meta", "xyz", 3, 1.5, object())] + [("cpu", True)],
    "nfe": [(value, False) for value in (0, -1, 1.5, True, "4", float("nan"), [4], 10**30)],
    "steps": [(value, False) for value in (0, -1, 1.5, True, "4", 2)],
    "solver": [(value, False) for value in ("unknown", "", 3, None, object, "dpmpp_2M", ["ddim"], nn.Identity())],
    "callback": [
        (value, False) for value in ("x", lambda x, t: x[:1], lambda x, t: "x", lambda x, t: x / 0, lambda x: x, 3)
    ]
    + [(lambda x, t: None, True), (lambda x, t: x, True)],
    "decode": [(value, False) for value in ("x", lambda x: None, lambda x: "x", lambda x: x[:1], 3)]
    + [(lambda x: x, True)],
    "progress": [(value, False) for value in (lambda: None,)] + [(True, True), (lambda share: None, True)],
    "trajectory": [(True, True)],
    "more": [(1, False)],
}
IMAGES: dict[str, Any] = {
    "complex": torch.zeros(2, 1, SIDE, SIDE, dtype=torch.complex64),
    "booleans": torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool),
    "NaN": torch.full((2, 1, SIDE, SIDE), float("nan")),
    "infinite": torch.full((2, 1, SIDE, SIDE), float("inf")),
    "64-bit": torch.zeros(2, 1, SIDE, SIDE, dtype=torch.int64),
    "no batch": torch.zeros(1, SIDE, SIDE),
    "no images": torch.zeros(0, 1, SIDE, SIDE),
    "colour": torch.zeros(2, 3, SIDE, SIDE),
    "larger": torch.zeros(2, 1, 9, 9),
    "numpy": np.zeros((2, 1, SIDE, SIDE)),
    "a list": [[0.0]],
    "none": None,
    "meta": torch.zeros(2, 1, SIDE, SIDE, device="meta"),
}


def of_calls(rng: random.Random, good: Path) -> Iterator[Attack]:
    """the samples of the usual call, where the odd one means the same; finite ones otherwise"""
    names = [name for name in sorted(solvers.names()) if not solvers.get(name).adaptive]
    space = load_features(good / "features")
    for about, images in IMAGES.items():
        yield Attack(f"features of images: {about}", partial(_features, space, images))
    while True:
        solver = rng.choice(names)
        if rng.random() < 0.4:
            name = rng.choice(list(NETWORKS))
            yield Attack(f"{solver}, a network: {name}", partial(_network, solver, *NETWORKS[name]))
        else:
            key = rng.choice(list(ARGUMENTS))
            value, same = rng.choice(ARGUMENTS[key])
            yield Attack(f"{solver}, {key} = {value!r:.60}", partial(_call, solver, key, value, same))


def _features(space: FeatureSpace, images: Any) -> None:
    found = space.features(images)
    check(found.shape == (len(images), space.size) and found.isfinite().all(), f"features {tuple(found.shape)}")


def _samples(network: Any, solver: Any = "ddim", **more: Any) -> Tensor:
    arguments = {"shape": (COUNT, *INNER), "nfe": 7, "seeds": 0, **more}
    model = scoresde.ScoreModel(network, scoresde.VP())
    return scoresde.sample(model, solver, **arguments).samples


def _usual(x: Tensor, t: Tensor, **more: Tensor) -> Tensor:
    return 0.3 * x


def _network(solver: str, make: Callable[[], Any], same: bool) -> None:
    found = _samples(make(), solver)
    check(found.isfinite().all(), "samples that are not finite")
    check(not same or torch.allclose(found, _samples(_usual, solver), atol=1e-5), "other samples than the network's")


def _call(solver: str, key: str, value: Any, same: bool) -> None:
    more = {key: value}
    if key == "x_init":
        more["shape"] = None
    elif key == "solver":
        solver = value
        more = {}
    elif key == "steps" or key == "grid" and not isinstance(value, str):
        more["nfe"] = None
    found = _samples(_usual, solver, **more)
    check(found.dtype in (torch.float32, torch.float64) and found.isfinite().all(), f"{found.dtype}, or not finite")
    check(not same or torch.allclose(found, _samples(_usual, solver), atol=1e-5), "other samples than the usual call's")


KINDS: dict[str, tuple[int, Kind]] = {
    "folders of samples": (22, of_samples),
    "folders of benchmarks": (8, of_benchmarks),
    "folders of trainings": (8, of_trainings),
    "folders of conversions": (4, of_conversions),
    "command lines": (34, of_lines),
    "names": (8, of_names),
    "options of solvers": (20, of_options),
    "calls": (26, of_calls),
}
