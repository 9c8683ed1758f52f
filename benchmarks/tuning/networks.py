"""Small trained networks of the family that plans for all models are fitted to: python -m benchmarks.tuning.networks.

A network's D is not that of any data: it is rough, and at high noise its error grows with the noise. Each is trained
for a minute or two by ``scoresde train``, on images other than those that auto is judged on (MNIST): scikit-learn's
digits, patches of its photographs, CIFAR-10 in colour and grey at 16 × 16. ``--data`` is the folder of CIFAR-10,
``--out`` that of the trained networks, which are gone on with where they are there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.tuning.family import patches
from scoresde import models
from scoresde.networks.checkpoint import Checkpoint
from scoresde.tuning import teacher
from scoresde.tuning.scale import measured
from scoresde.tuning.trajectories import Trajectories

OUT = Path("build/networks")
SIDE = 16  # of images
STEPS = 256  # of the converged solution
CIFAR = ("data=archive", "data.path={data}/cifar10-train.tar.xz", f"data.size={SIDE}")
NETWORKS: dict[str, tuple[str, ...]] = {
    "digits, vp": ("data=digits", "process=vp", "network.channels=[24,48]", "epochs=150"),
    "patches, edm": ("data=npz", "data.path={out}/patches.npz", "process=edm", "prediction=sample", "epochs=40"),
    "cifar, flow": (*CIFAR, "process=flow", "prediction=flow", "epochs=3"),
    "cifar grey, vp": (*CIFAR, "data.channels=1", "process=vp", "prediction=v_prediction", "epochs=3"),
}
SHARED = ("objective=ddpm", "network.channels=[32,64]", "network.depth=1", "warmup=100", "ema=0.99", "seed=7")


def folder(name: str, out: Path) -> Path:
    """Where a network is, once it is trained."""
    return out / name.replace(", ", "-").replace(" ", "-") / "model"


def trained(name: str, out: Path, data: Path) -> Path:
    """The folder of a network, which is trained where it is not."""
    own = [setting.format(data=data, out=out) for setting in NETWORKS[name]]
    shared = [each for each in SHARED if not any(setting.split("=")[0] == each.split("=")[0] for setting in own)]
    command = [sys.executable, "-m", "scoresde", "train", *own, *shared, f"out={folder(name, out).parent}"]
    subprocess.run(command, check=True)
    return folder(name, out)


def trajectories(place: Path, samples: int, seed: int) -> Trajectories:
    """Starts of a trained network with their converged ends, levels in multiples of its σ*."""
    begun = starts(models.load(place), samples, seed)
    return replace(teacher.ended(begun, STEPS), unit=measured(begun.part(range(min(16, samples)))))


def starts(checkpoint: Checkpoint, samples: int, seed: int) -> Trajectories:
    """Starts of a network."""
    seeds = range(seed, seed + samples)
    return Trajectories.of(checkpoint.model, seeds, checkpoint.shape, cond=cond(checkpoint, samples), batch_size=64)


def cond(checkpoint: Checkpoint, samples: int) -> dict[str, torch.Tensor]:
    """Its classes in turn, where there are any."""
    return {"label": torch.arange(samples) % checkpoint.classes} if checkpoint.classes else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10-train.tar.xz")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    states = patches(SIDE).reshape(-1, SIDE, SIDE, 3)
    np.savez(arguments.out / "patches.npz", images=np.asarray((states + 1) * 127.5).round().astype(np.uint8))
    for name in NETWORKS:
        print(name, trained(name, arguments.out, arguments.data), flush=True)


if __name__ == "__main__":
    main()
