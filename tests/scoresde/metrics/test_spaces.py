"""Feature spaces: pixels, TorchScript files, torch-fidelity's networks, EfficientNet-Lite0, and their names."""

from __future__ import annotations

import inspect
import sys
import types
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from scoresde.commands.app import config_folder
from scoresde.data import to_state
from scoresde.metrics import FID, Moments, PixelSpace, spaces
from scoresde.metrics.spaces.efficientnet_lite import FILE, PACKAGE, EfficientNetLite
from scoresde.metrics.spaces.torch_fidelity import Fidelity
from scoresde.metrics.spaces.torchscript import TorchScript

SHAPE = (1, 6, 6)


def pixels(n: int = 7, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (n, channels, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Flat(nn.Module):
    """Features that are the values it was given."""

    def forward(self, images: Tensor, scale: float = 1.0) -> Tensor:
        return images.to(torch.float32).flatten(1) * scale


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    path = tmp_path / "flat.pt"
    torch.jit.script(Flat()).save(str(path))
    return path


class TestByName:
    def test_every_space_has_its_file_of_options_and_every_file_its_space(self):
        files = {path.stem: path for path in (config_folder() / "features").glob("*.yaml")}
        assert sorted(files) == spaces.names()
        for name, path in files.items():
            options = yaml.safe_load(path.read_text(encoding="utf-8"))
            assert options.pop("name") == name
            known = inspect.signature(spaces.SPACES[name]).parameters
            assert list(options) == [option for option in known if option != "device"]
            for option, value in options.items():
                default = known[option].default
                assert value == ("???" if default is inspect.Parameter.empty else default)
            first, _, *lines = path.read_text(encoding="utf-8").splitlines()
            assert first.startswith("# ") and all("  # " in line for line in lines)

    def test_the_model_s_space_is_the_bundled_one_by_default(self):
        assert spaces.get("model").name == FID.load().features.name

    def test_unknown_names_and_options_are_told_the_nearest(self):
        with pytest.raises(ValueError, match="unknown feature space 'pixel'; did you mean 'pixels'"):
            spaces.get("pixel")
        with pytest.raises(TypeError, match="'inception' has no option 'weight'; did you mean 'weights'"):
            spaces.get("inception", weight="w.pth")
        with pytest.raises(ValueError, match=r"give shape=\[channels, height, width\]"):
            spaces.get("pixels")
        with pytest.raises(ValueError, match="unknown model 'dinov2-vit-l'; did you mean 'dinov2-vit-l-14'"):
            spaces.get("dinov2", model="dinov2-vit-l")


class TestPixels:
    def test_are_the_images_as_vectors_whether_given_as_pixels_or_as_states(self):
        space = spaces.get("pixels", shape=[1, 6, 6])
        assert space.size == 36 and space.name == "pixels 1×6×6, as they are"
        assert torch.equal(space.features(pixels()), to_state(pixels()).flatten(1))
        assert torch.equal(space.features(to_state(pixels()) + 1e-4), space.features(pixels()))

    def test_give_a_frechet_distance(self):
        space, shifted = PixelSpace(SHAPE), (pixels(80) // 2 + 20)
        real, fid = Moments(36, space.name), FID(space, Moments(36, space.name))
        real.update(space.features(shifted))
        fid = FID(space, real)
        fid.update(shifted + 4)
        assert fid.compute().value == pytest.approx(36 * (4 / 127.5) ** 2, rel=1e-5)

    def test_refuse_large_images_and_impossible_shapes(self):
        assert PixelSpace((1, 64, 64)).size == 4096
        with pytest.raises(ValueError, match=r"3×64×64 images has 12,288 dimensions, more than 4,096"):
            PixelSpace((3, 64, 64))
        with pytest.raises(ValueError, match=r"must be \[channels, height, width\]"):
            PixelSpace((28, 28))
        with pytest.raises(ValueError, match=r"shape \(n, 1, 6, 6\), got \(2, 3, 6, 6\)"):
            PixelSpace(SHAPE).features(pixels(2, 3))


class TestTorchScript:
    @pytest.mark.parametrize(("input", "low", "high"), [("uint8", 0, 255), ("unit", 0, 1), ("state", -1, 1)])
    def test_takes_what_its_option_says(self, scripted: Path, input: str, low: float, high: float):
        space = TorchScript(scripted, SHAPE, input=input)
        expected = low + (high - low) * pixels().double().flatten(1) / 255
        torch.testing.assert_close(space.features(pixels()).double(), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(space.features(to_state(pixels())), space.features(pixels()))

    def test_resizes_and_repeats_grey_as_colour_where_asked(self, scripted: Path):
        space = TorchScript(scripted, SHAPE, input="unit", resize=12, rgb=True)
        assert space.size == 3 * 12 * 12
        grey = torch.full((2, 1, 6, 6), 51, dtype=torch.uint8)
        torch.testing.assert_close(space.features(grey), torch.full((2, 432), 0.2))
        edge = torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
        edge[..., 3:] = 255
        rounded = TorchScript(scripted, SHAPE, resize=12)
        assert rounded.features(edge).min() == 0 and rounded.features(edge).max() == 255  # bicubic goes beyond

    def test_has_a_name_of_its_file_and_of_all_that_changes_its_features(self, scripted: Path, tmp_path: Path):
        other = tmp_path / "other" / "flat.pt"
        other.parent.mkdir()
        torch.jit.script(nn.Sequential(nn.Flatten(), nn.Identity())).save(str(other))
        made = [
            TorchScript(scripted, SHAPE),
            TorchScript(other, SHAPE, input="unit"),
            TorchScript(scripted, SHAPE, input="unit"),
            TorchScript(scripted, SHAPE, resize=12),
            TorchScript(scripted, SHAPE, arguments={"scale": 2.0}),
        ]
        assert len({space.name for space in made}) == 5
        assert made[3].name.endswith("), uint8, resized to 12×12 (bicubic)") and made[4].name.endswith("scale=2.0")
        assert torch.equal(made[4].features(pixels()), 2 * made[0].features(pixels()))

    def test_refuses_what_is_not_a_feature_network(self, scripted: Path, tmp_path: Path):
        with pytest.raises(ValueError, match="no TorchScript file at"):
            TorchScript(tmp_path / "none.pt", SHAPE)
        with pytest.raises(ValueError, match="unknown input 'unity'.*'unit'"):
            TorchScript(scripted, SHAPE, input="unity")
        (tmp_path / "text.pt").write_text("no archive")
        with pytest.raises(ValueError, match="is no TorchScript file"):
            TorchScript(tmp_path / "text.pt", SHAPE)
        torch.jit.script(nn.Identity()).save(str(tmp_path / "maps.pt"))
        with pytest.raises(ValueError, match="one vector of finite features for each image"):
            TorchScript(tmp_path / "maps.pt", SHAPE)
        torch.jit.script(nn.Conv2d(3, 2, 1)).save(str(tmp_path / "colour.pt"))
        with pytest.raises(ValueError, match=r"does not run on images of shape \(1, 6, 6\)"):
            TorchScript(tmp_path / "colour.pt", SHAPE, input="unit")


class Extractor(nn.Module):
    """What torch-fidelity's extractors are to us."""

    INPUT_IMAGE_SIZE = 299

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str | None = None):
        super().__init__()
        assert layers == ["last"]
        self.weight = nn.Parameter(torch.ones(3))
        if feature_extractor_weights_path is not None:
            self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"fid": "last"}[metric]

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        return (images.float().mean(dim=(2, 3)) * self.weight,)


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch-fidelity's registry with small networks; the real one is compared in benchmarks/agreement/metrics.py."""
    registry: Any = types.ModuleType("torch_fidelity.registry")
    registry.FEATURE_EXTRACTORS_REGISTRY = {"inception-v3-compat": Extractor, "clip-vit-b-32": Extractor}
    package: Any = types.ModuleType("torch_fidelity")
    package.registry = registry
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.registry", registry)


class TestFidelity:
    def test_without_the_extra_it_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "torch_fidelity", None)
        for name in ("inception", "dinov2", "clip"):
            with pytest.raises(ImportError, match=r"install scoresde\[inception\]"):
                spaces.get(name)

    def test_gets_uint8_colour_and_is_named_by_its_weights(self, fidelity: None, tmp_path: Path):
        path = tmp_path / "weights.pth"
        torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, path)
        space = spaces.get("inception", weights=str(path))
        expected = pixels().float().mean(dim=(1, 2, 3))[:, None] * torch.tensor([1.0, 2.0, 3.0])
        torch.testing.assert_close(space.features(to_state(pixels())), expected)
        assert space.size == 3
        assert space.name.startswith("inception-v3-compat of torch-fidelity (")
        assert space.name.endswith("), resized to 299×299 (bilinear)")
        assert spaces.get("clip").name.partition(" (")[2] != space.name.partition(" (")[2]
        with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
            space.features(pixels(2, 2))

    def test_unpickles_nothing_but_weights(self, fidelity: None, tmp_path: Path):
        torch.save({"weight": Path("anything")}, tmp_path / "code.pth")
        with pytest.raises(ValueError, match="does not hold weights and nothing else"):
            spaces.get("inception", weights=str(tmp_path / "code.pth"))
        with pytest.raises(ValueError, match="no weights of inception-v3-compat at"):
            spaces.get("inception", weights=str(tmp_path / "none.pth"))
        torch.save({"other": torch.ones(3)}, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="cannot load inception-v3-compat from"):
            spaces.get("inception", weights=str(tmp_path / "other.pth"))
        with pytest.raises(ValueError, match="has no model 'clip-vit-b-16'; did you mean 'clip-vit-b-32'"):
            Fidelity("clip-vit-b-16")


