"""Objectives, processes and what networks return, at equal cost: python -m benchmarks.training.objectives.

The same network is trained for the same number of steps on the same images, three seeds each, and judged alike: EDM's
loss of its denoiser on test images, which counts every level as often and as much for all, and FID in the bundled
model's feature space after few and after many evaluations of dpmpp_2m. ``--data`` is mnist.npz.xz. What is done is kept
in ``--out``, and a run that was stopped goes on there; the table is ``results/objectives.md``.
"""

from __future__ import annotations

import statistics
import textwrap

import torch

from benchmarks.bundled.feature_statistics import fairly, labelled
from benchmarks.recorded import RESULTS, write
from benchmarks.training.variants import Study, Variant, all_of, asked
from scoresde.data import load
from scoresde.metrics import BUNDLED, Moments, load_features
from scoresde.runs.hardware import describe

STEPS, SEEDS = 500, (0, 1, 2)
SAMPLES, BUDGETS = 1000, (8, 25)
NETWORK = {"name": "unet", "channels": [32, 64], "depth": 2}
VP, EDM, VE, FLOW = ({"name": name} for name in ("vp", "edm", "ve", "flow"))
COMMAND = "python -m benchmarks.training.objectives --data mnist.npz.xz"
VARIANTS = [
    Variant(name, process, {"name": objective}, prediction, NETWORK)
    for name, process, objective, prediction in (
        ("vp, ddpm, ε", VP, "ddpm", None),
        ("vp, ddpm, v", VP, "ddpm", "v_prediction"),
        ("vp, min_snr, ε", VP, "min_snr", None),
        ("vp, min_snr, v", VP, "min_snr", "v_prediction"),
        ("vp, edm, edm", VP, "edm", None),
        ("vp at zero SNR, v_prediction, v", VP, "v_prediction", None),
        ("flow, flow, flow", FLOW, "flow", None),
        ("edm, edm, edm", EDM, "edm", None),
        ("ve, edm, edm", VE, "edm", None),
        ("edm, ddpm, ε", EDM, "ddpm", None),
        ("ve, ddpm, ε", VE, "ddpm", None),
    )
]


def study(data: str) -> Study:
    train, test = load(data), fairly(labelled(data, "test"), 2000)
    space = load_features(BUNDLED / "features")
    return Study(train, test, space, Moments.load(BUNDLED / "reference.npz"), SAMPLES, BUDGETS)


def main() -> None:
    arguments = asked(__doc__, "mnist.npz.xz", "objectives")
    tasks = [(variant, seed, STEPS) for seed in SEEDS for variant in VARIANTS]
    found = all_of(study, [arguments.data], tasks, arguments.out, arguments.jobs)
    words = (
        f"`{COMMAND}`: {STEPS} steps of 128 images of MNIST, U-Net {tuple(NETWORK['channels'])}, Adam at 1e-3 with a "
        f"cosine, bfloat16 on {describe(torch.device('cpu'))}, torch {torch.__version__}. Mean of "
        f"{len(SEEDS)} seeds ± their standard deviation; {SAMPLES:,} samples, the same noise and labels for all. "
        "Columns: EDM's loss of the denoiser on 2,000 test images; FID in the bundled model's feature space after "
        f"{BUDGETS[0]} and {BUDGETS[1]} evaluations of dpmpp_2m. Rows: the process, the objective, and what the "
        "network returns. Steps cost the same in all of them."
    )
    lines = ["# Objectives at equal cost", "", *textwrap.wrap(words, 120), ""]
    lines += [f"| | EDM loss | {' | '.join(f'FID, {nfe} NFE' for nfe in BUDGETS)} |", "|---|---:|---:|---:|"]
    for variant in VARIANTS:
        rows = [found[f"{variant.name} {seed}"] for seed in SEEDS]
        cells = []
        for key, digits in (("edm_loss", 4), *((f"fid_{nfe}", 2) for nfe in BUDGETS)):
            each = [row[key] for row in rows]
            cells.append(f"{statistics.mean(each):.{digits}f} ± {statistics.stdev(each):.{digits}f}")
        lines.append(f"| {variant.name} | {' | '.join(cells)} |")
    write(RESULTS / "objectives.md", lines)


if __name__ == "__main__":
    main()
