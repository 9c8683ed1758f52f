"""The ways of samples from noise to data as a picture: of points as paths, of images as a film strip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from scoresde.exact import GaussianMixture
from scoresde.networks.checkpoint import Checkpoint
from scoresde.report.figures import save
from scoresde.sampling import Result
from scoresde.score import ScoreModel, models

PATHS, STRIPS, FRAMES = 60, 8, 12  # paths of points; film strips of images, and pictures in each, at most
PLACES = 120  # of the density of one coordinate, in height and at each noise level
LEVELS = 60


def draw(
    result: Result, model: ScoreModel | Checkpoint, path: str | Path, *, cond: Mapping[str, Any] | None = None
) -> None:
    """Draw the trajectories that a result has kept, ``scoresde.sample(…, trajectory=True)``.

    Points of two coordinates and more are paths in the plane of the first two, coloured by the noise level; of one, x
    over λ = log(α/σ). Both are drawn as x/√(α² + σ²), which is as wide as noise at one end and x0 at the other,
    whatever the process. Images are a strip for each seed: E[x0 | x] of its state at each step, and the sample at the
    end, which asks the model once for each picture.

    Args:
        result: with its trajectory.
        model: what was sampled, on its process; the density of an exact one is drawn behind.
        path: the file; its suffix chooses the format.
        cond: what the model was given, a row for each sample.

    Raises:
        ValueError: the result has no trajectory, or states that are neither points nor images of 1 or 3 channels; or a
            decode, whose latent states are no images.
    """
    if result.trajectory is None:
        raise ValueError("the result has no trajectory: give scoresde.sample(…, trajectory=True)")
    shape = tuple(result.trajectory.shape[2:])
    score = model.model if isinstance(model, Checkpoint) else model
    if len(shape) == 1:
        figure = _line(result, score) if shape[0] == 1 else _plane(result, score)
    elif len(shape) == 3 and shape[0] in (1, 3) and tuple(result.samples.shape[1:]) == shape:
        figure = _film(result, score, dict(cond or {}))
    else:
        raise ValueError(f"trajectories are drawn of points, and of images of 1 or 3 channels, got states of {shape}")
    save(figure, path)


def _scaled(result: Result, model: ScoreModel) -> Tensor:
    """x/√(α² + σ²) of the first trajectories, (times, paths, dim)."""
    assert result.trajectory is not None
    norms = [math.hypot(model.process.alpha(t), model.process.sigma(t)) for t in result.trajectory_times]
    return result.trajectory[:, :PATHS].double() / torch.tensor(norms, dtype=torch.float64)[:, None, None]


def _exact(model: ScoreModel) -> GaussianMixture | None:
    """The exact model that is asked, on whatever process; None where it is a network."""
    return next((inner for inner in models(model) if isinstance(inner, GaussianMixture)), None)


def _levels(result: Result, model: ScoreModel) -> list[float]:
    """λ at each time of a trajectory; where there is no noise or no signal, a little beyond its neighbour."""
    found = [model.process.half_log_snr(t) for t in result.trajectory_times]
    inner = [level for level in found if math.isfinite(level)]
    if not inner:
        return [float(index) for index in range(len(found))]
    beyond = 0.12 * (max(inner) - min(inner)) or 1.0
    return [min(max(level, min(inner) - beyond), max(inner) + beyond) for level in found]


def _plane(result: Result, model: ScoreModel) -> Figure:
    states, levels = _scaled(result, model)[..., :2], _levels(result, model)
    figure = Figure(figsize=(6.2, 5.2), layout="constrained")
    axes = figure.subplots()
    if (exact := _exact(model)) is not None:
        draws = exact.sample(2000, torch.Generator().manual_seed(0))
        axes.scatter(*draws[:, :2].T.numpy(), s=3, color="0.8", linewidths=0, zorder=0)
    scale = Normalize(min(levels), max(levels))
    middles = [(a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)]
    for way in states.transpose(0, 1).numpy():
        pieces = np.stack([way[:-1], way[1:]], axis=1)
        lines = LineCollection(list(pieces), cmap="viridis", norm=scale, linewidths=0.9, alpha=0.8)
        lines.set_array(np.array(middles))
        axes.add_collection(lines)
    axes.scatter(*states[1:-1].flatten(0, 1).T.numpy(), s=4, color="0.3", linewidths=0, zorder=2)
    axes.scatter(*states[0].T.numpy(), s=14, facecolors="none", edgecolors="0.3", linewidths=0.8, label="noise")
    axes.scatter(*states[-1].T.numpy(), s=12, color="#d55e00", linewidths=0, zorder=3, label="samples")
    axes.set(aspect="equal", xlabel="x₁/√(α² + σ²)", ylabel="x₂/√(α² + σ²)")
    axes.autoscale_view()
    axes.legend(loc="upper right", fontsize=8)
    figure.colorbar(ScalarMappable(scale, "viridis"), ax=axes, label="λ = log(α/σ)")
    _title(figure, result, states.shape[1])
    return figure


def _line(result: Result, model: ScoreModel) -> Figure:
    states, levels = _scaled(result, model)[..., 0], _levels(result, model)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    if (exact := _exact(model)) is not None:
        _density(axes, exact, levels, states, clean=result.trajectory_times[-1] == model.process.t_clean)
    axes.plot(levels, states.numpy(), ".-", color="#0072b2", linewidth=0.8, markersize=3, alpha=0.7)
    axes.set(xlabel="λ = log(α/σ)", ylabel="x/√(α² + σ²)", xlim=(min(levels), max(levels)))
    found = [model.process.half_log_snr(t) for t in result.trajectory_times]
    places = {levels[at]: name for at, name in ((0, "no signal"), (-1, "no noise")) if not math.isfinite(found[at])}
    if places:
        ticks = [tick for tick in axes.get_xticks() if min(levels) < tick < max(levels)]
        ticks = [tick for tick in ticks if all(abs(tick - place) > 0.08 * np.ptp(levels) for place in places)]
        axes.set_xticks([*ticks, *places], [*(f"{tick:g}" for tick in ticks), *places.values()])
    _title(figure, result, states.shape[1])
    return figure


def _density(axes: Axes, model: GaussianMixture, levels: Sequence[float], states: Tensor, clean: bool) -> None:
    """The density of x/√(α² + σ²) at each level, as grey; at the last of the data, where that is ``clean``."""
    process = model.process
    low, high = float(states.min()), float(states.max())
    heights = torch.linspace(low, high, PLACES, dtype=torch.float64)
    columns, places = [], np.linspace(min(levels), max(levels), LEVELS)
    for level in places:
        time = process.t_clean if clean and level == places[-1] else process.time(float(level))
        norm = math.hypot(process.alpha(time), process.sigma(time))
        columns.append(model.log_prob(heights[:, None] * norm, time).exp() * norm)
    values = torch.stack(columns, 1)
    axes.imshow(
        (values / values.max(0).values).numpy(),
        origin="lower",
        extent=(min(levels), max(levels), low, high),
        cmap="Greys",
        alpha=0.5,
        aspect="auto",
    )


def _film(result: Result, model: ScoreModel, cond: dict[str, Any]) -> Figure:
    assert result.trajectory is not None
    count, times = min(STRIPS, len(result.samples)), result.trajectory_times
    shown: list[int] = (
        np.unique(np.linspace(0, len(times) - 2, FRAMES - 1).round().astype(int)).tolist() if len(times) > 1 else []
    )
    device = result.samples.device
    given = {key: value[:count].to(device) if isinstance(value, Tensor) else value for key, value in cond.items()}
    with torch.no_grad():
        frames = [
            model.denoised(result.trajectory[index, :count].to(device), times[index], **given).cpu() for index in shown
        ]
    frames.append(result.samples[:count].cpu())
    # pictures (rows, columns, h, w, c), as 8 bits would be
    pixels = torch.stack(frames, 1).float().add(1).div(2).clamp(0, 1).permute(0, 1, 3, 4, 2)
    rows, columns, height, width, channels = pixels.shape
    film = pixels.permute(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    side = 0.85
    figure = Figure(figsize=(max(side * columns + 0.6, 4.2), side * rows * height / width + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(film.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    levels = [model.process.half_log_snr(times[index]) for index in shown]
    told = ["−∞" if level == -math.inf else f"{level:.1f}" for level in levels] + ["sample"]
    axes.set_xticks([width * (index + 0.5) for index in range(columns)], told, fontsize=8)
    axes.set_yticks([height * (index + 0.5) for index in range(rows)], list(map(str, result.seeds[:rows])), fontsize=8)
    axes.tick_params(length=0)
    axes.set(ylabel="seed", xlabel="E[x₀ | x] at λ = log(α/σ)")
    _title(figure, result, count)
    return figure


def _title(figure: Figure, result: Result, count: int) -> None:
    which = f"the first {count} of {len(result.seeds):,} samples" if count < len(result.seeds) else f"{count} samples"
    steps = len(result.trajectory_times) - 1
    figure.suptitle(f"{which} · steps: {steps} · evaluations: {result.nfe}", fontsize=10)
