"""EDM's pickles: converted without running what they carry, sampled as EDM samples them."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import scoresde
import solvers
from scoresde import EDM, models
from scoresde.commands.main import main
from scoresde.models import CheckpointError, edm
from scoresde.networks.edm.networks import DhariwalUNet, SongUNet
from scoresde.noise import Noise

SIDE, CLASSES, DATA = 8, 3, 0.5
# How EDM names what our networks are built from.
SONG = {
    "img_resolution": SIDE,
    "in_channels": 2,
    "out_channels": 2,
    "label_dim": CLASSES,
    "augment_dim": 9,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
    "dropout": 0.13,
}
NCSN = {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
ADM = {key: value for key, value in SONG.items() if key != "augment_dim"} | {"model_channels": 64, "num_blocks": 1}


def song(**options: Any) -> SongUNet:
    return SongUNet(2, CLASSES, SIDE, 8, (1, 2), 1, (4,), **options)


KINDS: dict[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "DDPM++": (song, "SongUNet", SONG),
    "NCSN++": (
        lambda: song(embedding="fourier", encoder="residual", noise_multiple=2, taps=(1, 3, 3, 1)),
        "SongUNet",
        {**SONG, **NCSN},
    ),
    "skip": (
        lambda: song(encoder="skip", decoder="skip"),
        "SongUNet",
        {**SONG, "encoder_type": "skip", "decoder_type": "skip"},
    ),
    "ADM": (lambda: DhariwalUNet(2, CLASSES, SIDE, 64, (1, 2), 1, (4,)), "DhariwalUNet", ADM),
}


def network(kind: str = "DDPM++") -> nn.Module:
    torch.manual_seed(11)
    net = KINDS[kind][0]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return net.eval()


# ---------------------------------------------------------------------------------------------------------------------
# the format: torch_utils.persistence puts the source text of its class beside an object's state


@pytest.fixture
def their_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Modules of the names that such pickles refer to, while one is written; gives a path that must stay empty."""
    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")

    def reconstruct(meta: Any) -> None:
        raise AssertionError("only its name is needed, for pickle to write it")

    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    persistence.__dict__["_reconstruct_persistent_obj"] = reconstruct
    util.__dict__["EasyDict"] = easy
    with monkeypatch.context() as patch:
        for name, module in {"torch_utils.persistence": persistence, "dnnlib.util": util}.items():
            patch.setitem(sys.modules, name.partition(".")[0], ModuleType(name.partition(".")[0]))
            patch.setitem(sys.modules, name, module)
        yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


class Persistent:
    """An object of a persistent class."""

    def __init__(self, kind: str, state: dict[str, Any], ran: Path):
        self.kind, self.state, self.ran = kind, state, ran

    def __reduce__(self) -> Any:
        source = f"open({str(self.ran)!r}, 'w').write('the code of the file ran')\nclass {self.kind}: pass\n"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.kind, "state": self.state}
        return sys.modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"], (meta,)


def persistent(module: nn.Module, kind: str, arguments: dict[str, Any], ran: Path) -> Any:
    """A module as EDM pickles it: its own classes persistent, torch's containers as they are."""
    children = OrderedDict(
        (name, persistent(child, type(child).__name__, {}, ran)) for name, child in module.named_children()
    )
    own = OrderedDict((name, value) for name, value in module.named_parameters(recurse=False))
    buffers = OrderedDict((name, value) for name, value in module.named_buffers(recurse=False))
    if isinstance(module, nn.ModuleDict):
        copy = nn.ModuleDict()
        copy.__dict__["_modules"] = children
        return copy
    state = {"training": False, "_parameters": own, "_buffers": buffers, "_modules": children}
    state |= {"_init_args": (), "_init_kwargs": arguments, "skip_scale": np.sqrt(0.5)}
    return Persistent(kind, state, ran)


