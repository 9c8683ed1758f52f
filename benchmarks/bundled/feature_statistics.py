"""Write what FID and its floors need beside a model.

    python benchmarks/bundled/feature_statistics.py --data <npz.xz> --out <folder>

The folder holds ``features/`` (see benchmarks/bundled/features.py). It gets ``reference.npz`` and ``test_features.npz``
from the data, and with ``--converged`` ``converged_features.npz`` from the model in it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import scoresde
import scoresde.models
import solvers
from scoresde.data import Images, load
from scoresde.metrics import FeatureSpace, Moments, SampleFeatures, class_labels, load_features

SHUFFLE = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled images: an npz with train and test splits, or 'digits'")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder")
    converged = parser.add_argument_group("the model's converged solution")
    converged.add_argument("--converged", action="store_true", help="sample the model in the folder")
    converged.add_argument("--samples", type=int, default=10_000)
    converged.add_argument("--solver", default="dpmpp_2m")
    converged.add_argument("--options", type=json.loads, default={}, help="of the solver, as JSON")
    converged.add_argument("--steps", type=int, help="none for a solver that chooses its own")
    converged.add_argument("--grid", help="name of the grid; the solver's own by default")
    converged.add_argument("--batch-size", type=int, default=250)
    converged.add_argument("--bf16", action="store_true", help="run the network in bfloat16, the state in float32")
    args = parser.parse_args()
    if not args.data and not args.converged:
        parser.error("give --data, --converged or both")

    space = load_features(args.out / "features")
    if args.data:
        from_data(labelled(args.data, "train"), labelled(args.data, "test"), space, args.out)
    if args.converged:
        about = from_model(
            args.out,
            space,
            args.samples,
            solvers.get(args.solver, **args.options),
            steps=args.steps,
            grid=args.grid,
            batch_size=args.batch_size,
            dtype=torch.bfloat16 if args.bf16 else torch.float32,
        )
        print(json.dumps(about, indent=2))


def from_data(reference: Images, test: Images, space: FeatureSpace, out: Path) -> None:
    """Write the moments of the reference images' features, and the features of the test images in a fair order.

    Args:
        reference: with labels, their classes in the proportions of the training images.
        test: with labels.
        space, out: the feature space, and the folder.
    """
    assert reference.labels is not None and test.labels is not None
    moments = Moments(space.size, space.name)
    moments.update(space.features(reference.pixels))
    moments.save(out / "reference.npz")

    test = fairly(test)
    assert test.labels is not None
    counts = torch.bincount(reference.labels).tolist()
    about = {"images": f"the {len(test)} test images", "shuffle_seed": SHUFFLE, "training_class_counts": counts}
    features = space.features(test.pixels).numpy()
    SampleFeatures(space.name, features, test.labels.numpy(), about).save(out / "test_features.npz")


def labelled(source: str, split: str) -> Images:
    data = load(source, split)
    if data.labels is None:
        raise SystemExit(f"{source} has no labels, and the statistics keep classes in proportion")
    return data


def fairly(data: Images, count: int | None = None) -> Images:
    """Labelled images in :func:`fair_order`, or the first ``count`` of them."""
    assert data.labels is not None
    return data.take(fair_order(data.labels)[:count])


def fair_order(labels: Tensor) -> Tensor:
    """A permutation of images of which every stretch has the class shares of the whole, random within each class.

    Its labels are :func:`class_labels` of the images' own counts. Real images drawn without regard to class would
    differ from generated samples by the chance of their class counts. The training set's shares would run out: MNIST's
    test split has 3 % fewer sixes, and its last 300 images would be of the other classes.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SHUFFLE))
    members = shuffled[labels[shuffled].argsort(stable=True)]
    slots = class_labels(len(labels), torch.bincount(labels).tolist()).argsort(stable=True)
    order = torch.empty_like(members)
    order[slots] = members
    return order


def from_model(
    out: Path,
    space: FeatureSpace,
    samples: int,
    solver: solvers.Solver,
    *,
    steps: int | None,
    grid: str | None,
    batch_size: int,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Write the features of samples with seeds 0, 1, …; returns what is written about them.

    Their classes are in the proportions of the training images, as recorded with the features of the test images.
    """
    checkpoint = scoresde.models.load(out, dtype=dtype)
    labels = class_labels(samples, SampleFeatures.load(out / "test_features.npz").about["training_class_counts"])
    features: list[Tensor] = []
    right, nfe = 0, 0
    start = time.perf_counter()
    for first in tqdm(range(0, samples, batch_size), unit_scale=batch_size, unit="images"):
        label = labels[first : first + batch_size]
        result = scoresde.sample(
            checkpoint.model,
            solver,
            steps=steps,
            shape=(len(label), *checkpoint.shape),
            grid=grid,
            seeds=first,
            cond={"label": label},
            batch_size=batch_size,
        )
        features.append(space.features(result.samples))
        right += int((space.classify(result.samples).argmax(1) == label).sum())
        nfe = max(nfe, result.nfe)
    about = {
        "images": f"the converged samples of seeds 0 to {samples - 1}",
        "model": scoresde.models.fingerprint(out),
        "solver": solver.name,
        "options": dict(solver.options),
        "steps": steps,
        "grid": grid or solver.grid,
        "nfe": nfe,
        "batch_size": batch_size,
        "network_dtype": str(dtype).removeprefix("torch."),
        "of_their_class": right / samples,
        "seconds": round(time.perf_counter() - start, 1),
    }
    SampleFeatures(space.name, torch.cat(features).numpy(), labels.numpy(), about).save(out / "converged_features.npz")
    return about


if __name__ == "__main__":
    main()
