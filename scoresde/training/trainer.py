"""One training run in one folder."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scoresde.data import Images, to_state
from scoresde.files import digest_of, regular, replacing
from scoresde.process import Process
from scoresde.runs.differences import differences
from scoresde.runs.ranks import Ranks, exchanging
from scoresde.score import ScoreModel
from scoresde.training import augmentation, averages, objectives
from scoresde.training.loss import Task, needs_data
from scoresde.training.objectives import Objective
from scoresde.training.schedules import factor
from scoresde.training.settings import Settings

FORMAT, CHECKPOINT = "scoresde-training-1", "checkpoint.pt"
# Of a record of a step, with their types; FID is not there at every one, and earlier versions had no LATER.
ENTRY: dict[str, Callable[[Any], Any]] = {"step": int, "loss": float, "seconds": float}
LATER = {"learning_rate": float, "images_per_second": float, "fid": float, "fid_samples": int, "fid_space": str}
EMA = "ema"  # name of the exponential average beside the widths of the others
SEED_OF_LEVELS = 2**31  # of the noise in which held-out images are shown, the same at every step
Measure = Callable[[ScoreModel], Mapping[str, Any]]


class Trainer:
    """One training run in one folder, which it can leave and take up again at any step, bit for bit.

    Every random number of step k comes from a generator seeded by (seed, k), and the order of epoch e from (seed, e),
    so a checkpoint is weights, averaged weights, optimiser and step, and nothing else. Mirroring and augmentation draw
    from generators of their own, so that times and noise are those of a run without them.

    Args:
        net: module called as ``net(x, t[, label][, augment])``.
        process, prediction, time_input: as in :class:`scoresde.ScoreModel`; a prediction ``edm`` is a network inside
            EDM's preconditioning, and None is the objective's own.
        data: images; their labels are passed on as ``label`` if there are any.
        settings: see :class:`Settings`.
        folder: holds ``checkpoint.pt``, the losses so far in it.
        objective: noise levels and their weight; None is DDPM's.
        held_out: images that are not trained on, for :meth:`by_level`; None for none.
        flip: mirror each image left to right with probability ½, anew each time that it is seen.
        augment: probability of each transformation of :mod:`scoresde.training.augmentation`, of which the network is
            told by ``augment``, shape (batch, 9); 0 for no augmentation. With ``flip`` the x-flip is none of them.
            Held-out images are shown as they are.
        accumulate: parts that a batch is taken in, one after the other, for less memory: times, noise and dropped
            labels are drawn for the whole batch, and parts count by their sizes, so that loss and gradient are those
            of the batch to rounding (not of networks that look across a batch, such as batch norms).
        compile: run the network that is trained through ``torch.compile``; weights and checkpoints are the same.
        average: which average is the model: a width of ``settings.averages``, or None for that of ``settings.ema``.
            It is no part of the run: a finished one gives the others, too.
        ranks: the processes that share each batch, this one among them. Each makes the same draws and takes its rows,
            and gradients are summed, so that they are those of the batch to rounding. The first alone saves, reports
            and measures; all must see its folder. Batch norms see a process's rows.

    Attributes:
        averages: the averaged networks, by :data:`EMA` and by their widths.
        task: what is trained, on the process that the objective makes of the given one.
        settings: with numbers for what was None, see :meth:`Settings.filled`.
        continued: of each time that the epochs were changed, ``step`` of then, and ``epochs`` up to it.

    Raises:
        ValueError: a batch larger than the data, more parts than a process has images of it, an average that there is
            none of, an ``augment`` that is no probability, or an objective, process and prediction that do not go
            together.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        prediction: str | None,
        data: Images,
        settings: Settings,
        folder: str | Path,
        *,
        time_input: Callable[[Tensor], Tensor] | None = None,
        device: str | torch.device = "cpu",
        objective: Objective | None = None,
        held_out: Images | None = None,
        flip: bool = False,
        augment: float = 0.0,
        accumulate: int = 1,
        compile: bool = False,
        average: float | None = None,
        ranks: Ranks | None = None,
    ):
        if settings.batch_size > len(data):
            raise ValueError(
                f"batch_size {settings.batch_size} is larger than the data set of {len(data)} images: "
                f"give batch_size={1 << max(0, (len(data) // 8).bit_length() - 1)}, say"
            )
        self.ranks = Ranks() if ranks is None else ranks
        least = settings.batch_size // self.ranks.size  # images of a batch that a process has
        if not 1 <= accumulate <= least:
            shared = f"/{self.ranks.size} processes" if self.ranks.size > 1 else ""
            raise ValueError(
                f"accumulate must lie in [1, batch_size = {settings.batch_size}{shared}], got {accumulate}"
            )
        if average is not None and average not in settings.averages:
            raise ValueError(f"average={average} is none of averages={list(settings.averages)}")
        augmentation.check(augment)
        self.device = torch.device(device)
        self.net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        names: tuple[str | float, ...] = EMA, *settings.averages
        self.averages = {name: copy.deepcopy(self.net).requires_grad_(False).eval() for name in names}
        self.average: str | float = EMA if average is None else average
        # Beside the plain network, whose weights it shares, so that no name of a weight changes.
        self._shared = self._sharing() if self.ranks.size > 1 else None
        called = self._shared or self.net
        self._called = torch.compile(called, dynamic=False) if compile else called
        objective = objectives.ddpm() if objective is None else objective
        prediction = objective.prediction if prediction is None else prediction
        known = objectives.sigma_data(data) if needs_data(objective, objectives.check(prediction)) else None
        self.task = Task(objective.adapted(process), prediction, time_input, objective, known)
        self.data, self.held_out = data, held_out
        self.folder, self.flip, self.augment, self.accumulate = Path(folder), flip, augment, accumulate
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate, fused=True)
        self.step, self.seconds = 0, 0.0
        self.per_epoch = len(data) // settings.batch_size
        self.steps = settings.epochs * self.per_epoch
        self._asked, self.settings = settings, settings.filled(self.steps, self.device)
        self.losses: list[dict[str, Any]] = []
        self.continued: list[dict[str, int]] = []

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def process(self) -> Process:
        return self.task.process

    @property
    def prediction(self) -> str:
        return self.task.prediction

    @property
    def averaged(self) -> nn.Module:
        """The network with the averaged weights that were chosen."""
        return self.averages[self.average]

    @property
    def model(self) -> ScoreModel:
        """The averaged weights that were chosen as a score model."""
        return self.task.model(self.averaged)

    @cached_property
    def content(self) -> str:
        """SHA-256 of all images and labels, which tells other images at the same path from those of before."""
        labels = [] if self.data.labels is None else [self.data.labels]
        parts = (each.contiguous().numpy().tobytes() for each in itertools.chain(self.data.chunks(), labels))
        return digest_of(itertools.chain([str((len(self.data), *self.data.shape))], parts))

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        chosen = self.settings
        share = factor(chosen.schedule, step, self.steps, chosen.warmup or 0, chosen.decay_steps)
        return chosen.learning_rate * share

    @property
    def last_rate(self) -> float:
        """Learning rate of the last step that was done."""
        return self.optimiser.param_groups[0]["lr"]

    def keep(self, recorded: Mapping[str, Any]) -> None:
        """Take from a run of before, by what it recorded, the settings that were not asked for."""
        self.settings = self._asked.filled(self.steps, self.device, recorded)

    def run(
        self, report: Callable[[Trainer], None], every: int, measure: Measure | None = None, measured: int = 1
    ) -> None:
        """Train to the end; save, log and call ``report`` each ``every`` steps and at the end.

        Of several processes the first does all but the training, and the others wait for it.

        Args:
            report: called when the checkpoint is written, with what is in ``losses``.
            every: steps between reports.
            measure: gives ``fid``, ``fid_samples`` and ``fid_space`` of the model, which are recorded; its time counts
                neither as seconds nor as speed.
            measured: steps after which FID is measured again, at the next report, and at the end.
        """
        self.net.train()
        start, total, counted = time.perf_counter(), torch.zeros((), device=self.device), 0
        for batch in self._batches():
            with exchanging():
                total += self._train_step(batch)
            counted += 1
            self.step += 1
            if self.step % every == 0 or self.step == self.steps:
                now = time.perf_counter()
                elapsed, start = now - start, now
                self.seconds += elapsed
                mean = float(self.ranks.sum(total.cpu().double().numpy())) / counted
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"the training loss became {mean} before step {self.step}; lower learning_rate"
                    )
                entry: dict[str, Any] = {
                    "step": self.step,
                    "loss": mean,
                    "seconds": round(self.seconds, 1),
                    "learning_rate": self.rate(self.step - 1),
                    "images_per_second": round(counted * self.settings.batch_size / max(elapsed, 1e-9), 1),
                }
                due = self.step == self.steps or self.step // measured > (self.step - counted) // measured
                total.zero_()
                counted = 0
                with self._alone() as first:
                    if first and measure is not None and due:
                        entry |= measure(self.model)
                        start += time.perf_counter() - now
                    self.losses.append(entry)
                    if first:
                        self.save()
                        report(self)

    def _sharing(self) -> DistributedDataParallel:
        """The network with gradients that are means over the processes."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where NCCL is to work
        return DistributedDataParallel(self.net, gradient_as_bucket_view=True)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process is the first; at the end of the block the others have waited for it.

        Raises:
            SystemExit: the first process failed.
        """
        done = False
        try:
            yield self.ranks.rank == 0
            done = True
        finally:
            if self.ranks.settle(not done) and done:
                raise SystemExit(1)

    @torch.no_grad()
    def by_level(self) -> list[dict[str, float]]:
        """How far the averaged weights are off on the held-out images, by noise level; empty without such images.

        Returns:
            Of each level, from the lowest: ``sigma``, σ/α; ``loss``, the objective's at that level, without the share
            that the density gives it; ``error``, ‖D − x0‖²/dim of the denoiser D with images in [−1, 1].
        """
        found: list[dict[str, float]] = []
        if self.held_out is None:
            return found
        for t in self.task.times():
            generator = torch.Generator().manual_seed(SEED_OF_LEVELS)
            total = torch.zeros((), device=self.device)
            for x0, label in self._shown(self.held_out):
                epsilon = torch.randn(x0.shape, generator=generator).to(self.device)
                squared = self.task.squared(self.averaged, x0.to(self.device), epsilon, t.expand(len(x0)), **label)
                total += squared.flatten(1).mean(1).sum()
            mean, one = float(total) / len(self.held_out), t[None]
            factor = self.task.factor(one)
            found.append(
                {
                    "sigma": float(self.process.sigma(one) / self.process.alpha(one)),
                    "loss": mean if factor is None else mean * float(factor),
                    "error": mean * float(self.task.output_scale(one)) ** 2,
                }
            )
        return found

    @torch.no_grad()
    def held_out_loss(self, net: nn.Module) -> float:
        """The objective of a network on the held-out images, in the same noise at the same levels at every call.

        Raises:
            ValueError: there are no such images.
        """
        if self.held_out is None:
            raise ValueError("there are no held-out images: a trainer has those that it was given as held_out")
        generator = torch.Generator().manual_seed(SEED_OF_LEVELS)
        total = 0.0
        for x0, label in self._shown(self.held_out):
            epsilon, t = self.task.draw(x0, generator)
            total += float(self.task.at(net, x0.to(self.device), epsilon.to(self.device), t, **label)) * len(x0)
        return total / len(self.held_out)

    def _shown(self, images: Images) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """States, on the CPU, and labels, where there are any, of all images, a batch at a time."""
        for index in torch.arange(len(images)).split(self.settings.batch_size):
            batch = images.take(index)
            yield to_state(batch.pixels), {} if batch.labels is None else {"label": batch.labels.to(self.device)}

    def _batches(self) -> Iterator[Tensor]:
        size = self.settings.batch_size
        while self.step < self.steps:
            epoch, first = divmod(self.step, self.per_epoch)
            order = torch.randperm(len(self.data), generator=self._generator("epoch", epoch))
            for index in range(first, self.per_epoch):
                yield order[index * size : (index + 1) * size]

    def _generator(self, purpose: str, index: int, device: str | torch.device = "cpu") -> torch.Generator:
        stream = {"augment": 0, "epoch": 1, "step": 2, "flip": 3}[purpose]
        return torch.Generator(device).manual_seed((self.settings.seed * 4 + stream) * 2**32 + index)

    def _train_step(self, index: Tensor) -> Tensor:
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(self.step)
        generator = self._generator("step", self.step, self.device)
        batch = self.data.take(index)
        cond: dict[str, Tensor] = {}
        if batch.labels is not None:
            dropped = torch.rand(len(index), generator=generator, device=self.device) < settings.label_dropout
            cond["label"] = batch.labels.to(self.device).masked_fill(dropped, self.data.classes)
        autocast = torch.autocast(self.device.type, torch.bfloat16) if settings.bf16 else nullcontext()

        def net(x: Tensor, t: Tensor, **kwargs: Any) -> Tensor:
            with autocast:
                return self._called(x, t, **kwargs)

        pixels = batch.pixels
        if self.flip:
            pixels = mirrored(pixels, self._generator("flip", self.step))
        if self.augment:
            # On the CPU: not every device interpolates bicubically, and images are the same whatever the device.
            own = self._generator("augment", self.step)
            images, told = augmentation.augmented(to_state(pixels), self.augment, own, mirror=not self.flip)
            x0, cond["augment"] = images.to(self.device), told.to(self.device)
        else:
            x0 = to_state(pixels.to(self.device))
        epsilon, t = self.task.draw(x0, generator)
        value = torch.zeros((), device=self.device)
        mine = torch.arange(len(x0)).tensor_split(self.ranks.size)[self.ranks.rank]
        parts = mine.tensor_split(self.accumulate)
        for part in parts:
            rows = slice(int(part[0]), int(part[-1]) + 1)
            given = {key: tensor[rows] for key, tensor in cond.items()}
            shared = self._shared if part is not parts[-1] else None  # gradients are exchanged with the last part
            with nullcontext() if shared is None else shared.no_sync():
                share = self.task.at(net, x0[rows], epsilon[rows], t[rows], **given) * (len(part) / len(x0))
                (share * self.ranks.size).backward()  # of the gradients a mean is taken
            value += share.detach()
        nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for name, average in self.averages.items():
            done = self.step + 1
            ema = isinstance(name, str)
            kept = averages.exponential(settings.ema or 0.0, done) if ema else averages.power(name, done)
            averages.update(average, self.net, kept)
        return value

    def _identity(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that takes it up, in JSON's types."""
        shapes = {name: list(value.shape) for name, value in self.net.state_dict().items()}
        identity = {
            "settings": self.settings.recorded(),
            "process": self.process.config(),
            "prediction": self.prediction,
            "images": [len(self.data), *self.data.shape],
            "content": self.content,
            "network": shapes,
            # Checkpoints without these are what they were before there were these.
            **({"flip": True} if self.flip else {}),
            **({"augment": self.augment} if self.augment else {}),
        }
        # As checkpoints of before there was a choice, which have to be taken up.
        if (described := dict(self.task.objective.described)) != {"name": objectives.DEFAULT}:
            identity["objective"] = described
        return json.loads(json.dumps(identity))

    def save(self) -> None:
        widths = self.settings.averages
        state = {
            "format": FORMAT,
            "identity": self._identity(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            **({"continued": self.continued} if self.continued else {}),
            "net": self.net.state_dict(),
            "averaged": self.averages[EMA].state_dict(),
            **({"averages": others} if (others := [self.averages[name].state_dict() for name in widths]) else {}),
            "optimiser": self.optimiser.state_dict(),
        }
        # Not to a path, whose name torch would write into it, nor to a file: Ctrl-C in its writes is a RuntimeError.
        content = io.BytesIO()
        torch.save(_interned(state), content)
        with replacing(self.checkpoint) as path:
            path.write_bytes(content.getbuffer())

    def resume(self) -> bool:
        """Take up the folder's checkpoint; False if there is none.

        It may have been made for another number of epochs, if no more than these are done: the schedule goes on where
        it is at that step of the new number, so that a rate which falls to zero rises again.

        Raises:
            ValueError: the checkpoint is damaged, not one of ours, made with other settings or images (the keys are
                named), or further than these epochs.
        """
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(regular(self.checkpoint), map_location=self.device, weights_only=True)
        except Exception as error:
            raise self._damaged(error) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"{str(self.checkpoint)!r} is not a training checkpoint of the format {FORMAT!r}")
        old = state.get("identity")
        recorded = old.get("settings") if isinstance(old, dict) else None
        recorded = recorded if isinstance(recorded, dict) else {}
        self.keep(recorded)
        new = self._identity()
        if isinstance(old, dict) and ("content" not in old or old.get("images") != new["images"]):
            old.pop("content", None)  # earlier versions wrote none; and other shapes say enough
            del new["content"]
        planned: Any = recorded.get("epochs")
        if isinstance(planned, int):
            recorded["epochs"] = self.settings.epochs
        if differing := differences(old, new):
            raise ValueError(
                f"{str(self.checkpoint)!r} was made with other values of {', '.join(differing)}; "
                "use those, or another folder"
            )
        if isinstance(step := state.get("step"), int) and self.steps < step <= planned * self.per_epoch:
            raise ValueError(
                f"{str(self.checkpoint)!r} has {step / self.per_epoch:.4g} epochs done, more than "
                f"epochs={self.settings.epochs}: ask for at least as many, or choose another folder"
            )
        try:
            self._take(state, planned)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        return True

    def _damaged(self, error: Exception) -> ValueError:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        return ValueError(f"{str(self.checkpoint)!r} is damaged or foreign: {reason}; remove it to begin anew")

    def _take(self, state: dict[str, Any], planned: int) -> None:
        step, seconds = state["step"], float(state["seconds"])
        kinds = {**ENTRY, **LATER}
        losses = [
            {key: kind(entry[key]) for key, kind in kinds.items() if key in ENTRY or key in entry}
            for entry in state["losses"]
        ]
        continued = [{key: int(entry[key]) for key in ("step", "epochs")} for entry in state.get("continued", [])]
        if not isinstance(step, int) or not 0 <= step <= planned * self.per_epoch or not 0 <= seconds < math.inf:
            raise ValueError(f"step {step!r} of {planned * self.per_epoch} after {seconds} s")
        read = state["net"], state["averaged"], *state.get("averages", [])
        for net, weights in zip((self.net, *self.averages.values()), read, strict=True):
            if not all(value.isfinite().all() for value in weights.values()):
                raise ValueError("its weights are not finite")
            net.load_state_dict(weights)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = step, seconds
        self.losses = losses
        self.continued = continued
        if planned != self.settings.epochs and step:
            self.continued.append({"step": step, "epochs": planned})


def mirrored(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Images (batch, channels, height, width), each of them mirrored left to right with probability ½."""
    chosen = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def _interned(content: Any) -> Any:
    """The same with every equal text one object, as which a pickle writes it: equal content has equal bytes."""
    if isinstance(content, dict):
        return {_interned(key): _interned(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_interned(value) for value in content]
    return sys.intern(content) if isinstance(content, str) else content