def write(path: Path, ran: Path, kind: str = "DDPM++", protocol: int = 4, **changes: Any) -> nn.Module:
    """A snapshot of EDM's training with the network of that kind as its average."""
    net = network(kind)
    _, name, arguments = KINDS[kind]
    easy = sys.modules["dnnlib.util"].__dict__["EasyDict"]
    inner = persistent(net, changes.get("network", name), easy(arguments | changes.get("arguments", {})), ran)
    if "augment_dim" in arguments:  # a layer that sampling does not use
        inner.state["_modules"]["map_augment"] = persistent(nn.Linear(9, 8, bias=False), "Linear", {}, ran)
    state = {"_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(model=inner)}
    state |= {"img_resolution": SIDE, "img_channels": 2, "label_dim": CLASSES, "use_fp16": False}
    state |= {"sigma_min": 0, "sigma_max": math.inf, "sigma_data": DATA}
    content = {changes.get("key", "ema"): Persistent(changes.get("outer", "EDMPrecond"), state, ran)}
    content |= {"augment_pipe": None, "dataset_kwargs": easy(resolution=SIDE), **changes.get("extra", {})}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return net


# ---------------------------------------------------------------------------------------------------------------------
# conversion


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_converted_network_gives_the_same_outputs(
    kind: str, protocol: int, tmp_path: Path, their_modules: Path
) -> None:
    net = write(tmp_path / "in.pkl", their_modules, kind, protocol).double()
    edm.convert(tmp_path / "in.pkl", tmp_path / "out")
    loaded = models.load(tmp_path / "out", dtype=torch.float64)
    assert (loaded.shape, loaded.classes, loaded.model.process) == ((2, SIDE, SIDE), CLASSES, EDM())
    x, labels = torch.randn(4, 2, SIDE, SIDE).double(), torch.tensor([0, 1, 2, CLASSES])
    sigma = torch.tensor([0.01, 0.3, 4.0, 79.0]).double()
    found = loaded.model.denoised(x, sigma, label=labels)
    torch.testing.assert_close(found, preconditioned(net)(x, sigma, label=labels), rtol=1e-9, atol=1e-9)
    with torch.no_grad():  # "no label" is the label after the last, and differs from a label
        torch.testing.assert_close(net(x, sigma), net(x, sigma, label=torch.full((4,), CLASSES)))
        assert (net(x, sigma) - net(x, sigma, label=labels))[:3].abs().amax((1, 2, 3)).min() > 1e-4


def preconditioned(net: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """D(x; σ) of table 1."""

    def denoiser(x: Tensor, sigma: Tensor, **cond: Any) -> Tensor:
        sigma = sigma.reshape(-1, 1, 1, 1)
        total = sigma**2 + DATA**2
        with torch.no_grad():
            inner = net(x / total.sqrt(), sigma.flatten().log() / 4, **cond)
        return DATA**2 / total * x + sigma * DATA / total.sqrt() * inner

    return denoiser


def edm_sampler(
    denoiser: Callable[..., Tensor],
    latents: Tensor,
    draw: Callable[[], Tensor],
    steps: int,
    s_churn: float,
    s_min: float,
    s_max: float,
    s_noise: float,
) -> Tensor:
    """Algorithm 2 of Karras et al. 2022, on the levels of their eq. 5."""
    i, rho = np.arange(steps), 7
    levels = (80 ** (1 / rho) + i / (steps - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    levels = [*levels.tolist(), 0.0]
    x = latents * levels[0]
    for t, s in zip(levels, levels[1:], strict=False):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_min <= t <= s_max else 0
        raised = t + gamma * t
        if gamma > 0:
            x = x + math.sqrt(raised**2 - t**2) * s_noise * draw()
        every = torch.ones(len(x), dtype=torch.float64)
        slope = (x - denoiser(x, raised * every)) / raised
        after = x + (s - raised) * slope
        if s > 0:
            other = (after - denoiser(after, s * every)) / s
            after = x + (s - raised) * (slope / 2 + other / 2)
        x = after
    return x


@pytest.mark.parametrize("kind", ["DDPM++", "ADM"])
@pytest.mark.parametrize("s_churn", [0.0, 30.0])
def test_a_converted_checkpoint_samples_as_edm_does(
    kind: str, s_churn: float, tmp_path: Path, their_modules: Path
) -> None:
    net = write(tmp_path / "in.pkl", their_modules, kind).double()
    edm.convert(tmp_path / "in.pkl", tmp_path / "out")
    model = models.load(tmp_path / "out", dtype=torch.float64).model
    labels, shape, steps = torch.tensor([0, 2]), (2, 2, SIDE, SIDE), 12
    s_min, s_max, s_noise = 0.05, 50.0, 1.003
    result = scoresde.sample(
        model,
        solvers.get("heun", s_churn=s_churn, s_tmin=s_min, s_tmax=s_max, s_noise=s_noise),
        shape=shape,
        steps=steps,
        grid="karras",
        seeds=5,
        cond={"label": labels},
        dtype=torch.float64,
    )
    assert result.nfe == 2 * steps - 1
    draws = Noise([5, 6], shape[1:], torch.float64, torch.device("cpu"))
    denoiser = preconditioned(lambda x, t: net(x, t, label=labels))
    expected = edm_sampler(denoiser, draws(), draws, steps, s_churn, s_min, s_max, s_noise)
    assert expected.std() > 0.1
    torch.testing.assert_close(result.samples, expected, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# refusals


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_a_file_that_would_run_code_is_refused_by_the_name_of_it(tmp_path: Path, their_modules: Path) -> None:
    write(tmp_path / "in.pkl", their_modules, extra={"loss_fn": Runs()})
    with pytest.raises(CheckpointError, match="in.pkl' holds (posix|nt).system, .* would run code"):
        edm.convert(tmp_path / "in.pkl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_storage_that_would_run_code_is_refused_too(tmp_path: Path) -> None:
    class Hidden:
        def __reduce__(self) -> Any:
            inner = io.BytesIO()
            torch.save(Runs(), inner)
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    (tmp_path / "in.pkl").write_bytes(pickle.dumps({"ema": Hidden()}))
    with pytest.raises(CheckpointError, match="damaged or not a pickle|in a form that is not known"):
        edm.convert(tmp_path / "in.pkl", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "G"}, r"holds no network as 'ema', but the keys \['G', 'augment_pipe', 'dataset_kwargs'\]"),
        ({"outer": "VPPrecond"}, "holds a 'VPPrecond'; known: EDMPrecond"),
        ({"network": "SongUnet"}, "the network 'SongUnet'; did you mean 'SongUNet'"),
        ({"arguments": {"channel_mul": [1]}}, "has the argument 'channel_mul'; did you mean 'channel_mult'"),
        ({"arguments": {"model_channels": 16}}, r"has shape \(.*the network needs"),
        ({"arguments": {"num_blocks": 2}}, "holds the weights of another network: it lacks"),
        ({"arguments": {"encoder_type": "residul"}}, "unknown encoder 'residul' of song_unet; did you mean 'residual'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_understood_is_refused_by_name(
    changes: dict[str, Any], words: str, tmp_path: Path, their_modules: Path
) -> None:
    write(tmp_path / "in.pkl", their_modules, **changes)
    with pytest.raises(ValueError, match=words):
        edm.convert(tmp_path / "in.pkl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_and_missing_files_are_refused(tmp_path: Path, their_modules: Path) -> None:
    write(tmp_path / "in.pkl", their_modules)
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "in.pkl").read_bytes()[:-2000])
    for name, words in (("cut.pkl", "damaged or not a pickle"), ("none.pkl", "cannot be read: No such file")):
        with pytest.raises(CheckpointError, match=words):
            edm.convert(tmp_path / name, tmp_path / "out")


def test_a_folder_with_an_unknown_preconditioning_is_refused(tmp_path: Path, their_modules: Path) -> None:
    write(tmp_path / "in.pkl", their_modules)
    edm.convert(tmp_path / "in.pkl", tmp_path / "out")
    path = tmp_path / "out" / models.CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    for changed, words in (
        ({"name": "edn"}, "unknown preconditioning 'edn'; did you mean 'edm'"),
        ({"name": "edm", "sigma_data": 0}, "sigma_data of the preconditioning 'edm' must be a positive number, got 0"),
        ({"name": "edm", "sigma": 1}, "has no option 'sigma'; did you mean 'sigma_data'"),
    ):
        path.write_text(json.dumps({**config, "preconditioning": changed}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=words):
            models.load(tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------------------
# the command


def test_the_command_converts_and_says_that_no_code_ran(tmp_path: Path, their_modules: Path, capsys: Any) -> None:
    source, out = tmp_path / "it's a, file.pkl", tmp_path / "out"
    write(source, their_modules)
    assert main(["convert", "edm", str(source), str(out)]) == 0
    told = capsys.readouterr().out
    assert "SongUNet, images of (2, 8, 8), 3 classes" in told
    assert "the source code that it carries has not run" in told
    assert models.load(out).card["training"]["source"] == source.name
    assert main(["convert", f"edm='{tmp_path}/none.pkl'", f"out={tmp_path}/other", "weights=bfloat16"]) == 1
    assert main(["convert", "edm", str(source), str(out)]) == 1
    assert "holds a model already" in capsys.readouterr().err


def test_a_format_without_its_file_is_wrong_usage(capsys: Any) -> None:
    assert main(["convert", "edm"]) == 2
    assert "scoresde convert edm in.pkl out/" in capsys.readouterr().err
    assert main(["convert", "edm", "in.pkl"]) == 2
    assert "out must be given" in capsys.readouterr().err


def test_a_file_of_torch_save_is_told_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Conv2d(3, 3, 3)
    torch.save({"net": net.state_dict()}, tmp_path / "training-state-000.pt")
    assert main(["convert", "edm", str(tmp_path / "training-state-000.pt"), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "is a file of torch.save, not one of EDM's pickles: take its network-snapshot-*.pkl" in said
    assert said.count("\n") == 1 and not (tmp_path / "out" / "config.json").exists()
