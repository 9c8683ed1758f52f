"""Images per second of the bundled model.

    python benchmarks/cost/speed.py [--peers FOLDER] [--threads 2] [--device cuda]

Every combination of solvers, batch sizes, precisions of the network and modes of torch.compile, beside diffusers and
k-diffusion: in one process, on the same network, compiled for all of them or for none, from the same state, with the
same number of model evaluations. They take turns, so that what else the machine does meets all of them alike.

A run's time is that of the whole trajectory; the network's is measured around each call, and that of draws of noise
around each draw, so that what is left is the solver's. Peak memory is that of tensors beyond the network's weights and
what the caller holds: measured by the allocator on a GPU, and elsewhere by adding up what is alive (of eager runs).
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import math
import os
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

import scoresde
from benchmarks.cost.overhead import follow, set_evaluations
from benchmarks.peers import adapters
from benchmarks.peers.adapters import k_diffusion
from benchmarks.recorded import RESULTS
from scoresde.bench.cases import COMPILE
from scoresde.files import replacing
from scoresde.models import Checkpoint
from scoresde.noise import Noise
from scoresde.runs.hardware import describe
from scoresde.score import ScoreModel

NFE = 9  # an odd number, which Heun's two evaluations a step, with one in the last, fill
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TIMESTEPS = 1000  # of diffusers' table
ENDS = (1e-3, 1.0)  # VP times of k-diffusion's last and first level
# Ours, diffusers' scheduler with its options, and k-diffusion's function of the same method.
METHODS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}, "sample_euler"),
    "heun": ("HeunDiscreteScheduler", {}, "sample_heun"),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}, "sample_dpmpp_2m"),
    "uni_pc": ("UniPCMultistepScheduler", {}, None),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}, "sample_euler_ancestral"),
}
Way = Callable[[], Any]


@dataclass(frozen=True)
class Speed:
    """One toolkit in one combination.

    Attributes:
        images_per_second: median, first and third quartile over runs.
        seconds_per_nfe: median.
        network, draws, outside: shares of the wall time, medians; the last is what is neither.
        peak: bytes of tensors alive at once; None where it is not known.
    """

    toolkit: str
    solver: str
    batch: int
    dtype: str
    compile: str
    images_per_second: tuple[float, float, float]
    seconds_per_nfe: float
    network: float
    draws: float
    outside: float
    peak: int | None


class Clock:
    """Seconds spent in what it wraps; on a GPU between events, so that nothing waits."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: list[tuple[Any, Any]] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = self._now()
            result = function(*args, **options)
            self.marks.append((start, self._now()))
            return result

        return timed

    def take(self) -> float:
        """The seconds since the last call of this."""
        marks, self.marks = self.marks, []
        if self.cuda:
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in marks) / 1e3
        return sum(end - start for start, end in marks)

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class Alive(TorchDispatchMode):
    """Bytes of tensors that operations have made and nobody has dropped: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                where, size = storage.data_ptr(), storage.nbytes()
                if where in self.users:
                    self.users[where] += 1
                elif where in given:
                    continue  # a view of what was there before
                else:
                    self.users[where] = 1
                    self.now += size
                    self.peak = max(self.peak, self.now)
                weakref.finalize(leaf, self._drop, where, size)
        return out

    def _drop(self, where: int, size: int) -> None:
        self.users[where] -= 1
        if not self.users[where]:
            del self.users[where]
            self.now -= size


class Subject:
    """The bundled model in one precision and mode of compilation, and the ways of sampling a batch from it."""

    def __init__(self, checkpoint: Checkpoint, batch: int, dtype: str, mode: str, device: torch.device):
        self.batch, self.device = batch, device
        self.network, self.draw = Clock(device), Clock(device)
        given = checkpoint.model
        assert isinstance(given.net, nn.Module)
        plain: Any = copy.deepcopy(given.net).to(DTYPES[dtype])
        if mode:
            plain = torch.compile(plain, mode=mode, dynamic=False)
        label = (torch.arange(batch) % checkpoint.classes).to(device)
        call = self.network.around(lambda x, t: plain(x.to(DTYPES[dtype]), t, label))
        self.model = ScoreModel(call, given.process, given.prediction, time_input=given.time_input)
        self.noise = torch.randn((batch, *checkpoint.shape), generator=torch.Generator().manual_seed(0)).to(device)

    def ours(self, name: str) -> Way:
        draw = self.draw

        class Timed(Noise):
            __call__ = draw.around(Noise.__call__)

        def run() -> Any:
            x = self.noise * self.model.process.sigma(self.model.process.t_max)
            with mock.patch("scoresde.sampling.Noise", Timed):
                return scoresde.sample(self.model, name, nfe=NFE, x_init=x, seeds=0, device=self.device)

        return run

    def diffusers(self, name: str, options: dict[str, Any]) -> Way:
        scheduler = getattr(diffusers, name)(**options)
        set_evaluations(scheduler, NFE)
        draw = self.draw.around(randn_tensor)

        def run() -> Any:
            x = self.noise * float(scheduler.init_noise_sigma)
            with mock.patch.object(ancestral, "randn_tensor", draw), torch.no_grad():
                return follow(scheduler, x, lambda x, t: self.model.output(x, (float(t) + 1) / TIMESTEPS))

        return run

    def k_diffusion(self, function: str, kernel: ModuleType) -> Way:
        process = self.model.process
        steps = (NFE + 1) // 2 if function == "sample_heun" else NFE
        sigmas = kernel.get_sigmas_karras(steps, *(math.exp(-process.half_log_snr(t)) for t in ENDS)).to(self.device)
        times = {sigma: process.time(-math.log(sigma)) for sigma in sigmas[:-1].tolist()}
        options: dict[str, Any] = {}
        if "ancestral" in function:
            drawn = self.draw.around(lambda *levels: torch.randn_like(self.noise))
            options["noise_sampler"] = drawn

        def denoised(x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
            level = float(sigma[0])
            return x - level * self.model.output(x / math.hypot(1, level), times[level])

        def run() -> Any:
            with torch.no_grad():
                return getattr(kernel, function)(denoised, self.noise * sigmas[0], sigmas, disable=True, **options)

        return run


def peak(run: Way, device: torch.device) -> int:
    """Bytes of tensors that a run has alive at once, beyond those there were before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with Alive() as alive:
        run()
    return alive.peak


