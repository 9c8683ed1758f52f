"""Model folders, EDM's settings, diffusers' folders and feature networks: compared with their tensors, then built."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.utils import logging as diffusers_logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import scoresde
from scoresde import models
from scoresde.metrics import BUNDLED, load_features, spaces
from scoresde.models import CheckpointError
from scoresde.networks import described
from scoresde.score import networks

diffusers_logging.set_verbosity_error()


@pytest.fixture
def folder(model: str, tmp_path: Path) -> Path:
    """A copy of a small model."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def change(path: Path, *keys: Any, value: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def refused(load: Callable[[], Any], words: str = "", seconds: float = 1.0) -> None:
    begin = time.monotonic()
    with pytest.raises(ValueError, match=words) as caught:
        load()
    assert time.monotonic() - begin < seconds
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


HOSTILE = [
    (("network", "depth"), 10**7),
    (("network", "depth"), -1),
    (("network", "depth"), 2),
    (("network", "channels"), [16, 10**12]),
    (("network", "channels"), [16] * 10**5),
    (("network", "channels"), [16, [16, 16]]),
    (("network", "channels"), 16),
    (("network", "channels"), {"low": 16}),
    (("network", "fold"), 2**40),
    (("network", "fold"), 0),
    (("network", "num_classes"), 10**9),
    (("network", "num_classes"), 11),
    (("network", "in_channels"), 3),
    (("network", "name"), "os.system"),
    (("network", "name"), ["unet"]),
    (("network", "attention"), True),
    (("network", "attention"), [8]),
    (("network", "attention"), [4, 4]),
    (("network", "heads"), 0),
    (("network", "heads"), 10**12),
    (("network", "image_size"), -8),
    (("network", "augment"), 9),
    (("network", "augment"), 10**9),
    (("network", "augment"), "9"),
    (("network",), None),
    (("network",), []),
    (("shape",), [1, 8]),
    (("shape",), [3, 8, 8]),
    (("shape",), [1, 7, 7]),
    (("shape",), [1, -8, 8]),
    (("shape",), [1, 10**9, 8]),
    (("shape",), "188"),
    (("classes",), -1),
    (("classes",), 3),
    (("classes",), True),
    (("classes",), 10.0),
    (("time_scale",), 0),
    (("time_scale",), -1000.0),
    (("time_scale",), "1000"),
    (("prediction",), "noise"),
    (("prediction",), ["epsilon"]),
    (("process",), {"name": "vq"}),
    (("process",), "vp"),
    (("process",), {"name": "vp", "beta_max": "20"}),
    (("process",), {}),
    (("training",), []),
    (("training",), {"class_counts": [1, 2]}),
    (("training",), {"class_counts": [-1] * 10}),
    (("training",), {"class_counts": "many"}),
    (("preconditioning",), {"name": "edm", "sigma_data": 0}),
    (("preconditioning",), {"name": "edm", "sigma_data": -0.5}),
    (("preconditioning",), "edm"),
    (("format",), 1),
]


@pytest.mark.parametrize(("keys", "value"), HOSTILE, ids=lambda value: f"{value!r:.30}")
def test_a_description_that_contradicts_its_tensors_is_refused_at_once(
    keys: tuple[str, ...], value: Any, folder: Path
) -> None:
    change(folder / "config.json", *keys, value=value)
    refused(lambda: models.load(folder), "config.json'|model.safetensors'")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b"\xff\xfe",
        b'{"format": NaN}',
        b'{"a": ' + b"9" * 10**5 + b"}",
        b" " * (2**24 + 1),
    ],
)
def test_what_is_no_description_is_refused(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    refused(lambda: models.load(folder), "config.json' (is damaged|has the format)")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [0, -1, 1, 10**6, 10**18, 2**63, 1e308, math.inf, "1", [], {}, [1], [[]], [0] * 100, {"name": "vp"}]
    ),
)


