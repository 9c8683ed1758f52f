"""The networks that we train: what they are made of, what they refuse, and that they learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scoresde import VP, models
from scoresde.commands.app import config_folder
from scoresde.data import load
from scoresde.networks.dit import DiT, positions
from scoresde.networks.unet import Attention, UNet, normalise
from scoresde.training import Settings, Trainer

SHAPE = (3, 16, 24)
LEVELS = {"name": "unet", "channels": [16, 24, 32], "depth": 1, "attention": [8, 2], "heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "two levels": {"name": "unet", "channels": [16, 32], "depth": 1},
    "one level": {"name": "unet", "channels": [16], "depth": 2},
    "three levels": {**LEVELS, "fold": 1, "attention": [16, 4]},
    "four levels": {"name": "unet", "channels": [8, 12, 16, 24], "depth": 1, "fold": 1},
    "dit": {"name": "dit", "width": 32, "depth": 2, "heads": 2},
    "unet, augmented": {"name": "unet", "channels": [16, 32], "depth": 1, "augment": 9},
    "dit, augmented": {"name": "dit", "width": 32, "depth": 2, "heads": 2, "augment": 9},
    "patches of four": {"name": "dit", "width": 24, "depth": 1, "heads": 3, "patch": 4, "mlp_ratio": 2.5},
}


def made(network: Mapping[str, Any], shape: tuple[int, ...] = SHAPE, classes: int = 3, seed: int = 0) -> nn.Module:
    """With weights under which every layer has a say: as they are made, many are zero."""
    torch.manual_seed(seed)
    net = models.build({**network, "in_channels": shape[0], "num_classes": classes}, shape)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net.eval().requires_grad_(False)


def inputs(shape: tuple[int, ...] = SHAPE, count: int = 4, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, *shape, generator=generator)
    return x, 1000 * torch.rand(count, generator=generator), torch.arange(count) % (classes + 1)


@pytest.mark.parametrize("case", CASES)
def test_precisions_and_layouts_change_roundings_alone(case: str) -> None:
    net = made(CASES[case]).double()
    x, t, label = inputs()
    exact = net(x.double(), t, label)
    assert exact.shape == x.shape and exact.dtype == torch.float64
    scale = float(exact.abs().max())
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        for layout in (torch.contiguous_format, torch.channels_last):
            same = made(CASES[case]).to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
            out = same(x.to(dtype=dtype, memory_format=layout), t, label)
            assert out.dtype == dtype
            torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance * scale)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(CASES[case])(x, t, label)
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=0.1 * scale)


@pytest.mark.parametrize("case", CASES)
def test_one_graph_computes_it_whole(case: str) -> None:
    torch.compiler.reset()
    net, (x, t, label) = made(CASES[case]), inputs()
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x, t, label), net(x, t, label))


@pytest.mark.parametrize("case", CASES)
def test_an_image_s_output_does_not_depend_on_its_place_in_the_batch(case: str) -> None:
    net, (x, t, label), order = made(CASES[case]), inputs(), torch.tensor([2, 0, 3, 1])
    expected = net(x, t, label)[order]
    torch.testing.assert_close(net(x[order], t[order], label[order]), expected, rtol=1e-5, atol=1e-5)
    assert (expected - net(x, t, label)).abs().max() > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_a_folder_gives_the_same_outputs(case: str, tmp_path: Path) -> None:
    net, (x, t, label) = made(CASES[case]), inputs()
    about: dict[str, Any] = {"process": VP(), "prediction": "epsilon", "shape": SHAPE, "classes": 3}
    models.save(tmp_path, net, network=CASES[case]["name"], **about)
    loaded = models.load(tmp_path)
    again = loaded.model.net
    assert isinstance(again, nn.Module) and again.config == net.config
    expected = net.to(memory_format=torch.channels_last)(x, t, label)  # type: ignore[call-overload]
    assert torch.equal(again(x, t, label), expected)


AUGMENTED = {"unet, augmented": "two levels", "dit, augmented": "dit"}


@pytest.mark.parametrize("case", AUGMENTED)
def test_what_is_not_told_how_it_was_augmented_was_not(case: str) -> None:
    net, (x, t, label), told = made(CASES[case]), inputs(), torch.randn(4, 9)
    plain = net(x, t, label)
    assert torch.equal(net(x, t, label, augment=torch.zeros(4, 9)), plain)
    assert (net(x, t, label, augment=told) - plain).abs().amax((1, 2, 3)).min() > 1e-2
    some = told * torch.tensor([1.0, 0, 1, 0])[:, None]
    torch.testing.assert_close(net(x, t, label, augment=some)[1::2], plain[1::2])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, t, label, augment=told)
    exact = made(CASES[case]).double()(x.double(), t, label, augment=told)
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=0.1 * float(exact.abs().max()))
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, t, label, augment=told), net(x, t, label, augment=told))


@pytest.mark.parametrize("case", AUGMENTED)
def test_a_network_that_is_told_begins_as_the_one_that_is_not(case: str) -> None:
    nets = []
    for name in (case, AUGMENTED[case]):
        torch.manual_seed(0)
        nets.append(models.build({**CASES[name], "in_channels": 3, "num_classes": 3}, SHAPE))
    weights, before = (dict(net.named_parameters()) for net in nets)
    assert list(weights) == [*before, "embed_augment.weight"]
    assert all(torch.equal(value, weights[name]) for name, value in before.items())
    x, t, label = inputs()
    assert torch.equal(nets[0](x, t, label, augment=torch.randn(4, 9)), nets[1](x, t, label))
    assert nets[0].config == {**nets[1].config, "augment": 9} and "augment" not in nets[1].config  # type: ignore[dict-item,operator]
    with pytest.raises(ValueError, match="made with augment=0: it takes no condition of an augmentation"):
        nets[1](x, t, label, augment=torch.zeros(4, 9))


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["unet", "dit"]),
    channels=st.lists(st.sampled_from([4, 6, 10]), min_size=1, max_size=4),
    fold=st.sampled_from([1, 2, 3]),
    sides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    data=st.data(),
)
def test_images_are_taken_whose_sides_divide_and_no_others(
    name: str, channels: list[int], fold: int, sides: tuple[int, int], extra: tuple[int, int], data: st.DataObject
) -> None:
    multiple = fold * 2 ** (len(channels) - 1) if name == "unet" else fold
    height, width = (multiple * side + more for side, more in zip(sides, extra, strict=True))
    network: dict[str, Any] = {"name": "dit", "patch": fold, "width": 8, "depth": 1, "heads": 2}
    if name == "unet":
        network = {"name": "unet", "channels": channels, "depth": 1, "fold": fold}
    if height % multiple or width % multiple:
        with pytest.raises(ValueError, match=f"needs images whose sides are multiples of {multiple}, got"):
            models.build({**network, "in_channels": 1, "num_classes": 2}, (1, height, width))
        return
    if name == "unet":
        known = [min(height, width) // (fold * 2**level) for level in range(len(channels))]
        network["attention"] = data.draw(st.lists(st.sampled_from(known), unique=True))
    net, (x, t, label) = made(network, (1, height, width), classes=2), inputs((1, height, width), classes=2)
    out = net(x, t, label)
    assert out.shape == x.shape and out.isfinite().all()
    torch.testing.assert_close(net(x, t), net(x, t, torch.full((4,), 2)))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"name": "unet", "channels": []}, "one or more channels, the first even, got"),
        ({"name": "unet", "channels": [15, 32]}, "the first even, got .15, 32."),
        ({"name": "unet", "channels": 64}, "a list of whole numbers as channels, got 64"),
        ({"name": "unet", "channels": [16, 0]}, "at least 1 as channels, got 0"),
        ({"name": "unet", "fold": 0}, "at least 1 as fold, got 0"),
        ({"name": "unet", "depth": -1}, "at least 0 as depth, got -1"),
        ({"name": "unet", "augment": -1}, "at least 0 as augment, got -1"),
        ({"name": "dit", "augment": 1.5}, "at least 0 as augment, got 1.5"),
        ({"name": "unet", "heads": 3}, "'heads' must divide the 128 channels that attend, got 3"),
        ({"name": "unet", "attention": True}, "a list of whole numbers as attention, got True"),
        ({"name": "unet", "attention": [16]}, "has the resolutions 8, 4 on images of 16, of which .* got .16."),
        ({"name": "unet", "attention": [8, 8]}, "each once; got .8, 8."),
        ({"name": "unet", "channels": [8] * 5}, "multiples of 32, got .3, 16, 24."),
        ({"name": "dit", "patch": 5}, "multiples of 5, got .3, 16, 24."),
        ({"name": "dit", "patch": 0}, "at least 1 as patch, got 0"),
        ({"name": "dit", "width": 30}, "a multiple of 4 as width, got 30"),
        ({"name": "dit", "width": 32, "heads": 3}, "'heads' must divide the 32 channels that attend, got 3"),
        ({"name": "dit", "mlp_ratio": 0}, "a number as mlp_ratio, with one hidden channel or more, got 0"),
        ({"name": "dit", "mlp_ratio": "4"}, "a number as mlp_ratio, .* got '4'"),
    ],
)
def test_what_cannot_be_meant_is_refused(network: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        models.build(network, SHAPE)


def test_attention_needs_the_size_of_the_images() -> None:
    with pytest.raises(ValueError, match="unet needs the image_size for attention=.8."):
        UNet(attention=[8])


def plain(net: UNet, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """The two-level network of before there was a choice, written out."""
    rates = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(net.frequencies // 2) / (net.frequencies // 2))
    angles = t[:, None] * rates
    context = F.silu(net.embed_time(torch.cat([angles.cos(), angles.sin()], 1)) + net.embed_label(label))

    def through(block: nn.Module, h: Tensor) -> Tensor:
        scale, shift = block.modulation(context)[:, :, None, None].chunk(2, 1)  # type: ignore[operator]
        inner = normalise(block.first(F.silu(normalise(h))))  # type: ignore[operator]
        return block.get_submodule("skip")(h) + block.second(F.silu(inner * (1 + scale) + shift))  # type: ignore[operator]

    h, skips = net.inlet(F.pixel_unshuffle(x, net.fold)), []
    for block in net.down:
        h = through(block, h)
        skips.append(h)
    h = net.shrink(h)
    for block in net.middle_in:
        h = through(block, h)
    tokens = normalise(h).flatten(2).transpose(1, 2)
    q, k, v = (part.unflatten(2, (-1, 64)).transpose(1, 2) for part in net.attention.qkv(tokens).chunk(3, 2))
    mixed = ((q @ k.transpose(2, 3) / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
    h = h + net.attention.out(mixed).transpose(1, 2).unflatten(2, h.shape[2:])
    for block in net.middle_out:
        h = through(block, h)
    h = F.pixel_shuffle(net.grow(h), 2)
    for block in net.up:
        h = through(block, torch.cat([h, skips.pop()], 1))
    return F.pixel_shuffle(net.outlet(F.silu(normalise(h))), net.fold)


def test_the_bundled_model_is_the_network_that_it_was() -> None:
    loaded = models.load("mnist")
    net = loaded.model.net
    assert isinstance(net, UNet) and {"name": "unet", **net.config} == loaded.card["network"]
    assert net.config.keys() == {"in_channels", "channels", "depth", "num_classes", "fold"}
    blocks = [f"{place}.{index}" for place in ("down", "middle_in", "middle_out", "up") for index in range(2)]
    layers = [*(f"{block}.{layer}" for block in blocks for layer in ("first", "modulation", "second"))]
    layers += ["up.0.skip", "up.1.skip", "embed_time.0", "embed_time.2", "inlet", "shrink", "grow", "outlet"]
    layers += ["attention.qkv", "attention.out"]
    names = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | {"embed_label.weight"}
    assert net.state_dict().keys() == names
    x, t, label = inputs(loaded.shape, classes=10)
    torch.testing.assert_close(net(x, t, label), plain(net, x, t, label), rtol=1e-4, atol=1e-4)


def test_weights_of_two_levels_are_drawn_and_numbered_as_before() -> None:
    order = [
        "embed_time",
        "embed_label",
        "inlet",
        "down",
        "shrink",
        "middle_in",
        "attention",
        "middle_out",
        "grow",
        "up",
    ]
    names = [name.partition(".")[0] for name, _ in UNet().named_parameters()]
    assert list(dict.fromkeys(names)) == [*order, "outlet"]


def test_an_old_run_s_configuration_is_that_of_the_defaults() -> None:
    options = yaml.safe_load((config_folder() / "network" / "unet.yaml").read_text(encoding="utf-8"))
    assert options.pop("attention") is options.pop("heads") is None
    assert options == {"name": "unet", "channels": [64, 128], "depth": 2, "fold": 2}


@pytest.mark.parametrize(("attention", "sides"), [(None, {2: 1}), ([8], {8: 4, 2: 1}), ([4, 2], {4: 4, 2: 4})])
def test_attention_is_at_the_resolutions_asked_for_after_each_block(
    attention: list[int] | None, sides: dict[int, int]
) -> None:
    net, found = made({**LEVELS, "depth": 2, "attention": attention}, (3, 16, 32)), dict[int, int]()

    def count(module: nn.Module, given: tuple[Tensor]) -> None:
        height, width = given[0].shape[2:]
        assert width == 2 * height
        found[height] = found.get(height, 0) + 1

    for module in net.modules():
        if isinstance(module, Attention):
            assert module.heads == 2
            module.register_forward_pre_hook(count)
    net(*inputs((3, 16, 32)))
    assert found == sides


def test_attention_lets_far_pixels_see_each_other() -> None:
    def reach(attention: list[int] | None) -> Tensor:
        net = made({"name": "unet", "channels": [8, 8], "depth": 1, "fold": 1, "attention": attention}, (1, 32, 32))
        net.attention.out.weight.zero_()  # type: ignore[union-attr]  # the one in the middle says nothing
        x, t, label = inputs((1, 32, 32), count=1)
        changed = x.clone()
        changed[..., 0, 0] += 1
        return (net(changed, t, label) - net(x, t, label)).abs()[0, 0, -4:, -4:].max()

    assert reach(None) == 0 and reach([32]) > 0


@pytest.mark.parametrize("case", ["dit", "patches of four"])
def test_a_transformer_begins_at_zero_and_then_has_gradients(case: str) -> None:
    net = models.build({**CASES[case], "in_channels": 3, "num_classes": 3}, SHAPE)
    out = net(*inputs())
    assert not out.any()
    (out - 1).square().mean().backward()
    assert isinstance(net, DiT) and net.outlet.weight.grad is not None and net.outlet.weight.grad.abs().max() > 0


def test_every_block_of_a_transformer_begins_as_the_identity() -> None:
    net = models.build(CASES["dit"], SHAPE)
    assert isinstance(net, DiT)
    z, context = torch.randn(2, 5, 32), torch.randn(2, 32)
    assert all(torch.equal(block(z, context), z) for block in net.blocks)


def test_positions_are_rows_and_columns() -> None:
    table = positions(3, 5, 16, torch.device("cpu")).unflatten(0, (3, 5))
    assert torch.equal(table[:, 0, :8], table[:, 4, :8]) and torch.equal(table[0, :, 8:], table[2, :, 8:])
    assert torch.cdist(table.flatten(0, 1), table.flatten(0, 1)).fill_diagonal_(1).min() > 0.1
    two, three = torch.tensor(2.0), torch.tensor(3.0)
    expected = torch.stack([two.cos(), two.sin(), three.cos(), three.sin()])
    torch.testing.assert_close(table[2, 3, [0, 4, 8, 12]], expected)  # of the highest frequency, 1


def test_a_transformer_tells_positions_apart() -> None:
    net, (x, t, label) = made(CASES["dit"]), inputs()
    moved = net(x.roll(4, 3), t, label).roll(-4, 3)
    assert (moved - net(x, t, label)).abs().max() > 1e-2


@pytest.mark.parametrize("network", [{**LEVELS, "attention": [4]}, CASES["dit"]], ids=lambda network: network["name"])
def test_a_dozen_steps_lower_the_loss_on_digits(network: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.build({**network, "in_channels": 1, "num_classes": 10}, (1, 8, 8))
    chosen = Settings(epochs=3, batch_size=32, warmup=1, learning_rate=3e-3, bf16=False)
    data = load("digits").take(torch.arange(128))
    run = Trainer(net, VP(), "epsilon", data, chosen, tmp_path, time_input=lambda t: 1000 * t)
    run.run(lambda run: None, every=1)
    losses = [entry["loss"] for entry in run.losses]
    assert len(losses) == 12 and sum(losses[-3:]) / 3 < 0.8 * losses[0]
