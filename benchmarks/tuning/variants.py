"""What else a fit of the bundled model could be given: python -m benchmarks.tuning.variants --folder FOLDER.

The folder is that of ``scoresde tune``; its fitted numbers are the start of each variant, which is fitted further on
the starts of seeds that no figure uses. Errors are from the converged samples, on ``MODEL_N`` fresh seeds; FID in the
model's space; both of the same seeds for all.

- **variances**: samples are to vary as the converged ones do, with a weight (:mod:`scoresde.tuning.fit`).
- **noise**: of amplitude η from a step to the next, as in DDIM: x′ = g x + (α′ − g α) B + τ ε, g = √(σ′² − τ²)/σ,
  τ = η σ′ √(1 − (α σ′/(α′ σ))²), with the coefficients as they are.
- **free first evaluation**: D at pure noise is the normal's with the mean m and the variance v of all pixels,
  m + v/(v + s²) (x/α − m), which takes the state to a level a; the fit begins there.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.recorded import RESULTS, write
from scoresde import models, tuned
from scoresde.data import to_pixels
from scoresde.metrics import BUNDLED, Collector, Reference, spaces
from scoresde.runs.hardware import describe
from scoresde.tuning import teacher
from scoresde.tuning.fit import Number, free, levenberg_marquardt
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers, bracket

NFE = (4, 5, 8)
FIT_N, FIT_SEED, MODEL_N, SEED = 64, 2_000_000, 1000, 61_000
STEPS = 100  # of converged solutions
WEIGHTS = (10.0, 100.0, 1000.0)
AMPLITUDES = (0.1, 0.3, 1.0)
STARTS = (5.0, 20.0)  # levels that a free first evaluation ends at, in multiples of σ*
KINDS, BACK, ITERATIONS = ("level", "history", "told"), 2, 4


def starts(count: int, seed: int) -> Trajectories:
    """Of the bundled model with their converged ends, classes in turn."""
    checkpoint = models.load("mnist")
    cond = {"label": torch.arange(count) % 10}
    begun = Trajectories.of(checkpoint.model, range(seed, seed + count), checkpoint.shape, cond=cond, batch_size=100)
    return teacher.ended(begun, STEPS)


def noisy(own: Trajectories, numbers: Numbers, eta: float) -> Tensor:
    """Samples of a plan with noise between its steps."""
    random, process = torch.Generator().manual_seed(7), own.model.process
    levels = (own.first, *numbers.levels[1:])
    times = [process.t_max, *(process.time(-math.log(level)) for level in levels[1:])]
    z, known = own.noise, list[Tensor]()
    for index, t in enumerate(times):
        told = min(numbers.told or levels[0], levels[0]) if index == 0 else levels[index]
        known.append(own.denoised(z, told))
        row = bracket(numbers.history[index][:index])
        mean = sum((weight * found for weight, found in zip(row[1:], known[-2::-1], strict=False)), row[0] * known[-1])
        if index + 1 == len(times):
            return mean
        after, below = process.alpha(times[index + 1]), process.sigma(times[index + 1])
        alpha, sigma = process.alpha(t), process.sigma(t)
        tau = eta * below * math.sqrt(1 - (alpha * below / (after * sigma)) ** 2)
        kept = math.sqrt(below**2 - tau**2) / sigma
        white = torch.randn(z.shape, generator=random)
        z = (kept * sigma * z + (after - kept * alpha) * mean + tau * white) / below
    raise AssertionError("a plan has a last step")


@dataclass(frozen=True)
class Begun(Trajectories):
    """Trajectories that begin at a lower level, where D of a normal took them."""

    level: float = math.inf

    @property
    def first(self) -> float:
        return self.level

    @classmethod
    def by_normal(cls, own: Trajectories, level: float, mean: float, variance: float) -> Begun:
        top = own.first
        found = mean + variance / (variance + top**2) * (top * own.noise - mean)
        shared = {each.name: getattr(own, each.name) for each in fields(own)}
        return cls(**{**shared, "noise": own.noise + (1 / level - 1 / top) * found}, level=level)

    def starting(self, numbers: Numbers) -> Numbers:
        """Numbers whose first evaluation is at the level that these begin at, and is told so."""
        return replace(numbers, levels=(self.level, *numbers.levels[1:]), told=self.level * (1 - 1e-9))


def variants(fit: Trajectories, own: Trajectories, numbers: Numbers, scale: float) -> Iterator[tuple[str, Tensor]]:
    """Names and samples."""
    which = free(len(numbers), KINDS, BACK)

    def fitted(each: Trajectories, start: Numbers, kinds: Sequence[Number], variances: float = 0.0) -> Numbers:
        return levenberg_marquardt([each], start, kinds, iterations=ITERATIONS, variances=variances).numbers

    plain = fitted(fit, numbers, which)
    yield "as it is", own.follow(plain)
    for weight in WEIGHTS:
        yield f"variances, weight {weight:g}", own.follow(fitted(fit, plain, which, weight))
    for eta in AMPLITUDES:
        yield f"noise, η = {eta:g}", noisy(own, plain, eta)
    mean, variance = float(fit.known_ends.mean()), float(fit.known_ends.var())
    for multiple in STARTS:
        after, other = (Begun.by_normal(each, multiple * scale, mean, variance) for each in (fit, own))
        begun = fitted(after, after.starting(plain), free(len(numbers), ("level", "history"), BACK))
        yield f"free first evaluation to {multiple:g} σ*", other.follow(begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of scoresde tune")
    progress = json.loads((parser.parse_args().folder / "progress.json").read_text(encoding="utf-8"))
    fit, own, space = starts(FIT_N, FIT_SEED), starts(MODEL_N, SEED), spaces.get("model")
    reference = Reference.load(BUNDLED, space)

    def fid(samples: Tensor) -> str:
        collector = Collector(space)
        collector.update(to_pixels(samples), range(len(samples)))
        found = collector.figures(reference).metrics["fid"]
        return f"{found.value:.3f}"

    lines = [
        "# Variants of a tuned plan",
        "",
        "Written by `python -m benchmarks.tuning.variants --folder FOLDER`; its docstring says what each is. Bundled",
        f"model, {MODEL_N} fresh seeds; FID of their converged samples: {fid(own.known_ends)}.",
        f"{describe(torch.device('cpu'))}.",
        "",
        "| NFE | variant | mean error | median | total variance over converged | FID |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for nfe in NFE:
        numbers = tuned.read_numbers(progress["fitted"][str(nfe)])
        for name, samples in variants(fit, own, numbers, progress["noise_scale"]):
            errors, spread = own.errors(samples), float(samples.var(0).sum() / own.known_ends.var(0).sum())
            lines.append(
                f"| {nfe} | {name} | {float(errors.mean()):.4f} | {float(errors.median()):.4f} | {spread:.3f} | "
                f"{fid(samples)} |"
            )
            print(lines[-1], flush=True)
    write(RESULTS / "tuned_variants.md", lines)


if __name__ == "__main__":
    main()