@given(data=st.data(), value=ODD)
@settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_value_of_any_setting_is_refused_or_gives_a_model(
    folder: Path, model: str, data: st.DataObject, value: Any
) -> None:
    content = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    if isinstance(content[key], dict) and content[key] and data.draw(st.booleans()):
        place, key = content[key], data.draw(st.sampled_from(sorted(content[key])))
    place[key] = value
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        found = models.load(folder)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert next(iter(found.model.net.parameters())).isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["lacks", "has", "shape", "nan", "empty"])
def test_tensors_of_another_network_are_named(how: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    words = {
        "lacks": "it lacks 'inlet.bias'",
        "has": "it has 'more'",
        "shape": "'inlet.bias' has shape",
        "nan": "not finite",
        "empty": "it lacks",
    }
    if how == "lacks":
        del weights["inlet.bias"]
    elif how == "has":
        weights["more"] = torch.zeros(1)
    elif how == "shape":
        weights["inlet.bias"] = torch.zeros(3)
    elif how == "nan":
        weights["inlet.bias"][0] = math.nan
    else:
        weights = {"x": torch.zeros(1)}
        change(folder / "config.json", "network", "depth", value=0)
    save_file(weights, path)
    refused(lambda: models.load(folder), f"model.safetensors'.*{words[how]}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 100) + b'{"a": {"dtype": "F32"}}',
        b"PK\3\4",
    ],
)
def test_damaged_weights_are_refused(content: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(content)
    refused(lambda: models.load(folder), "model.safetensors'|there are 0 tensors")


def test_a_header_that_lies_about_its_sizes_is_refused(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: models.load(folder), "damaged or not a safetensors file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_fifo_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(lambda: models.load(folder), "is a FIFO, not a file")
    refused(lambda: models.fingerprint(folder), "is a FIFO, not a file")


# ---------------------------------------------------------------------------------------------------------------------
# feature networks


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("network", "depth"), 10**7, "depth = 10000000"),
        (("network", "channels"), [32, 10**9], "channels = "),
        (("network", "channels"), [32, 65], "shape"),
        (("network", "classes"), -1, "damaged or foreign"),
        (("network",), {"name": 1}, "damaged or foreign"),
        (("shape",), [3, 28, 28], "takes 1 channels"),
        (("shape",), [1, 28, -28], "is no .channels, height, width"),
        (("sha256",), None, "SHA-256"),
        (("card",), 3, "damaged or foreign"),
    ],
)
def test_a_feature_network_is_what_its_tensors_are(
    keys: tuple[str, ...], value: Any, words: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(BUNDLED / "features", tmp_path / "features"))
    change(folder / "config.json", *keys, value=value)
    refused(lambda: load_features(folder), words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"name": "torchscript", "path": "net.pt", "trust": True}, "not 'torchscript'"),
        ({"name": "dinov2"}, "not 'dinov2'"),
        ({"name": "model", "path": "/"}, "not 'model'"),
        ({"name": "inception", "weights": "/dev/zero"}, "without 'weights'"),
        ({"name": "clip", "trust": True}, "without 'trust'"),
        ({"name": "pixels", "shape": [1, 10**9, 10**9]}, "dimensions, more than"),
        ({"name": "pixels", "shape": "wide"}, "shape"),
        ({"name": ["pixels"]}, "it names no space"),
        (["pixels"], "it names no space"),
        (None, "it names no space"),
    ],
)
def test_a_folder_names_no_features_that_lead_elsewhere(space: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    content = json.dumps({"format": "scoresde-space-1", "space": space, "card": {}})
    (tmp_path / "features" / "config.json").write_text(content)
    refused(lambda: spaces.get("model", path=str(tmp_path)), words)


# ---------------------------------------------------------------------------------------------------------------------
# diffusers


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    blocks: dict[str, Any] = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = UNet2DModel(8, 1, 1, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, **blocks)
    folder = tmp_path_factory.mktemp("diffusers") / "model"
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture
def theirs(pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline, tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("layers_per_block", 10**7, "layers_per_block = 10000000, and the weights are [0-9]+ tensors"),
        ("block_out_channels", [16] * 20_000, "block_out_channels has 20000 entries, and the weights are "),
        ("block_out_channels", [16, 10**12], "block_out_channels = "),
        ("block_out_channels", [10_000, 10_000], "describes a network of"),
        ("block_out_channels", None, "does not describe a model"),
        ("norm_num_groups", 7, "does not describe a model"),
        ("down_block_types", ["DownBlock2D", "os.system"], "does not describe a model"),
        ("in_channels", -1, "does not describe a model|holds the weights"),
        ("layers_per_block", 2, "up_blocks.0.resnets.1.norm1.weight|holds the weights of another network"),
        ("_class_name", "Popen", "."),
    ],
)
def test_diffusers_settings_are_held_against_the_weights(key: str, value: Any, words: str, theirs: Path) -> None:
    change(theirs / "unet" / "config.json", key, value=value)
    if key == "_class_name":  # the class is that of the index, among those that are known
        change(theirs / "model_index.json", "unet", value=["subprocess", value])
    refused(lambda: models.from_diffusers(theirs), words, 3.0)


@pytest.mark.parametrize("how", ["lacks", "has", "shape", "nan", "cut"])
def test_diffusers_tensors_are_all_of_the_network_and_no_others(how: str, theirs: Path) -> None:
    path = theirs / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    if how == "lacks":
        del weights["conv_out.weight"]
    elif how == "has":
        weights["conv_out.more"] = torch.zeros(1)
    elif how == "shape":
        weights["conv_out.weight"] = torch.zeros(1, 2, 3, 3)
    elif how == "nan":
        weights["conv_out.weight"][0] = math.nan
    save_file(weights, path, metadata={"format": "pt"})
    if how == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    refused(lambda: models.from_diffusers(theirs), "conv_out" if how != "cut" else "damaged", 5.0)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_no_fifo_in_a_folder_of_diffusers_is_waited_for(name: str, theirs: Path) -> None:
    (theirs / name).unlink()
    os.mkfifo(theirs / name)
    refused(lambda: models.from_diffusers(theirs), "is a FIFO, not a file")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/b", 3])
