"""Augmentation: images are transformed as the network is told, and samples, noise and other runs know nothing of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import scoresde
from scoresde import models
from scoresde.commands import train
from scoresde.data import load, to_state
from scoresde.networks.dit import DiT
from scoresde.networks.unet import UNet
from scoresde.process import VP
from scoresde.training import Settings, Trainer
from scoresde.training.augmentation import CONDITION, KINDS, augmented, condition, drawn, transformed

DIGITS = load("digits").take(torch.arange(64))
SETTINGS = Settings(epochs=2, batch_size=16, warmup=3, learning_rate=3e-3, ema=0.999, seed=5)
NAMES = ("x_flip", "y_flip", "scale", "angle", "direction", "stretch", "right", "down")
OCTAVE = 5.0  # the parameter of a scale of 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> Tensor:
    return 2 * torch.rand(shape, generator=generator(9)) - 1


def spot(height: int, width: int, x: float = 0, y: float = 0, across: float = 2.5, down: float = 2.5) -> Tensor:
    """A smooth spot around (x, y), pixels from the middle with y down: what interpolation hardly changes."""
    rows, columns = (torch.arange(size) - (size - 1) / 2 for size in (height, width))
    exponent = ((columns - x) / across) ** 2 + ((rows[:, None] - y) / down) ** 2
    return (2 * (-0.5 * exponent).exp() - 1)[None, None]


def chosen(count: int, /, **values: float) -> Tensor:
    assert values.keys() <= set(NAMES)
    return torch.tensor([values.get(name, 0.0) for name in NAMES], dtype=torch.float64).repeat(count, 1)


# Images


def test_untouched_images_keep_their_bits_and_are_told_by_zeros() -> None:
    images = noise(50, 3, 6, 7)
    same, told = augmented(images, 0.0, generator())
    assert torch.equal(same, images) and not told.any()
    some, told = augmented(images, 0.12, generator())
    untouched = ~told.any(1)
    assert 10 < untouched.sum() < 40
    for before, after, kept in zip(images, some, untouched.tolist(), strict=True):
        assert torch.equal(before, after) is kept
    assert torch.equal(images, noise(50, 3, 6, 7))  # not written into


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"x_flip": 1.0}, lambda x: x.flip(3)),
        ({"y_flip": 1.0}, lambda x: x.flip(2)),
        ({"angle": math.pi}, lambda x: x.flip(2, 3)),
        ({"angle": -math.pi, "y_flip": 1.0}, lambda x: x.flip(3)),
        ({"scale": OCTAVE, "x_flip": 1.0, "stretch": 1.0}, None),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 6, 9)])
def test_flips_and_half_turns_are_those_of_the_pixels(
    shape: tuple[int, ...], values: dict[str, float], expected: Callable[[Tensor], Tensor] | None
) -> None:
    images = noise(*shape)
    # What has no such form is still the transformation of the mirrored image.
    target = transformed(images.flip(3), chosen(2, **{**values, "x_flip": 0})) if expected is None else expected(images)
    torch.testing.assert_close(transformed(images, chosen(2, **values)), target, rtol=0, atol=1e-5)


def test_a_quarter_turn_goes_counter_clockwise() -> None:
    images = noise(2, 3, 8, 8)
    torch.testing.assert_close(
        transformed(images, chosen(2, angle=math.pi / 2)), images.rot90(1, (2, 3)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, 1), (-3, 2)])
def test_a_translation_by_whole_pixels_shifts_by_the_image_s_own_sides(right: int, down: int) -> None:
    images = noise(2, 3, 8, 12)
    found = transformed(images, chosen(2, right=8 * right / 12, down=8 * down / 8))
    inside = (..., slice(max(down, 0), 8 + min(down, 0)), slice(max(right, 0), 12 + min(right, 0)))
    torch.testing.assert_close(found[inside], images.roll((down, right), (2, 3))[inside], rtol=0, atol=1e-4)
    if right > 0:  # what comes in is mirrored at the border
        torch.testing.assert_close(found[..., 2:, :right], images[..., 2:, :right].flip(3), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        ({"scale": OCTAVE}, {"x": 3, "y": -2}, {"x": 6, "y": -4, "across": 5, "down": 5}),
        ({"angle": math.pi / 6}, {"x": 8}, {"x": 8 * math.cos(math.pi / 6), "y": -4}),
        ({"angle": math.pi / 2}, {"x": 7, "across": 4}, {"y": -7, "down": 4}),
        ({"stretch": OCTAVE / 2}, {"x": 3, "y": 4}, {"x": 18**0.5, "y": 8**0.5, "across": 3.5355, "down": 1.7678}),
        ({"stretch": OCTAVE / 2, "direction": math.pi / 2}, {"y": 4}, {"y": 32**0.5, "across": 1.7678, "down": 3.5355}),
        ({"right": 1.0, "down": -1.0}, {}, {"x": 5, "y": -3}),
    ],
)
def test_shapes_are_turned_and_scaled_in_pixels_whatever_the_sides(
    values: dict[str, float], before: dict[str, float], after: dict[str, float]
) -> None:
    found, expected = transformed(spot(24, 40, **before), chosen(1, **values)), spot(24, 40, **after)
    assert (found - expected).abs()[..., 4:-4, 4:-4].max() < 0.04
    assert (spot(24, 40, **before) - expected).abs().max() > 0.5


def test_a_stretch_in_a_direction_is_a_turn_a_stretch_and_a_turn_back() -> None:
    image, way = spot(64, 80, x=4, y=2, across=6, down=4), 0.7
    found = transformed(image, chosen(1, stretch=2.0, direction=way))
    for values in ({"angle": -way}, {"stretch": 2.0}, {"angle": way}):
        image = transformed(image, chosen(1, **values))
    assert (found - image).abs().max() < 0.05


def test_all_are_done_in_the_order_in_which_they_are_told() -> None:
    values = {"y_flip": 1.0, "scale": 1.5, "angle": 0.6, "direction": 0.9, "stretch": 1.2, "right": 0.6, "down": 0.4}
    image = spot(32, 40, x=5, y=3, across=4, down=3)
    found = transformed(image, chosen(1, **values))
    for part in (["y_flip"], ["scale"], ["angle"], ["direction", "stretch"], ["right", "down"]):
        image = transformed(image, chosen(1, **{name: values[name] for name in part}))
    assert (found - image).abs()[..., 4:-4, 4:-4].max() < 0.08
    assert (found - spot(32, 40, x=5, y=3, across=4, down=3)).abs().max() > 0.5


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(4, 24), st.integers(4, 24)),
    count=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    probability=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    mirror=st.booleans(),
)
def test_images_of_any_shape_stay_images(
    sides: tuple[int, int], count: int, channels: int, probability: float, seed: int, mirror: bool
) -> None:
    images = noise(count, channels, *sides).sign()  # edges, where bicubic interpolation overshoots most
    found, told = augmented(images, probability, generator(seed), mirror)
    assert found.shape == images.shape and found.dtype == images.dtype
    assert found.isfinite().all() and found.abs().max() <= 1
    assert told.shape == (count, CONDITION) and told.dtype == torch.float32 and told.isfinite().all()
    again, told_again = augmented(images, probability, generator(seed), mirror)
    assert torch.equal(found, again) and torch.equal(told, told_again)
    assert mirror or not told[:, 0].any()


# Draws and the condition


def test_the_condition_tells_the_parameters() -> None:
    parameters = drawn(500, 0.7, generator())
    told = condition(parameters).double()
    x_flip, y_flip, scale, angle, direction, stretch, right, down = parameters.unbind(1)
    for entry, value in ((0, x_flip), (1, y_flip), (2, scale), (7, right), (8, down)):
        torch.testing.assert_close(told[:, entry], value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.atan2(told[:, 4], told[:, 3] + 1), angle, rtol=0, atol=1e-6)
    # Up to the signs of both, which the entries do not tell.
    along = told[:, 5] * direction.cos() + told[:, 6] * direction.sin()
    torch.testing.assert_close(along, stretch, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(told[:, 5].hypot(told[:, 6]), stretch.abs(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("probability", [0.12, 0.6])
def test_each_transformation_is_done_by_itself_with_its_probability(probability: float) -> None:
    count = 20_000
    done = drawn(count, probability, generator()) != 0
    shares = [probability / 2] * 2 + [probability] * 6  # half of the flips that are done leave the image as it is
    for column, share in zip(done.T, shares, strict=True):
        assert abs(float(column.double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / count)
    assert torch.equal(done[:, 4], done[:, 5]) and torch.equal(done[:, 6], done[:, 7])
    kinds = done[:, [0, 1, 2, 3, 4, 6]].double()
    correlation = torch.corrcoef(kinds.T).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / math.sqrt(count)


def test_parameters_have_their_distributions_and_probability_decides_nothing_but_which() -> None:
    count = 20_000
    every = drawn(count, 1.0, generator())
    for column in (2, 5, 6, 7):
        assert abs(float(every[:, column].mean())) < 5 / math.sqrt(count)
        assert abs(float(every[:, column].var()) - 1) < 5 * math.sqrt(2 / count)
    for column in (3, 4):
        assert every[:, column].abs().max() <= math.pi
        counts = (every[:, column] / math.pi * 5).floor().long().add(5).bincount(minlength=10)
        assert (counts - count / 10).abs().max() < 5 * math.sqrt(count * 0.09)
    some = drawn(count, 0.3, generator())
    assert torch.equal(some, every.where(some != 0, 0.0))
    assert not torch.equal(drawn(9, 1.0, generator(1)), drawn(9, 1.0, generator(2)))
    assert len(KINDS) == len(NAMES) == every.shape[1]


# Runs


def trainer(folder: Path, augment: float = 0.5, **options: Any) -> Trainer:
    torch.manual_seed(options.pop("init", 0))
    made = UNet(channels=(16, 32), depth=1, num_classes=10, augment=CONDITION if augment else 0)
    net, chosen = options.pop("net", made), options.pop("settings", SETTINGS)
    return Trainer(
        net, VP(), "epsilon", DIGITS, chosen, folder, time_input=lambda t: 1000 * t, augment=augment, **options
    )


def nothing(run: Trainer) -> None:
    pass


class LeaveError(Exception):
    """Raised by a report, to leave the run in its middle."""


def leave(run: Trainer) -> None:
    raise LeaveError


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of eight steps without interruption."""
    run = trainer(tmp_path_factory.mktemp("straight"))
    run.run(nothing, every=8)
    return run


