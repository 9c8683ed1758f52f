"""What learns most of CIFAR-10 in five minutes of a CPU: python -m benchmarks.training.networks.

Networks, objectives, batches and rates that each differ from :data:`BASE` in one thing are trained for the same time in
one thread, with the learning rate falling to its end in it, and judged alike: EDM's loss of the denoiser on test
images, and FID in the space of the classifier of ``benchmarks/models/cifar10`` against images that neither it nor they
were trained on. ``--data`` is the folder of cifar10-train.tar.xz and cifar10-test.tar.xz. What is done is kept in
``--out``, and a run that was stopped goes on there; the table is ``results/networks_cifar10.md``.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bundled.feature_statistics import fairly, labelled
from benchmarks.recorded import RESULTS, write
from benchmarks.training.variants import Study, Variant, all_of, asked, step_seconds, trainer
from scoresde.data import load
from scoresde.files import replacing
from scoresde.metrics import Moments, load_features
from scoresde.runs.hardware import describe

SECONDS = 300.0
SAMPLES, BUDGETS = 1000, (20,)
FEATURES = Path(__file__).parents[1] / "models" / "cifar10"
COMMAND = "python -m benchmarks.training.networks --data FOLDER"
EDM = {"name": "edm"}
UNET: dict[str, Any] = {"name": "unet", "channels": [64, 128], "depth": 2, "fold": 2}
BASE = Variant("unet (64, 128), fold 2, edm", EDM, EDM, None, UNET, {}, flip=True)


def _unet(name: str, **options: Any) -> Variant:
    return replace(BASE, name=name, network={**UNET, **options})


def _trained(name: str, process: str, objective: str, prediction: str | None = None) -> Variant:
    return replace(BASE, name=name, process={"name": process}, objective={"name": objective}, prediction=prediction)


VARIANTS = [
    BASE,
    _unet("unet (96, 192)", channels=[96, 192]),
    _unet("unet (128, 256)", channels=[128, 256]),
    _unet("unet (32, 64, 128), fold 1", channels=[32, 64, 128], fold=1),
    _unet("unet (128, 256), fold 4", channels=[128, 256], fold=4),
    replace(BASE, name="dit, patch 4", network={"name": "dit", "patch": 4}, settings={"learning_rate": 3e-4}),
    _trained("flow, flow", "flow", "flow"),
    _trained("vp, ddpm", "vp", "ddpm", "epsilon"),
    _trained("vp, min_snr, v", "vp", "min_snr", "v_prediction"),
    replace(BASE, name="batch of 64", settings={"batch_size": 64}),
    replace(BASE, name="batch of 256", settings={"batch_size": 256}),
    replace(BASE, name="rate of 2e-3", settings={"learning_rate": 2e-3}),
]


def study(data: str) -> Study:
    train, test = load(Path(data) / "cifar10-train.tar.xz"), labelled(str(Path(data) / "cifar10-test.tar.xz"), "test")
    space = load_features(FEATURES / "features")
    test = fairly(test, 2000)
    return Study(train, test, space, Moments.load(FEATURES / "reference.npz"), SAMPLES, BUDGETS)


def lengths(data: str, out: Path) -> dict[str, int]:
    """Steps of each variant in ``SECONDS``, measured one after the other with nothing beside; kept."""
    kept = out / "steps.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    torch.set_num_threads(1)
    images = load(Path(data) / "cifar10-train.tar.xz")
    for variant in VARIANTS:
        if variant.name not in found:
            found[variant.name] = round(SECONDS / step_seconds(variant, images, out))
            with replacing(kept) as path:
                path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> None:
    arguments = asked(__doc__, "folder of both tars", "networks_cifar10")
    steps = lengths(arguments.data, arguments.out)
    tasks = [(variant, 0, steps[variant.name]) for variant in VARIANTS]
    found = all_of(study, [arguments.data], tasks, arguments.out, arguments.jobs)
    images = study(arguments.data)
    words = (
        f"`{COMMAND}`: as many steps of CIFAR-10, mirrored at random, as one thread of {describe(torch.device('cpu'))} "
        f"takes in {SECONDS:.0f} s alone, torch {torch.__version__}; one seed. The first row is a U-Net inside EDM's "
        "preconditioning with EDM's objective on its process, batches of 128, Adam at 1e-3 with a cosine; each other "
        f"row says what differs. EDM's loss of the denoiser on {len(images.test):,} test images; FID of {SAMPLES:,} "
        f"samples after {BUDGETS[0]} evaluations of dpmpp_2m in {images.space}."
    )
    lines = ["# Five minutes of CIFAR-10", "", *textwrap.wrap(words, 120), ""]
    lines += ["| | weights | images seen | EDM loss | FID |", "|---|---:|---:|---:|---:|"]
    for variant in VARIANTS:
        figures = found[f"{variant.name} 0"]
        run = trainer(variant, images.train, steps[variant.name], 0, arguments.out)
        weights = sum(value.numel() for value in run.net.parameters())
        seen = run.steps * run.settings.batch_size
        lines.append(
            f"| {variant.name} | {weights:,} | {seen:,} | {figures['edm_loss']:.4f} | "
            f"{figures[f'fid_{BUDGETS[0]}']:.1f} |"
        )
    write(RESULTS / "networks_cifar10.md", lines)


if __name__ == "__main__":
    main()
