"""Train the feature network of 32×32 colour images as a classifier, and write what FID in its space needs.

python -m benchmarks.bundled.cifar_classifier --data <folder of both tars> --out benchmarks/models/cifar10

The folder gets ``features/``, ``reference.npz`` and ``test_features.npz``. A run that was killed goes on where its last
checkpoint was, with as many threads bit for bit, when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import textwrap
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bundled.feature_statistics import fair_order, from_data, labelled
from benchmarks.bundled.features import made, public
from scoresde.data import Images, to_state
from scoresde.files import digest_of, regular, replacing
from scoresde.metrics import FeatureSpace, PatchNetwork, load_features, real_floor, save_features
from scoresde.runs.differences import differences

FORMAT = "scoresde-classifier-1"
EVERY = 40  # steps between checkpoints
REACH = 2  # pixels by which images are shifted at most
PATCHED = 5000  # images whose patches the first layer whitens
# Of Jordan 2024 (arXiv 2404.00498), airbench94. The rate is for 1,024 images and counts what momentum adds up to.
RATE, MOMENTUM, DECAY, SMOOTHING = 11.5, 0.85, 0.0153, 0.2
OF_BIASES = 64  # times the rate, for the biases of batch normalisation
SCHEDULE = (0, 0.23, 1), (0.2, 1, 0.07)  # shares of the training, and of the rate there; linear between them
LOOK = 5  # steps between two of Lookahead (Zhang et al. 2019)
# Of the mean eigenvalue. The least of the MNIST space, which is whitened as it is, is that.
RIDGE = 1e-3
FLOORS = 500, 1000, 2000, 5000, 10_000  # sample counts
WIDTH = 120  # of prose


@dataclass(frozen=True)
class Recipe:
    """What a training is, apart from its images.

    Attributes:
        epochs, batch_size: how long, and in which steps.
        channels: of :class:`PatchNetwork`.
        held_out: training images that are kept for the reference.
        seed: of everything random.
    """

    epochs: int = 24
    batch_size: int = 500
    channels: tuple[int, int, int] = (64, 256, 128)
    held_out: int = 6000
    seed: int = 0


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    default = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled images with train and test splits")
    parser.add_argument("--out", required=True, type=Path, help="the folder of a model, or of one to come")
    parser.add_argument("--name", default="scoresde-cifar10", help="name of the feature space; the size is appended")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--batch-size", type=int, default=default.batch_size)
    parser.add_argument("--channels", type=int, nargs=3, default=default.channels)
    parser.add_argument("--held-out", type=int, default=default.held_out)
    parser.add_argument("--seed", type=int, default=default.seed)
    args = parser.parse_args(arguments)
    recipe = Recipe(args.epochs, args.batch_size, tuple(args.channels), args.held_out, args.seed)

    train, test = labelled(args.data, "train"), labelled(args.data, "test")
    reference, train = split(train, recipe.held_out)
    training = Training(train, recipe, args.out / "features" / "checkpoint.safetensors")
    training.resume()
    training.run()
    card = write(training, reference, test, args.out, args.name, public(arguments))
    training.checkpoint.unlink()
    told = f"{card['test_accuracy']:.2%} of the test images, {card['test_accuracy_mirrored']:.2%} with mirror images"
    print(f"{told}, {card['seconds']:.0f} s")


def split(data: Images, held_out: int) -> tuple[Images, Images]:
    """Images for the reference, and those for training; both have the class shares of the whole.

    Raises:
        ValueError: no image is left for one of them.
    """
    assert data.labels is not None
    if not 0 < held_out < len(data):
        raise ValueError(f"held_out = {held_out} of {len(data)} images leaves none for training or the reference")
    order = fair_order(data.labels)
    return data.take(order[:held_out]), data.take(order[held_out:])


class Training:
    """One training, which can be left and taken up again at any checkpoint, bit for bit.

    What is random of epoch e comes from generators seeded by (seed, e), so a checkpoint is weights, Lookahead's slow
    weights, momenta and step, and nothing else.

    Args:
        data: images with labels, in an order that is random with regard to class.
        recipe: see :class:`Recipe`.
        checkpoint: its file.
    """

    def __init__(self, data: Images, recipe: Recipe, checkpoint: Path):
        if recipe.batch_size > len(data):
            raise ValueError(f"batch_size {recipe.batch_size} is larger than the data set of {len(data)} images")
        self.data, self.recipe, self.checkpoint = data, recipe, checkpoint
        torch.manual_seed(recipe.seed)
        network = PatchNetwork(data.pixels.shape[1], recipe.channels, data.classes)
        network.fit_patches(to_state(data.pixels[:PATCHED]))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.slow = {name: value.clone() for name, value in self._fast().items()}
        self.rate = RATE * recipe.batch_size / 1024 / (1 + 1 / (1 - MOMENTUM))
        biases = [each for each in network.trunk.parameters() if each.ndim == 1 and each.requires_grad]
        others = [each for each in network.parameters() if each.ndim > 1 and each.requires_grad]
        self.optimiser = torch.optim.SGD(
            [  # decay is by the same share per step for both
                {"params": others, "factor": 1.0, "weight_decay": DECAY / RATE},
                {"params": biases, "factor": OF_BIASES, "weight_decay": DECAY / RATE / OF_BIASES},
            ],
            lr=self.rate,
            momentum=MOMENTUM,
            nesterov=True,
        )
        self.step, self.seconds = 0, 0.0
        self.per_epoch = len(data) // recipe.batch_size
        self.steps = recipe.epochs * self.per_epoch
        self.losses: list[float] = []  # means over the steps between two checkpoints

    def run(self, until: int | None = None) -> None:
        """Train to the end, or to a step; save a checkpoint each ``EVERY`` steps and at the end."""
        self.network.train()
        until = self.steps if until is None else min(until, self.steps)
        start, total, counted = time.perf_counter(), 0.0, 0
        while self.step < until:
            total += self._train_step()
            counted += 1
            self.step += 1
            if self.step % EVERY == 0 or self.step == self.steps:
                now = time.perf_counter()
                self.seconds, start = self.seconds + now - start, now
                self.losses.append(total / counted)
                if not math.isfinite(total):
                    raise FloatingPointError(f"the training loss became {total / counted} before step {self.step}")
                self.save()
                done = f"step {self.step}/{self.steps}, epoch {self.step / self.per_epoch:.1f}"
                print(f"{done}: loss {self.losses[-1]:.4f}, {self.seconds:.0f} s", flush=True)
                total, counted = 0.0, 0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """States and labels of a step: shifted, every second epoch mirrored against the one before.

        Of Jordan 2024, sec. 3.6: the first epoch mirrors an image or not by chance, then it alternates, so that no two
        epochs in a row see the same.
        """
        size, count = self.recipe.batch_size, len(self.data)
        epoch, index = divmod(step, self.per_epoch)
        generator = self._generator(1 + epoch)
        order = torch.randperm(count, generator=generator)
        shifts = torch.randint(2 * REACH + 1, (count, 2), generator=generator)
        mirrored = torch.randint(2, (count,), generator=self._generator(0)).bool() ^ bool(epoch % 2)
        chosen = order[index * size : (index + 1) * size]
        assert self.data.labels is not None
        x = to_state(self.data.pixels[chosen])
        x = torch.where(mirrored[chosen].view(-1, 1, 1, 1), x.flip(-1), x)
        return shifted(x, shifts[chosen]), self.data.labels[chosen]

    def _train_step(self) -> float:
        scale = float(np.interp((self.step + 1) / self.steps, *SCHEDULE))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * scale * group["factor"]
        x, labels = self.batch(self.step)
        # Weights, loss and optimiser stay in float32, and features are taken in float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network.classify(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if (self.step + 1) % LOOK == 0 or self.step + 1 == self.steps:
            self._look()
        return float(loss.detach())

    @torch.no_grad()
    def _look(self) -> None:
        """Lookahead with slow weights that are ever slower, and what remains in the end, as in Jordan 2024."""
        progress = (self.step + 1) / self.steps
        slowness = 1.0 if progress == 1 else 0.95**LOOK * progress**3
        for name, fast in self._fast().items():
            fast.copy_(self.slow[name].lerp_(fast, 1 - slowness))

    def _fast(self) -> dict[str, Tensor]:
        """Weights and running statistics, but for the count of steps."""
        return {name: value for name, value in self.network.state_dict().items() if value.is_floating_point()}

    def _generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 2**32 + index)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that takes it up, in JSON's types."""
        assert self.data.labels is not None
        content = [values.contiguous().numpy().tobytes() for values in (self.data.pixels, self.data.labels)]
        identity = {"recipe": asdict(self.recipe), "shape": list(self.data.pixels.shape), "content": digest_of(content)}
        return json.loads(json.dumps(identity))

    def save(self) -> None:
        momenta = self.optimiser.state_dict()["state"]
        tensors = {
            **{f"network.{name}": value for name, value in self.network.state_dict().items()},
            **{f"slow.{name}": value for name, value in self.slow.items()},
            **{f"momentum.{index}": state["momentum_buffer"] for index, state in momenta.items()},
        }
        about = {"identity": self._identity, "step": self.step, "seconds": self.seconds, "losses": self.losses}
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        content = safetensors.torch.save(tensors, {"format": FORMAT, "about": json.dumps(about)})
        with replacing(self.checkpoint) as path:
            path.write_bytes(content)

    def resume(self) -> bool:
        """Take up the checkpoint; False if there is none.

        Raises:
            ValueError: it is damaged, not one of ours, or made with another recipe or other images (named).
        """
        if not self.checkpoint.exists():
            return False
        where = repr(str(self.checkpoint))
        try:
            with safetensors.safe_open(regular(self.checkpoint), "pt") as file:
                about = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.get("format") != FORMAT:
                raise ValueError(f"it is not of the format {FORMAT!r}")
            about = json.loads(about["about"])
            differing = differences(about["identity"], self._identity)
        except Exception as error:  # of a damaged file anything may come
            raise ValueError(f"{where} is damaged or foreign: {error}; remove it to begin anew") from error
        if differing:
            raise ValueError(
                f"{where} was made with other values of {', '.join(differing)}; use those, or another folder"
            )
        self._take(found, about)
        return True

    def _take(self, found: dict[str, Tensor], about: dict[str, Any]) -> None:
        def named(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}

        self.network.load_state_dict(named("network."))
        for name, value in named("slow.").items():
            self.slow[name].copy_(value)
        momenta = {
            int(index): {
                # As the weights lie: other strides may round differently.
                "momentum_buffer": value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
            }
            for index, value in named("momentum.").items()
        }
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": momenta})
        self.step, self.seconds, self.losses = about["step"], about["seconds"], about["losses"]