def test_a_run_goes_on_in_the_same_bits_and_under_no_other_probability(tmp_path: Path, straight: Trainer) -> None:
    with pytest.raises(LeaveError):
        trainer(tmp_path).run(leave, every=3)
    with pytest.raises(ValueError, match="made with other values of augment;"):
        trainer(tmp_path, augment=0.4).resume()
    with pytest.raises(ValueError, match="made with other values of augment, network.embed_augment.weight;"):
        trainer(tmp_path, augment=0).resume()
    again = trainer(tmp_path, init=99)
    assert again.resume() and again.step == 3
    again.run(nothing, every=8)
    assert same(again.net, straight.net) and same(again.averaged, straight.averaged)
    layer = straight.net.embed_augment
    assert isinstance(layer, nn.Linear) and layer.weight.abs().min() > 0  # what began at zero has learned


def test_without_it_nothing_is_recorded(tmp_path: Path, straight: Trainer) -> None:
    assert straight._identity()["augment"] == 0.5
    assert "augment" not in trainer(tmp_path, augment=0)._identity()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What networks are trained on: a batch each."""
    found: list[dict[str, Tensor]] = []

    def keep(task: Any, net: Any, x0: Tensor, epsilon: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        found.append({"x0": x0, "epsilon": epsilon, "t": t, **cond})
        return net(x0, torch.ones(len(x0)), **cond).mean()

    monkeypatch.setattr("scoresde.training.trainer.Task.at", keep)
    return found


@pytest.mark.parametrize("flip", [False, True])
def test_times_noise_labels_and_mirroring_are_those_of_the_run_without(
    tmp_path: Path, seen: list[dict[str, Tensor]], flip: bool
) -> None:
    for augment in (0, 0.12):
        trainer(tmp_path, augment, flip=flip).run(nothing, every=8)
    plain, changed, conditions = seen[:8], seen[8:], list[Tensor]()
    for before, after in zip(plain, changed, strict=True):
        told = after.pop("augment")
        x, y = before.pop("x0"), after.pop("x0")
        assert before.keys() == after.keys() == {"epsilon", "t", "label"}
        assert all(torch.equal(before[key], after[key]) for key in before)
        untouched = ~told.any(1)
        assert untouched.any() and torch.equal(x[untouched], y[untouched])
        conditions.append(told)
    told = torch.cat(conditions)
    assert 40 < int(told.any(1).sum()) < 90  # of 128
    assert bool(told[:, 0].any()) is not flip


def test_every_step_transforms_otherwise_and_parts_get_what_the_batch_got(
    tmp_path: Path, seen: list[dict[str, Tensor]]
) -> None:
    for parts in (1, 3):
        trainer(tmp_path, accumulate=parts).run(nothing, every=8)
    whole, pieces = seen[:8], seen[8:]
    for key in ("x0", "augment", "epsilon", "t", "label"):
        joined, split = (torch.cat([entry[key] for entry in entries]) for entries in (whole, pieces))
        assert torch.equal(joined, split)
    assert not torch.equal(whole[0]["augment"], whole[1]["augment"])


def test_parts_and_compiled_networks_learn_the_same_to_rounding(tmp_path: Path, monkeypatch: Any) -> None:
    torch._dynamo.reset()
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **options: compile(net, backend="eager", **options))
    losses = []
    for options in ({}, {"accumulate": 3}, {"compile": True}):
        net = DiT(num_classes=10, width=16, depth=1, heads=1, augment=CONDITION)
        run = trainer(tmp_path, net=net, settings=Settings(epochs=1, batch_size=16, bf16=False), **options)
        torch.manual_seed(1)
        for parameter in run.net.parameters():
            nn.init.normal_(parameter, std=0.1)
        run.run(nothing, every=1)
        losses.append([entry["loss"] for entry in run.losses])
    assert losses[1] == pytest.approx(losses[0], 1e-4) and losses[2] == pytest.approx(losses[0], 1e-4)
    torch._dynamo.reset()


def test_held_out_images_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Tensor] = []

    def keep(task: Any, net: Any, x0: Tensor, *_: Any, **cond: Tensor) -> Tensor:
        shown.append(x0)
        assert cond.keys() == {"label"}
        return x0

    monkeypatch.setattr("scoresde.training.trainer.Task.squared", keep)
    run = trainer(tmp_path, augment=1.0, held_out=DIGITS.take(torch.arange(16)))
    run.by_level()
    assert shown and all(torch.equal(x0, to_state(DIGITS.pixels[:16])) for x0 in shown)


@pytest.mark.parametrize("augment", [-0.1, 1.5, math.nan, True, "0.1"])
def test_what_is_no_probability_is_refused(tmp_path: Path, augment: Any) -> None:
    with pytest.raises(ValueError, match=r"augment must be a number in \[0, 1\], got"):
        trainer(tmp_path, augment)


def test_a_network_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made with augment=0: it takes no condition of an augmentation"):
        trainer(tmp_path, net=UNet(channels=(8,), depth=1, num_classes=10)).run(nothing, every=8)


# The command

TINY = ("network.channels=[8,16]", "network.depth=1", "epochs=1", "batch_size=512", "every=9")
PLUGIN = """
import torch
from torch import nn

