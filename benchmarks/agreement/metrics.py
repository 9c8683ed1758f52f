"""FID, KID, precision and recall beside torch-fidelity's: python benchmarks/agreement/metrics.py [--out FILE].

Run it in an environment of its own, with torch-fidelity in it:

    python -m venv peers && peers/bin/pip install torch scipy tqdm requests pillow safetensors
    peers/bin/pip install --no-deps torch-fidelity
    PYTHONPATH=. peers/bin/python benchmarks/agreement/metrics.py

Both get the same features; torch-fidelity's KID takes subsets of equal size, and one subset of all samples is the whole
statistic, so both sides have one count there. Inception-v3 has random weights, which is enough to see that images reach
it in the same way. torchvision, which torch-fidelity imports and these functions do not use, is replaced by an empty
stand-in where it does not load.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import scoresde
from benchmarks.recorded import RESULTS
from scoresde.files import replacing
from scoresde.metrics import BUNDLED, Moments, SampleFeatures, frechet_distance, spaces
from scoresde.metrics.collector import kid, precision_recall

OUT = RESULTS / "agreement_metrics.md"
TOLERANCE = 1e-6
PARTS = ("datasets", "models", "transforms", "transforms.functional")  # of torchvision that torch-fidelity imports


def torch_fidelity() -> Any:
    """The package, with a stand-in for torchvision where that is absent or of another build than torch."""
    try:
        import torchvision  # type: ignore[reportMissingImports] # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("torchvision", *(f"torchvision.{part}" for part in PARTS)):
            module: Any = types.ModuleType(name)
            module.__path__ = []
            module.__getattr__ = lambda attribute: type(attribute, (), {})
            sys.modules[name] = module
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, module)
    import torch_fidelity  # type: ignore[reportMissingImports]

    return torch_fidelity


def problems() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples and real images by name, float64, as many of one as of the other."""
    real = SampleFeatures.load(BUNDLED / "test_features.npz").features.astype(np.float64)
    model = SampleFeatures.load(BUNDLED / "converged_features.npz").features.astype(np.float64)
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(256, 256)) / 16
    return {
        "model's samples and test images, 64 features, 5,000": (model[:5000], real[:5000]),
        "test images and test images, 64 features, 5,000": (real[5000:], real[:5000]),
        "Gaussian, 256 features, 2,000": (
            generator.normal(size=(2000, 256)) @ mixing + 0.1,
            generator.normal(size=(2000, 256)) @ mixing,
        ),
        "uniform, 16 features, 500": (generator.uniform(size=(500, 16)), generator.uniform(size=(500, 16)) * 1.2),
    }


def theirs(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    from torch_fidelity import metric_fid, metric_kid, metric_prc  # type: ignore[reportMissingImports]

    a, b = torch.from_numpy(x), torch.from_numpy(y)
    statistics = [metric_fid.fid_features_to_statistics(part) for part in (a, b)]
    of_kid = metric_kid.kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=len(a), verbose=False)
    of_prc = metric_prc.prc_features_to_metric(a, b, prc_neighborhood=3, verbose=False)
    return {
        "fid": metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID],
        "kid": of_kid[metric_kid.KEY_METRIC_KID_MEAN],
        "precision": of_prc[metric_prc.KEY_METRIC_PRECISION],
        "recall": of_prc[metric_prc.KEY_METRIC_RECALL],
    }


def ours(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    moments = [Moments(x.shape[1]) for _ in range(2)]
    for one, features in zip(moments, (x, y), strict=True):
        for batch in np.array_split(features, 7):
            one.update(batch)
    precision, recall = precision_recall(x, y)
    return {
        "fid": frechet_distance(*moments),
        "kid": kid(x, y).value,
        "precision": precision.value,
        "recall": recall.value,
    }


def inception(path: Path) -> float:
    """Largest difference between the features of both, for grey and colour images, with one file of random weights."""
    from torch_fidelity import registry  # type: ignore[reportMissingImports]

    kind = registry.FEATURE_EXTRACTORS_REGISTRY["inception-v3-compat"]
    template = constructed(kind)
    torch.manual_seed(0)
    for value in template.values():
        if value.is_floating_point() and value.ndim > 1:
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
    torch.save(template, path)
    space = spaces.get("inception", weights=str(path))
    extractor = kind("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    worst = 0.0
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (50, channels, 32, 32), dtype=torch.uint8)
        with torch.no_grad():
            expected = extractor(pixels.expand(-1, 3, -1, -1))[0]
        worst = max(worst, float((space.features(pixels) - expected).abs().max() / expected.abs().max()))
    return worst


def constructed(kind: Any) -> dict[str, torch.Tensor]:
    """The tensors that the extractor's constructor wants to load, caught on their way in."""
    caught: dict[str, torch.Tensor] = {}
    load: Callable[..., Any] = torch.load
    strict = kind.load_state_dict

    def catch(self: Any, state: Any) -> None:
        caught.update(self.state_dict())

    torch.load, kind.load_state_dict = lambda *_, **__: {}, catch
    try:
        kind("inception-v3-compat", ["2048"], feature_extractor_weights_path="none")
    finally:
        torch.load, kind.load_state_dict = load, strict
    return caught


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="the report; numbers go into a .json beside it")
    args = parser.parse_args()

    peer = torch_fidelity()
    rows = []
    for name, (x, y) in problems().items():
        found, expected = ours(x, y), theirs(x, y)
        for metric, value in found.items():
            difference = abs(value - expected[metric]) / abs(expected[metric])
            rows.append({"features": name, "metric": metric, "ours": value, "theirs": expected[metric]})
            rows[-1]["difference"] = difference
    with tempfile.TemporaryDirectory() as folder:
        of_inception = inception(Path(folder) / "weights.pth")
    versions = {
        "scoresde": scoresde.__version__,
        "torch-fidelity": peer.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    content = {"versions": versions, "rows": rows, "inception": of_inception}
    text = report(content)
    for path, written in ((args.out, text), (args.out.with_suffix(".json"), json.dumps(content) + "\n")):
        with replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")
    print(f"{text}\n{args.out} written")
    worst = max(row["difference"] for row in rows)
    if worst > TOLERANCE or of_inception > TOLERANCE:
        raise SystemExit(f"the largest difference is {max(worst, of_inception):.1e}, more than {TOLERANCE}")


def report(content: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    lines = [
        "# Metrics beside torch-fidelity's",
        "",
        "Written by `python benchmarks/agreement/metrics.py`; its docstring says how, and in which environment.",
        "Compared: " + ", ".join(f"{name} {version}" for name, version in content["versions"].items()) + ".",
        "",
        f"Relative difference of the figures on the same features; at most {TOLERANCE:.0e} is agreement.",
        "",
        "| features | figure | ours | torch-fidelity's | difference |",
        "|---|---|---:|---:|---:|",
    ]
    for row in content["rows"]:
        values = f"{row['ours']:.9g} | {row['theirs']:.9g} | {row['difference']:.0e}"
        lines.append(f"| {row['features']} | {row['metric']} | {values} |")
    lines += [
        "",
        "Features of `scoresde.metrics.spaces.get('inception')` and of torch-fidelity's extractor with the same file "
        f"of random weights, 50 grey and 50 colour images: they differ by {content['inception']:.0e} of the largest.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
