"""FID and classes against guidance scale and NFE.

    python benchmarks/tuning/guidance.py [--out benchmarks/results/guidance.md]

The bundled model with its network in bfloat16, 1,000 samples of equal seeds and classes for each row. Rows are kept in
a JSON file beside the table as they come, so that an interrupted run goes on; ``--report`` writes table and figure from
it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import scoresde
from benchmarks.recorded import RESULTS
from scoresde import guidance, models
from scoresde.data import to_pixels
from scoresde.files import replacing
from scoresde.metrics import FID, class_labels, floors
from scoresde.models import Checkpoint
from scoresde.runs.hardware import describe
from scoresde.score import ScoreModel

N, BATCH, NFE = 1000, 125, (5, 10, 20)
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
LOW, HIGH = 0.3, 3.0
CFG_PP = (0.25, 0.5, 0.75, 1.0)
PLAIN, INTERVAL, RENOISED = "classifier-free", f"on {LOW:g} < σ/α ≤ {HIGH:g}", "CFG++ (`dpmpp_2m_cfg_pp`)"
# What goes around classifier-free guidance.
OUTER: dict[str, dict[str, Any]] = {
    "rescaled by 0.7": {"name": "rescale"},
    "rescaled by 0.7, x0": {"name": "rescale", "view": "sample"},
    "dynamic threshold": {"name": "dynamic_threshold"},
    "clipped to [−1, 1]": {"name": "dynamic_threshold", "percentile": 0.0},
}


def _labels(n: int) -> torch.Tensor:
    return class_labels(n, models.load("mnist").card["training"]["class_counts"])


@dataclass(frozen=True)
class Row:
    """One kind of guidance at one scale and budget, with the network calls that each sample took."""

    kind: str
    scale: float
    nfe: int
    network_calls: int
    fid: float
    own_class: float
    seconds: float


def cases() -> Iterator[tuple[str, float, str]]:
    """Kinds of guidance with their scales and solvers."""
    yield from ((PLAIN, scale, "dpmpp_2m") for scale in SCALES)
    yield from ((INTERVAL, scale, "dpmpp_2m") for scale in SCALES if scale > 1)
    yield from ((kind, 5.0, "dpmpp_2m") for kind in OUTER)
    yield from ((RENOISED, scale, "dpmpp_2m_cfg_pp") for scale in CFG_PP)


def guided(checkpoint: Checkpoint, kind: str, scale: float) -> ScoreModel:
    """The bundled model, guided; as it is at the scale 1, which is the same thing at half the cost."""
    if kind == PLAIN and scale == 1:
        return checkpoint.model
    ends: dict[str, Any] = {"low": LOW, "high": HIGH} if kind == INTERVAL else {}
    recipe = guidance.get("classifier_free", scale=scale, **ends)
    if kind in OUTER:
        recipe = guidance.get(**OUTER[kind], of=recipe)
    return recipe(checkpoint.model, unconditional={"label": checkpoint.classes})


def drawn(checkpoint: Checkpoint, kind: str, scale: float, solver: str, nfe: int, n: int) -> scoresde.Result:
    """Samples of seeds 0 … n − 1."""
    return scoresde.sample(
        guided(checkpoint, kind, scale),
        solver,
        nfe=nfe,
        shape=(n, *checkpoint.shape),
        seeds=0,
        cond={"label": _labels(n)},
        batch_size=min(BATCH, n),
    )


def measured(checkpoint: Checkpoint, fid: FID, kind: str, scale: float, solver: str, nfe: int) -> Row:
    """One row."""
    start = time.perf_counter()
    result = drawn(checkpoint, kind, scale, solver, nfe, N)
    seconds, pixels = time.perf_counter() - start, to_pixels(result.samples)
    score = FID(fid.features, fid.reference)
    score.update(pixels)
    own = float((fid.features.classify(pixels).argmax(1) == _labels(N)).double().mean())
    return Row(kind, scale, result.nfe, max(result.network_calls), score.compute().value, own, seconds)


def table(rows: list[Row]) -> str:
    """FID and share of the own class by kind, scale and NFE."""
    budgets = sorted({row.nfe for row in rows})
    lines = [
        f"| guidance | scale |{''.join(f' FID at {nfe} |' for nfe in budgets)}"
        f"{''.join(f' own class at {nfe} |' for nfe in budgets)} network calls |",
        f"|---|---:|{'---:|' * (2 * len(budgets) + 1)}",
    ]
    groups: dict[tuple[str, float], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.scale), {})[row.nfe] = row
    best = {nfe: min(row.fid for row in rows if row.nfe == nfe) for nfe in budgets}
    for (kind, scale), found in groups.items():
        fids = (f" **{r.fid:.2f}** |" if r.fid == best[r.nfe] else f" {r.fid:.2f} |" for _, r in sorted(found.items()))
        shares = (f" {row.own_class:.1%} |" for _, row in sorted(found.items()))
        calls = ", ".join(str(row.network_calls) for _, row in sorted(found.items()))
        lines.append(f"| {kind} | {scale:g} |{''.join(fids)}{''.join(shares)} {calls} |")
    return "\n".join(lines)


def figure(rows: list[Row], checkpoint: Checkpoint, path: Path) -> None:
    """FID and share of the own class against the scale, and the same seeds under several scales."""
    drawing = Figure(figsize=(12, 10.5), layout="constrained")
    above, below = drawing.subfigures(2, 1, height_ratios=[2.1, 1], squeeze=False).ravel()
    axes = above.subplots(2, 2, sharex="col", sharey="row")
    floor = floors(N)
    for column, (kinds, name) in enumerate((((PLAIN, INTERVAL), "classifier-free, dpmpp_2m"), ((RENOISED,), RENOISED))):
        for kind, line in zip(kinds, ("-", "--"), strict=False):
            for color, nfe in enumerate(NFE):
                found = sorted((r.scale, r.fid, r.own_class) for r in rows if r.kind == kind and r.nfe == nfe)
                scales, fids, shares = zip(*found, strict=True)
                style = {"color": f"C{color}", "marker": "o", "markersize": 4, "linestyle": line}
                label = f"{nfe} NFE" + (f", {kind}" if kind == INTERVAL else "")
                axes[0, column].plot(scales, fids, **style)
                axes[1, column].plot(scales, [100 * share for share in shares], label=label, **style)
        axes[0, column].axhline(floor.real.value, color="0.35", linestyle=":")
        axes[1, column].plot([], [], color="0.35", linestyle=":", label="FID of real test images")
        axes[0, column].set(title=name.replace("`", ""), yscale="log")
        axes[1, column].legend(fontsize=8, loc="lower right")
        axes[1, column].set_xlabel("guidance scale" if column == 0 else "guidance scale λ")
    axes[0, 0].set_ylabel(f"FID, {N:,} samples")
    axes[1, 0].set_ylabel("in their own class, %")
    for ax in axes.ravel():
        ax.grid(alpha=0.25, which="both")
    ticks = [1.5, 2, 3, 4, 6, 8, 10]
    axes[0, 0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0, 0].yaxis.set_minor_locator(NullLocator())
    chosen = [(PLAIN, scale, "dpmpp_2m") for scale in (0.0, 1.0, 2.0, 5.0)]
    chosen += [(INTERVAL, 5.0, "dpmpp_2m"), (RENOISED, 0.75, "dpmpp_2m_cfg_pp")]
    strips = []
    for kind, scale, solver in chosen:
        images = to_pixels(drawn(checkpoint, kind, scale, solver, 10, 20).samples)
        strips.append(images.permute(2, 0, 3, 1).flatten(1, 2).squeeze(-1))
    picture, height = torch.cat(strips), len(strips[0])
    ax = below.subplots()
    ax.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    names = [f"{kind.split(' (')[0]}, {scale:g}" for kind, scale, _ in chosen]
    ax.set_yticks([height * (line + 0.5) for line in range(len(names))], names, fontsize=8)
    labels = _labels(20).tolist()
    ax.set_xticks([height * (column + 0.5) for column in range(len(labels))], [str(x) for x in labels], fontsize=8)
    ax.tick_params(length=0)
    ax.set_title("The same seeds at 10 NFE; the class asked for below", fontsize=10)
    with replacing(path) as temporary:
        drawing.savefig(temporary, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="FID against guidance scale and NFE, on the bundled model.")
    parser.add_argument("--out", type=Path, default=RESULTS / "guidance.md")
    parser.add_argument("--report", action="store_true", help="write table and figure from the rows that are there")
    args = parser.parse_args()
    checkpoint, fid = models.load("mnist", dtype=torch.bfloat16), FID.load()
    path = args.out.with_suffix(".json")
    rows = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
    for kind, scale, solver in () if args.report else cases():
        for nfe in NFE:
            if (kind, scale, nfe) in {(row.kind, row.scale, row.nfe) for row in rows}:
                continue
            rows.append(measured(checkpoint, fid, kind, scale, solver, nfe))
            print(rows[-1], flush=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    order = {case[:2]: position for position, case in enumerate(cases())}
    rows.sort(key=lambda row: (order[row.kind, row.scale], row.nfe))
    floor = floors(N)
    text = (
        "# Guidance on the bundled model\n\n"
        f"Written by `python benchmarks/tuning/guidance.py`, {sum(row.seconds for row in rows):.0f} s of sampling on "
        f"{describe(torch.device('cpu'))}, network in bfloat16. {N:,} samples a row, FID in {fid.features.name}; "
        f"floors at that count: real test images {floor.real.value:.2f} ± {floor.spread or 0:.2f}, the model's "
        f"converged samples {floor.converged.value:.2f}. `dpmpp_2m` on its recommended grid where no solver is named. "
        "Network calls are those of each sample at the three budgets; one call of twice the batch counts two.\n\n"
        "![FID and classes against the guidance scale](guidance.png)\n\n"
        f"{table(rows)}\n"
    )
    with replacing(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    figure(rows, checkpoint, args.out.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
