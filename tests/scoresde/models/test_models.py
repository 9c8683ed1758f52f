"""Model folders come back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import scoresde
from scoresde import VP, Flow, VPDiscrete, models
from scoresde.files import bundled
from scoresde.models import CheckpointError, sources
from scoresde.process import PROCESSES

SHAPE = (1, 8, 8)
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"channels": [16, 32], "depth": 1},
    "diffusers_unet": {"channels": [16, 32], "depth": 1},
    "dit": {"width": 16, "depth": 2, "heads": 2},
}


def network(name: str = "unet", classes: int = 3) -> nn.Module:
    torch.manual_seed(5)
    net = models.build({"name": name, **SMALL[name], "in_channels": 1, "num_classes": classes}, SHAPE)
    with torch.no_grad():  # the output layer starts at zero, where any network equals any other
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net.eval()


def written(folder: Path, net: nn.Module | None = None, name: str = "unet", **options: Any) -> Path:
    known = {"network": name, "process": VP(), "prediction": "epsilon", "shape": SHAPE, "classes": 3}
    models.save(folder, net or network(name), **{**known, **options})
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_a_network_comes_back_with_the_same_outputs(name: str, tmp_path: Path) -> None:
    net = network(name)
    loaded = models.load(written(tmp_path, net, name, time_scale=1000.0))
    x, t, label = torch.randn(4, *SHAPE), torch.tensor([0.1, 0.4, 0.7, 1.0]), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = net(x, 1000 * t.double(), label=label)
    torch.testing.assert_close(loaded.model.output(x, t.double(), label=label), expected, rtol=1e-5, atol=1e-5)
    assert (loaded.shape, loaded.classes) == (SHAPE, 3)


@pytest.mark.parametrize("name", SMALL)
def test_no_label_is_the_label_after_the_last(name: str) -> None:
    net = network(name)
    x, t = torch.randn(2, *SHAPE), torch.tensor([10.0, 500.0])
    with torch.no_grad():
        torch.testing.assert_close(net(x, t), net(x, t, label=torch.tensor([3, 3])))
        assert (net(x, t) - net(x, t, label=torch.tensor([0, 0]))).abs().max() > 1e-4


@pytest.mark.parametrize("process", [VP(0.2, 15.0), Flow(), VPDiscrete()], ids=lambda process: process.name)
def test_process_prediction_and_card_come_back(process: Any, tmp_path: Path) -> None:
    card = {"command": "scoresde train", "loss": [[1, 0.5]]}
    loaded = models.load(written(tmp_path, process=process, prediction="v_prediction", training=card))
    assert loaded.model.process == process
    assert loaded.model.prediction == "v_prediction"
    assert loaded.card["training"] == card


def test_weights_in_bfloat16_take_half_the_space_and_come_back_rounded(tmp_path: Path) -> None:
    net = network()
    full, half = written(tmp_path / "full", net), written(tmp_path / "half", net, dtype=torch.bfloat16)
    sizes = [(folder / models.WEIGHTS).stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = models.load(half).model.net
    assert isinstance(loaded, nn.Module)
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, net.state_dict()[name].bfloat16().float())


def test_a_model_is_loaded_in_the_precision_asked_for_and_without_gradients(tmp_path: Path) -> None:
    net = models.load(written(tmp_path), dtype=torch.float64).model.net
    assert isinstance(net, nn.Module)
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in net.parameters())
    assert not net.training


def test_the_fingerprint_changes_with_the_weights_and_with_the_configuration(tmp_path: Path) -> None:
    first = models.fingerprint(written(tmp_path / "a"))
    assert first == models.fingerprint(written(tmp_path / "b"))
    assert first != models.fingerprint(written(tmp_path / "c", time_scale=2.0))
    torch.manual_seed(6)
    other = network()
    nn.init.normal_(next(other.parameters()))
    assert first != models.fingerprint(written(tmp_path / "d", other))


def test_an_interrupted_write_leaves_the_earlier_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = models.fingerprint(written(tmp_path))

    write = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        written(tmp_path, time_scale=3.0)
    assert models.fingerprint(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [models.CONFIG, models.WEIGHTS]


def configured(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / models.CONFIG).read_text(encoding="utf-8"))
        for key, value in changes.items():
            if value is None:
                del config[key]
            else:
                config[key] = value
        (folder / models.CONFIG).write_text(json.dumps(config), encoding="utf-8")

    return spoil


def reweighted(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / models.WEIGHTS)
        change(weights)
        save_file(weights, folder / models.WEIGHTS)

    return spoil


def truncate(folder: Path) -> None:
    path = folder / models.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


UNET = {"name": "unet", "in_channels": 1, "num_classes": 3, **SMALL["unet"]}
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / models.CONFIG).unlink(), "not a model folder.*no config.json"),
    "no weights": (lambda folder: (folder / models.WEIGHTS).unlink(), "holds no model.safetensors"),
    "cut config": (lambda folder: (folder / models.CONFIG).write_text('{"format": '), "config.json' is damaged"),
    "foreign config": (
        lambda folder: (folder / models.CONFIG).write_text('{"architectures": "X"}'),
        "has the format None",
    ),
    "foreign network": (
        lambda folder: (folder / models.CONFIG).write_text('{"_class_name": "UNet2DModal"}'),
        "the network 'UNet2DModal' of .* is not known; did you mean 'UNet2DModel'",
    ),
    "later format": (configured(format="scoresde-model-2"), "'scoresde-model-2'; this version reads"),
    "unknown network": (configured(network={**UNET, "name": "unett"}), "unknown network 'unett'; did you mean 'unet'"),
    "unknown argument": (configured(network={**UNET, "head": 3}), "does not describe a model.*'head'"),
    "other heads": (configured(network={**UNET, "heads": 3}), "'heads' must divide the 32 channels .*, got 3"),
    "unknown process": (configured(process={"name": "vpp"}), "unknown process 'vpp'; did you mean 'vp'"),
    "unknown prediction": (configured(prediction="epsilom"), "'epsilom'; did you mean 'epsilon'"),
    "missing key": (configured(process=None), "it lacks 'process'"),
    "odd sides": (configured(shape=[1, 10, 8]), "multiples of 4, got .1, 10, 8"),
    "other width": (configured(network={**UNET, "channels": [32, 32]}), r"has shape \(.*the network needs"),
    "truncated weights": (truncate, "damaged or not a safetensors file"),
    "pickled weights": (lambda folder: torch.save({"a": 1}, folder / models.WEIGHTS), "damaged or not a safetensors"),
    "lacking weights": (reweighted(lambda weights: weights.pop("inlet.weight")), "lacks 'inlet.weight'"),
    "foreign weights": (reweighted(lambda w: w.update(extra=torch.zeros(1))), "has 'extra'"),
    "not finite": (
        reweighted(lambda w: w["inlet.bias"].fill_(torch.nan)),
        "'inlet.bias' holds values that are not finite",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    spoil, message = SPOILT[case]
    written(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        models.load(tmp_path)


def test_a_name_that_is_nothing_gets_the_nearest_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "bundled", lambda: {"mnist": tmp_path})
    with pytest.raises(CheckpointError, match="no model 'minst': .*did you mean 'mnist'"):
        models.load("minst")


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_model_of_every_process_is_read_and_sampled(name: str, tmp_path: Path) -> None:
    process = PROCESSES.get(name)
    loaded = models.load(written(tmp_path, process=process, prediction="v_prediction"))
    assert repr(loaded.model.process) == repr(process)
    label = torch.tensor([0, 1, 2])
    found = scoresde.sample(loaded.model, "dpmpp_2m", nfe=4, shape=(3, *SHAPE), seeds=0, cond={"label": label}).samples
    assert found.isfinite().all()


def test_a_checkout_has_models_by_name_that_the_package_has_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = written(tmp_path / "benchmarks" / "models" / "larger")
    monkeypatch.setattr(bundled, "CHECKOUT", folder.parent)
    with pytest.raises(CheckpointError, match="no model 'larger'"):  # other packages' folders may be called so too
        models.load("larger")
    (tmp_path / "pyproject.toml").touch()
    assert models.load("larger").shape == SHAPE
    assert list(models.bundled()) == ["larger", "mnist"]
    written(folder.parent / "mnist")
    assert models.load("mnist").shape == (1, 28, 28)  # the package's own


def test_an_unknown_network_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown network 'unit'; did you mean 'unet'"):
        written(tmp_path / "new", network="unit")
    assert not (tmp_path / "new").exists()


def test_diffusers_missing_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.models.unets.unet_2d", None)
    with pytest.raises(ImportError, match=r"needs diffusers: install scoresde\[diffusers\]"):
        network("diffusers_unet")


@pytest.mark.parametrize("channels", [[64], [24, 64], [0, 16]])
def test_channels_that_diffusers_cannot_normalise_are_refused(channels: list[int]) -> None:
    with pytest.raises(ValueError, match="two or more channels, multiples of 16"):
        models.build({"name": "diffusers_unet", "channels": channels}, SHAPE)