def test_weights_lie_beside_their_index(name: Any, theirs: Path) -> None:
    index = theirs / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": name}}), encoding="utf-8")
    refused(lambda: models.from_diffusers(theirs), "leads to .*, which is not a file beside it")


class Touches:
    def __reduce__(self) -> Any:
        return os.mkdir, ("touched",)


def in_pickles(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda weights: weights, **how: Any) -> Path:
    """The weights as older versions of diffusers wrote them."""
    new = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save(change(load_file(new.with_suffix(".safetensors"))), new, **how)
    new.with_suffix(".safetensors").unlink()
    return new


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_weights_in_pickles_are_read_as_tensors(how: dict[str, Any], theirs: Path) -> None:
    draw = dict[str, Any](nfe=2, shape=(1, 1, 8, 8), seeds=0)
    before = models.from_diffusers(theirs)
    expected = scoresde.sample(before.model, **draw).samples
    in_pickles(theirs, **how)
    found = models.from_diffusers(theirs)
    for one, other in zip(networks(found.model), networks(before.model), strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    # Equal weights at other places in memory are multiplied in another order on some processors.
    samples = scoresde.sample(found.model, **draw).samples
    assert float((samples - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    change(theirs / "unet" / "config.json", "layers_per_block", value=10**7)
    refused(lambda: models.from_diffusers(theirs), "layers_per_block = 10000000, and the weights are [0-9]+ tensors")


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lambda weights: {**weights, "more": Touches()}, "holds posix.mkdir, and weights are tensors alone"),
        (lambda weights: [*weights.values()], "holds something else than tensors by name"),
        (lambda weights: {**weights, "more": 3}, "holds something else than tensors by name"),
        (lambda weights: {**weights, "more": torch.zeros(1).expand(2**39)}, "more.*bin'"),
    ],
)
def test_pickles_of_anything_else_are_refused_and_run_nothing(
    put: Callable[[dict[str, Any]], Any], words: str, how: dict[str, Any], theirs: Path
) -> None:
    in_pickles(theirs, put, **how)
    refused(lambda: models.from_diffusers(theirs), words if words[0] != "m" else "bin'", 3.0)
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_train_timesteps", 10**12, "num_train_timesteps = 1000000000000 is no positive number below 1,000,000"),
        ("num_train_timesteps", -1, "num_train_timesteps = -1 is no positive number"),
        ("num_train_timesteps", True, "num_train_timesteps = True is no positive number"),
        ("num_train_timesteps", "1000", "num_train_timesteps = '1000' is no positive number"),
        ("beta_end", math.inf, "beta_end = inf is no positive number"),
        ("beta_end", 0.9, "which no network is trained at"),
        ("beta_schedule", ["linear"], "beta_schedule = .* is no word"),
        ("prediction_type", "sampel", "sampel"),
        ("trained_betas", [2.0] * 3, "betas"),
    ],
)
def test_settings_of_a_scheduler_are_numbers_and_words(key: str, value: Any, words: str, theirs: Path) -> None:
    change(theirs / "scheduler" / "scheduler_config.json", key, value=value)
    refused(lambda: models.from_diffusers(theirs), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sample_size", 10**9, "sample_size = 1000000000, and the weights are"),
        ("sample_size", [8, 8, 8], "is no height and width"),
        ("sample_size", [8, 7], "does not describe a model of states of shape"),
        ("quantization_config", {"quant_method": "torchao"}, "only weights that are numbers are read"),
    ],
)
def test_contradictions_are_found_on_load(key: str, value: Any, words: str, theirs: Path) -> None:
    change(theirs / "unet" / "config.json", key, value=value)
    refused(lambda: models.from_diffusers(theirs), words, 3.0)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("time_scale",), 1e39, "makes times of .* infinite in float32"),
        (("process",), {"name": "vp", "beta_min": 1e5, "beta_max": 2e5}, "which no network is trained at"),
    ],
)
def test_conventions_that_no_network_is_trained_in_are_refused(
    keys: tuple[str, ...], value: Any, words: str, folder: Path
) -> None:
    change(folder / "config.json", *keys, value=value)
    refused(lambda: models.load(folder), words)


def test_what_is_whole_still_loads_and_samples(theirs: Path, folder: Path) -> None:
    for checkpoint in (models.from_diffusers(theirs), models.load(folder), models.load("mnist")):
        shape = (1, *checkpoint.shape)
        assert scoresde.sample(checkpoint.model, nfe=2, shape=shape, seeds=0).samples.isfinite().all()


def test_settings_that_tensors_explain_are_taken() -> None:
    shapes = {f"w{index}": (512, 64) for index in range(40)}
    described.check_options({"depth": 8, "channels": [64, 512], "taps": [1, 3, 3, 1], "name": None}, shapes, "here")