def compared(subject: Subject, ways: dict[str, Way], rounds: int) -> dict[str, list[tuple[float, float, float]]]:
    """Seconds of a run, and the shares of the network and of draws, by rounds in which the ways take turns."""
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            whole = Clock(subject.device)
            for clock in (subject.network, subject.draw):
                clock.take()  # of runs that are not part of this
            timer = Timer("run()", globals={"run": whole.around(run)}, num_threads=torch.get_num_threads())
            total = timer.timeit(1).median  # warms up, and waits for the GPU
            network, draw, spent = (clock.take() for clock in (subject.network, subject.draw, whole))
            found[way].append((total, network / spent, draw / spent))
    return found


def measure(args: argparse.Namespace) -> list[Speed]:
    device = torch.device(args.device)
    checkpoint = scoresde.models.load("mnist", device=device)
    try:
        kernel = k_diffusion.module(args.peers)
    except adapters.AbsentError as error:
        print(error, file=sys.stderr)
        kernel = None
    rows: list[Speed] = []
    for batch, dtype, mode in itertools.product(args.batches, args.dtypes, args.compile):
        mode = "" if mode == "none" else mode
        subject = Subject(checkpoint, batch, dtype, mode, device)
        for name in args.solvers:
            scheduler, options, function = METHODS[name]
            ways = {"scoresde": subject.ours(name), "diffusers": subject.diffusers(scheduler, options)}
            if kernel is not None and function is not None:
                ways["k-diffusion"] = subject.k_diffusion(function, kernel)
            for way, times in compared(subject, ways, args.rounds).items():
                total, network, draw = np.array(times).T
                low, middle, high = np.quantile(total, (0.25, 0.5, 0.75))
                inside, drawn = float(np.median(network)), float(np.median(draw))
                outside = float(np.median(1 - network - draw))
                memory = None if mode and device.type != "cuda" else peak(ways[way], device)
                rates = (batch / middle, batch / high, batch / low)
                rows.append(Speed(way, name, batch, dtype, mode, rates, middle / NFE, inside, drawn, outside, memory))
                print(_line(rows[-1]), flush=True)
    return rows


def _line(row: Speed) -> str:
    middle, low, high = row.images_per_second
    memory = "" if row.peak is None else f"{row.peak / 2**20:.1f}"
    return (
        f"| {row.batch} | {row.dtype} | {row.compile or 'none'} | {row.solver} | {row.toolkit} | {middle:.1f} "
        f"({low:.1f}–{high:.1f}) | {row.seconds_per_nfe * 1e3:.2f} | {row.network:.2%} | {row.draws:.2%} | "
        f"{row.outside:.2%} | {memory} |"
    )


def report(rows: Sequence[Speed], args: argparse.Namespace) -> str:
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    return "\n".join(
        [
            "# Speed of sampling",
            "",
            f"Written by `python benchmarks/cost/speed.py --threads {args.threads}`; its docstring says how it is "
            "measured. "
            f"{describe(torch.device(args.device))}, {versions}. The bundled model, {NFE} NFE, {args.rounds} runs of "
            "each in turns: median and quartiles. Shares of the wall time; peak memory of tensors beyond the weights.",
            "",
            "| batch | dtype | compile | solver | toolkit | images/s | ms/NFE | network | draws | solver | peak MiB |",
            "|---:|---|---|---|---|---|---:|---:|---:|---:|---:|",
            *map(_line, rows),
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RESULTS / "speed.md"
    parser.add_argument("--solvers", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--compile", nargs="+", choices=("none", *COMPILE), default=["none", "default"])
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--peers", type=Path, help="folder with k-diffusion, where it is not installed")
    parser.add_argument("--out", type=Path, default=default, help="markdown file; a .json of the same name goes beside")
    args = parser.parse_args(arguments)
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        print(f"other work is running (load {os.getloadavg()[0]:.1f}): times will be too long", file=sys.stderr)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = measure(args)
        text = report(rows, args)
    finally:
        torch.set_num_threads(before)
    content = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    for path, written in ((args.out, text), (args.out.with_suffix(".json"), content)):
        with replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")
    print(f"\nwritten to {args.out}")


if __name__ == "__main__":
    main()
