"""What a state in the network's dtype costs: python benchmarks/cost/state.py.

The bundled model in bfloat16, its state in float32 or in the network's own dtype, on the same seeds: FID against the
training images, and the root mean square difference between the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import scoresde
from benchmarks.recorded import RESULTS
from scoresde import models
from scoresde.metrics import BUNDLED, Collector, Reference, rms_error, spaces
from scoresde.metrics.figures.estimate import Estimate
from scoresde.runs.hardware import describe

SOLVERS = ("ddim", "dpmpp_2m", "heun", "dpmpp_2m_sde")
NFE = (10, 20)
N, BATCH = 200, 100


def told(fid: Estimate) -> str:
    return f"{fid.value:.2f} ({fid.low:.2f} to {fid.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "state_dtype.md")
    out = parser.parse_args().out
    checkpoint = models.load("mnist", dtype=torch.bfloat16)
    space = spaces.get("model")
    reference = Reference.load(BUNDLED, space)
    labels = torch.arange(N) % checkpoint.classes

    def drawn(solver: str, nfe: int, dtype: str | None) -> tuple[torch.Tensor, Estimate]:
        ask = {"shape": (N, *checkpoint.shape), "seeds": 0, "cond": {"label": labels}, "batch_size": BATCH}
        samples = scoresde.sample(checkpoint.model, solver, nfe=nfe, dtype=dtype, **ask).samples.float()
        collector = Collector(space)
        collector.update(samples, range(N))
        return samples, collector.figures(reference).metrics["fid"]

    lines = ["| solver | NFE | FID, float32 state | FID, bfloat16 state | RMS difference |", "|---|---|---|---|---|"]
    for solver in SOLVERS:
        for nfe in NFE:
            (full, fid), (small, other) = (drawn(solver, nfe, dtype) for dtype in (None, "network"))
            difference = rms_error(small, full).value
            lines.append(f"| `{solver}` | {nfe} | {told(fid)} | {told(other)} | {difference:.4f} |")
            print(lines[-1], flush=True)
    text = (
        "# A state in the network's dtype\n\n"
        f"`python benchmarks/cost/state.py`: {N} samples of the bundled model in bfloat16 on one set of seeds; "
        f"{describe(torch.device('cpu'))}.\nThe state takes half the memory of one in float32: little beside most "
        "weights, but not where states are large, or\na multistep method keeps several.\n\n"
    )
    out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