@pytest.fixture(scope="module")
def lite() -> EfficientNetLite:
    return spaces.efficientnet_lite()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """A portrait in uniform, a flower and a palace, the middle of each, 224×224."""
    samples = resources.files("sklearn") / "datasets" / "images"
    paths = [get_sample_data("grace_hopper.jpg", asfileobj=False), samples / "flower.jpg", samples / "china.jpg"]
    squares = []
    for path in paths:
        picture = Image.open(str(path)).convert("RGB")
        width, height = picture.size
        left, top, side = (width - min(width, height)) // 2, (height - min(width, height)) // 2, min(width, height)
        box = (left, top, left + side, top + side)
        squares.append(np.array(picture.resize((224, 224), Image.Resampling.BICUBIC, box)))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)


def by_name(pixels: Tensor) -> Tensor:
    """EfficientNet-Lite0's features as the names in its file have them, layer by layer and without folding."""
    path = resources.files(PACKAGE).joinpath(FILE)
    weights: dict[str, Tensor] = torch.load(str(path), weights_only=True)

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        weight = weights[f"{convolution}.weight"]
        (side, kernel), groups = (x.shape[-1], weight.shape[-1]), x.shape[1] // weight.shape[1]
        padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)  # TensorFlow's "SAME"
        ends = (padding // 2, padding - padding // 2) * 2
        x = functional.conv2d(functional.pad(x, ends), weight, stride=stride, groups=groups)
        mean, variance, gain, shift = (
            weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, gain, shift, eps=1e-3)

    x = layer((pixels.float() - 127) / 128, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    for index in range(16):
        block, before = f"_blocks.{index}", x
        if index:
            x = layer(x, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
        stride = 2 if index in (1, 3, 5, 11) else 1
        x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", stride).clamp(0, 6)
        x = layer(x, f"{block}._project_conv", f"{block}._bn2")
        x = x + before if x.shape == before.shape else x
    return layer(x, "_conv_head", "_bn1").clamp(0, 6).mean(dim=(2, 3))


class TestEfficientNetLite:
    def test_without_the_extra_it_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, PACKAGE, None)
        with pytest.raises(ImportError, match=r"install scoresde\[efficientnet\]"):
            spaces.get("efficientnet_lite")

    def test_other_weights_are_refused_before_they_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = tmp_path / FILE
        path.parent.mkdir()
        path.write_bytes(b"no weights")
        monkeypatch.setattr(resources, "files", lambda package: tmp_path)
        with pytest.raises(ValueError, match="SHA-256 .{8}…, not 57934424…: install it again"):
            spaces.get("efficientnet_lite")

    def test_knows_pictures(self, lite: EfficientNetLite, pictures: Tensor):
        # ImageNet's military uniform, daisy and palace.
        assert lite.classify(pictures).argmax(1).tolist() == [652, 985, 698]

    def test_is_the_network_of_its_file(self, lite: EfficientNetLite, pictures: Tensor):
        found = lite.features(pictures)
        assert found.shape == (3, lite.size)
        torch.testing.assert_close(found, by_name(pictures), rtol=1e-4, atol=1e-4)

    def test_takes_grey_and_small_images_and_states(self, lite: EfficientNetLite):
        grey = pixels(2)
        found = lite.features(to_state(grey))
        assert torch.equal(found, lite.features(grey.expand(-1, 3, -1, -1)))
        assert not torch.allclose(found[0], found[1], atol=0.1)
        with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
            lite.features(pixels(2, 2))
        assert lite.name == "efficientnet-lite0 (57934424), resized to 224×224 (bicubic)"


def test_pixels_as_floating_point_numbers_are_no_states() -> None:
    pixels = torch.randint(0, 256, (20, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    space = spaces.get("pixels", shape=[1, 4, 4])
    with pytest.raises(ValueError, match=r"numbers from 0 to 25\d, which are no states in .-1, 1.: give pixels of 0"):
        space.features(pixels.float())
    assert space.features(pixels.to(torch.uint8)).shape == (20, 16)
    wild = torch.tensor([-300.0, 5.0, 0.2, 1.0]).view(1, 1, 2, 2)  # a run that went astray is measured as it is
    assert spaces.get("pixels", shape=[1, 2, 2]).features(wild).isfinite().all()