def shifted(x: Tensor, shifts: Tensor) -> Tensor:
    """Windows of states that were mirrored at their edges by ``REACH`` pixels; those shifted by REACH are themselves.

    Args:
        x: (n, channels, height, width).
        shifts: (n, 2), downwards and to the right, of 0 to 2 REACH.
    """
    count, channels, height, width = x.shape
    padded = F.pad(x, (REACH,) * 4, mode="reflect")
    rows = (shifts[:, 0, None] + torch.arange(height))[:, None, :, None]
    columns = (shifts[:, 1, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]


def write(
    training: Training, reference: Images, test: Images, out: Path, name: str, arguments: list[str]
) -> dict[str, Any]:
    """Write ``features/``, ``reference.npz`` and ``test_features.npz`` of a finished training; returns the card.

    Features are whitened by the reference images: those of images that the classifier was trained on lie apart by
    class more than others do.
    """
    network = training.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.round()
    channels, height, width = reference.pixels.shape[1:]
    shape = (channels, height, width)
    space = FeatureSpace(network, name, shape, {})
    pooled = space.features(reference.pixels)  # the network does not whiten yet
    network.whiten(pooled, RIDGE)
    settings = {**asdict(training.recipe), "ridge": RIDGE, "losses": [round(each, 4) for each in training.losses]}
    command = f"python -m benchmarks.bundled.cifar_classifier {shlex.join(arguments)}"
    card = made(space, test, len(training.data), command, settings, training.seconds, pooled)
    card["reference_images"] = len(reference)
    card["test_accuracy_mirrored"] = mirrored_accuracy(space, test)
    save_features(out / "features", network, f"{name}-{network.size}", shape, card)
    space = load_features(out / "features")
    from_data(reference, test, space, out)
    with replacing(out / "features" / "README.md") as path:
        path.write_text(page(space, out), encoding="utf-8")
    return card


def mirrored_accuracy(space: FeatureSpace, data: Images) -> float:
    """Share of the images of whose label the logits of the image and its mirror image have the largest sum.

    Jordan 2024 counts so, sec. 3.5, with shifts too.
    """
    assert data.labels is not None
    logits = space.classify(data.pixels) + space.classify(data.pixels.flip(-1))
    return float((logits.argmax(1).cpu() == data.labels).float().mean())


def page(space: FeatureSpace, out: Path) -> str:
    """The card in words, with the floors."""
    card, config = space.card, space.network.config
    weights = sum(value.numel() for value in space.network.parameters())
    held, settings = card["reference_images"], card["settings"]
    what = (
        f"{space.size} features of {'×'.join(map(str, space.shape))} images, from a classifier of {config['classes']} "
        f"classes: `PatchNetwork` with {tuple(config['channels'])} channels, {weights:,} weights, stored in float16. "
        f"It is right on {card['test_accuracy']:.2%} of the {card['test_images']:,} test images, and on "
        f"{card['test_accuracy_mirrored']:.2%} by the sum of what it says of an image and of its mirror image."
    )
    reference = (
        f"The reference, `../reference.npz`, is of {held:,} training images that were held out: the network was "
        "trained neither on them nor on the test images. FID of test images against it, the floor of any model's (mean "
        "over all disjoint sets of so many, ± their spread):"
    )
    lines = [
        f"# {space}",
        "",
        textwrap.fill(what, WIDTH),
        "",
        "| | |",
        "|---|---|",
        f"| command | `{card['command']}` |",
        f"| training | {settings['epochs']} epochs of {card['training_images']:,} images, batch "
        f"{settings['batch_size']}, seed {settings['seed']} |",
        f"| duration | {card['seconds']:,.0f} s |",
        f"| hardware | {card['hardware']}, torch {card['torch']} |",
        f"| whitening | by the {held:,} reference images, ridge {RIDGE:g} |",
        "",
        textwrap.fill(reference, WIDTH),
        "",
        "| images | FID |",
        "|---:|---:|",
    ]
    for n in FLOORS:
        if n <= card["test_images"]:
            score, spread = real_floor(n, out)
            lines.append(f"| {n:,} | {score.value:.3f}{'' if spread is None else f' ± {spread:.3f}'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