from scoresde.networks import NETWORKS


class Told(nn.Module):
    def __init__(self, in_channels=1, num_classes=0, augment=0):
        super().__init__()
        self.config = {"in_channels": in_channels, "num_classes": num_classes, "augment": augment}
        self.layer = nn.Linear(augment, 1)

    def forward(self, x, t, label=None, augment=None):
        told = torch.zeros(len(x), self.layer.in_features, device=x.device) if augment is None else augment
        return x * self.layer(told).view(-1, 1, 1, 1)


class Untold(nn.Module):
    def __init__(self, in_channels=1, num_classes=0):
        super().__init__()


NETWORKS.add("told", Told)
NETWORKS.add("untold", Untold)
"""


def test_a_model_that_was_trained_with_it_loads_and_samples(command: Callable[..., Any]) -> None:
    status, _, err = command(*TINY, "data.augment=0.5", "out=run")
    assert (status, err) == (0, "")
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"] == {
        "path": "digits",
        "split": "train",
        "augment": 0.5,
    }
    config = json.loads(Path("run/model", models.CONFIG).read_text())
    assert config["network"]["augment"] == CONDITION and config["training"]["data"]["augment"] == 0.5
    loaded = models.load("run/model").model
    made = scoresde.sample(loaded, nfe=3, shape=(4, 1, 8, 8), seeds=0, cond={"label": torch.arange(4)})
    told = scoresde.sample(
        loaded, nfe=3, shape=(4, 1, 8, 8), seeds=0, cond={"label": torch.arange(4), "augment": torch.zeros(4, 9)}
    )
    assert made.samples.isfinite().all() and torch.equal(made.samples, told.samples)
    assert "already in run" in command(*TINY, "data.augment=0.5", "out=run")[1]
    assert "augment" in command(*TINY, "data.augment=0.4", "out=run")[2]


def test_a_run_without_it_records_nothing_of_it(command: Callable[..., Any]) -> None:
    assert command(*TINY, "data.augment=0", "out=run")[0] == 0
    assert "augment" not in Path("run/config.yaml").read_text()
    assert "augment" not in json.dumps(json.loads(Path("run/model", models.CONFIG).read_text())["network"])
    state = torch.load("run/checkpoint.pt", weights_only=True)
    assert "augment" not in state["identity"] and not [name for name in state["net"] if "augment" in name]


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading images is an error."""

    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(train, "load", refuse)


