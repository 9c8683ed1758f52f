"""Our U-Net beside diffusers' UNet2DModel at equal size: images per second, and test loss after equal time.

    python benchmarks/cost/network.py --data mnist.npz.xz --seconds 120 --out benchmarks/results/network.md

Each network is trained from scratch on the same images for the same wall time, one after the other on the same
threads (Adam at a constant rate, bfloat16 autocast, averaged weights); the loss is DDPM's, on images held out, at the
same times and with the same noise for both.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from scoresde import VP, models
from scoresde.data import Images, load, to_state
from scoresde.files import replacing
from scoresde.runs.hardware import describe
from scoresde.training import loss

NETWORKS = {
    "unet (64, 128), depth 2": {"name": "unet"},
    "diffusers UNet2DModel (64, 128), 1 layer a block": {"name": "diffusers_unet"},
}
BATCH, RATE, WARMUP, DECAY = 128, 1e-3, 50, 0.98


def autocast(net: nn.Module):
    """The network under bfloat16 autocast, as :class:`scoresde.training.Trainer` runs it."""

    def call(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x, t, label)

    return call


def value(net: nn.Module, data: Images, generator: torch.Generator, batch: int = BATCH) -> Tensor:
    """DDPM's loss on a random batch."""
    index = torch.randint(len(data), (batch,), generator=generator)
    part = data.take(index)
    assert part.labels is not None
    return loss(autocast(net), VP(), "epsilon", to_state(part.pixels), generator, lambda t: 1000 * t, label=part.labels)


def train(net: nn.Module, data: Images, seconds: float) -> tuple[nn.Module, list[float]]:
    """Averaged weights after that much wall time, and the time of each step."""
    averaged = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    generator, times = torch.Generator().manual_seed(0), []
    while sum(times) < seconds:
        start = time.perf_counter()
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, (len(times) + 1) / WARMUP)
        value(net, data, generator).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        decay = min(DECAY, (1 + len(times)) / (10 + len(times)))
        for average, parameter in zip(averaged.parameters(), net.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)
        times.append(time.perf_counter() - start)
    return averaged, times


@torch.no_grad()
def forward_rate(net: nn.Module, shape: tuple[int, ...], repeats: int = 20) -> float:
    """Images per second of the network cast to bfloat16, as the benchmark of solvers runs it."""
    net = copy.deepcopy(net).to(torch.bfloat16)
    x, t = torch.randn(BATCH, *shape, dtype=torch.bfloat16), torch.full((BATCH,), 500.0)
    label = torch.zeros(BATCH, dtype=torch.long)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        net(x, t, label)
        times.append(time.perf_counter() - start)
    return BATCH / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="images with labels; an npz has train_ and test_ arrays")
    parser.add_argument("--seconds", type=float, default=120, help="training time of each network (120)")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    data, held_out = load(arguments.data), load(arguments.data, "test")
    shape = tuple(data.pixels.shape[1:])
    lines = [
        f"{describe(torch.device('cpu'))}, torch {torch.__version__}; {arguments.seconds:.0f} s of training each.",
        "",
        "| network | parameters | training images/s | sampling images/s (bfloat16) | test loss |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, network in NETWORKS.items():
        torch.manual_seed(0)
        net = models.build({**network, "in_channels": shape[0], "num_classes": data.classes}, shape)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        averaged, times = train(net, data, arguments.seconds)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            test = statistics.mean(float(value(averaged, held_out, generator, 500)) for _ in range(10))
        count = sum(parameter.numel() for parameter in net.parameters())
        rates = f"{BATCH / statistics.median(times):.0f} | {forward_rate(net, shape):.0f}"
        lines.append(f"| {label} | {count:,} | {rates} | {test:.5f} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        with replacing(arguments.out) as path:
            path.write_text(
                f"`python benchmarks/cost/network.py --data mnist.npz.xz --seconds {arguments.seconds:g}`\n\n{text}"
            )


if __name__ == "__main__":
    main()
