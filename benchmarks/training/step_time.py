"""Where the time of a training step goes: python -m benchmarks.training.step_time --data FOLDER.

``Trainer`` runs as ``scoresde train`` runs it, on one thread, and every part that is not the network is timed where it
is called: images taken from memory or from the mapped file and mirrored, EDM's augmentation, draws of times and noise,
the optimiser with its clipping, the averages. The rest is the network, forward and backward. ``--data`` is the folder
of mnist.npz.xz and cifar10-train.tar.xz; photos of 64 × 64 are CIFAR-10's, enlarged. The table is
``results/step_time.md``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.recorded import RESULTS, write
from scoresde import models, process
from scoresde.data import Images, Resizing, load, load_mapped
from scoresde.runs.hardware import describe
from scoresde.training import Settings, Trainer, objectives
from scoresde.training import trainer as parts

COMMAND = "python -m benchmarks.training.step_time --data FOLDER"
FIRST, STEPS = 3, 15  # steps that are not counted, and those that are
UNET: dict[str, Any] = {"name": "unet", "channels": [64, 128]}
# Of the trainer: object, attribute, and the column of the table.
TIMED = [
    (Images, "take", "images"),
    (parts, "mirrored", "images"),
    (parts, "to_state", "images"),
    (parts.augmentation, "augmented", "augmentation"),
    (parts.Task, "draw", "times and noise"),
    (nn.utils, "clip_grad_norm_", "optimiser"),
    (torch.optim.Adam, "step", "optimiser"),
    (parts.averages, "update", "averages"),
]
COLUMNS = ("images", "augmentation", "times and noise", "optimiser", "averages")


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add up what is spent in each part; parts in parts count once."""
    inside: list[str] = []

    def wrapped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            inside.append(name)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                inside.pop()
                if not inside:
                    spent[name] += time.perf_counter() - start

        return call

    patches = [patch.object(owner, name, wrapped(getattr(owner, name), column)) for owner, name, column in TIMED]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def measured(data: Images, network: dict[str, Any], **options: Any) -> dict[str, float]:
    """Seconds of a step, and in each part of it."""
    settings = Settings(epochs=1, averages=(0.05, 0.1))
    net = models.build({**network, "in_channels": data.shape[0], "num_classes": data.classes}, data.shape)
    seen = data.part(torch.randperm(len(data))[: (FIRST + STEPS) * settings.batch_size])
    steps: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Trainer(net, process.VP(), None, seen, settings, folder, objective=objectives.ddpm(), **options)
        spent: dict[str, float] = defaultdict(float)
        last = time.perf_counter()

        def report(_: Trainer) -> None:
            nonlocal last
            now = time.perf_counter()
            steps.append({"step": now - last, **spent})
            spent.clear()
            last = time.perf_counter()

        with timed(spent), patch.object(Trainer, "save", lambda _: None):
            run.run(report, every=1)
    counted = steps[FIRST:]
    return {key: statistics.median(step.get(key, 0.0) for step in counted) for key in ("step", *COLUMNS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of mnist.npz.xz and cifar10-train.tar.xz")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mnist, cifar = load(arguments.data / "mnist.npz.xz"), load(arguments.data / "cifar10-train.tar.xz")
    large = Resizing(size=64)
    rows: list[tuple[str, Images, dict[str, Any], dict[str, Any]]] = [
        ("MNIST, the bundled network", mnist, UNET, {}),
        ("CIFAR-10, the same network, mirrored", cifar, UNET, {"flip": True}),
        ("the same from a mapped file", load_mapped(arguments.data / "cifar10-train.tar.xz"), UNET, {"flip": True}),
        ("the same with EDM's augmentation", cifar, {**UNET, "augment": 9}, {"flip": True, "augment": 0.12}),
        (
            "64 × 64 from a mapped file, three resolutions, mirrored",
            load_mapped(arguments.data / "cifar10-train.tar.xz", resizing=large),
            {"name": "unet", "channels": [64, 128, 256]},
            {"flip": True},
        ),
    ]
    words = (
        f"`{COMMAND}`: milliseconds of a step of 128 images, medians of {STEPS}, on one thread of "
        f"{describe(torch.device('cpu'))}, torch {torch.__version__}; two further averages. Share: of the step, what "
        "is done to get the images, augmentation included, before the network sees them."
    )
    lines = ["# The time of a training step", "", *textwrap.wrap(words, 120), ""]
    lines += [f"| | step | {' | '.join(COLUMNS)} | network | share |", "|---|" + "---:|" * (len(COLUMNS) + 3)]
    for name, data, network, options in rows:
        found = measured(data, network, **options)
        rest = found["step"] - sum(found[column] for column in COLUMNS)
        share = (found["images"] + found["augmentation"]) / found["step"]
        cells = [f"{1000 * found[key]:.1f}" for key in ("step", *COLUMNS)]
        lines.append(f"| {name} | {' | '.join(cells)} | {1000 * rest:.1f} | {share:.1%} |")
        print(lines[-1], flush=True)
    write(RESULTS / "step_time.md", lines)


if __name__ == "__main__":
    main()