@pytest.mark.usefixtures("unread", "passing_plugins")
@pytest.mark.parametrize("network", ["diffusers_unet", "untold"])
def test_a_network_without_the_option_is_refused_before_images_are_read(
    command: Callable[..., Any], network: str
) -> None:
    Path("nets.py").write_text(PLUGIN)
    status, _, err = command("plugins=[nets.py]", f"network={network}", "data.augment=0.12", "out=run")
    assert status == 1 and err.count("\n") == 1 and f"by its option 'augment': '{network}' has none; dit, " in err
    assert not Path("run").exists()


@pytest.mark.usefixtures("passing_plugins")
def test_a_network_of_a_plugin_is_told_if_it_has_the_option(command: Callable[..., Any]) -> None:
    Path("nets.py").write_text(PLUGIN)
    arguments = ("plugins=[nets.py]", "network=told", "epochs=1", "batch_size=512", "every=9", "out=run")
    status, _, err = command(*arguments, "data.augment=0.5")
    assert (status, err) == (0, "")
    assert models.load("run/model").card["network"] == {
        "name": "told",
        "in_channels": 1,
        "num_classes": 10,
        "augment": 9,
    }


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("value", ["1.5", "-1"])
def test_a_probability_that_is_none_is_refused_before_images_are_read(command: Callable[..., Any], value: str) -> None:
    status, _, err = command(f"data.augment={value}", "out=run")
    assert status == 1 and "error: data.augment must be a number in [0, 1], got" in err
