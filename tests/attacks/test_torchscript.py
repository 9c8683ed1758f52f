"""TorchScript files: what computes features runs, and what reads or writes files does not, wherever it stands."""

from __future__ import annotations

import io
import re
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.commands.main import main
from scoresde.metrics import spaces
from scoresde.metrics.spaces import scripts
from scoresde.metrics.spaces.torchscript import TorchScript

SHAPE = (3, 8, 8)


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        file = torch.from_file("written", True, 192, dtype=torch.uint8)
        file.copy_(x[0].flatten())
        return x.flatten(1).float() + file.float().sum()


class Saves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "written")
        return x.flatten(1).float()


class Hidden(nn.Module):
    """In a branch that is not taken, of a method that nobody calls."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return torch.from_file("written", True, 3)
        return x


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), Hidden())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Prints(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("\x1b[2J")
        return x.flatten(1).float()


class Random(nn.Module):
    """Features that are drawn, and the generator of all others set."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x.float()).flatten(1)


class Forks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(torch.flatten, x, 1)).float()


class Loads(nn.Module):
    """What runs when the file is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.state = torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() + self.state.sum()

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.state, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.state = torch.from_file("written", True, 3)
        self.training = state[1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Writes, "aten::from_file"),
        (Saves, "aten::save"),
        (Hidden, "aten::from_file"),
        (Inner, "aten::from_file"),
        (Prints, "prim::Print"),
        (Random, "aten::rand_like"),
        (Forks, "is not on the list"),
        (Loads, "__getstate__"),
    ],
)
def test_what_does_more_than_compute_is_refused_by_name_before_it_runs(
    network: Callable[[], nn.Module], named: str
) -> None:
    torch.jit.script(network()).save("features.pt")
    with pytest.raises(ValueError, match=f"'features.pt' holds .*{named}.*features.trust=true") as caught:
        TorchScript("features.pt", SHAPE)
    assert "\n" not in str(caught.value)
    assert not Path("written").exists()


def test_what_is_trusted_runs() -> None:
    torch.jit.script(Writes()).save("features.pt")
    assert TorchScript("features.pt", SHAPE, trust=True).size == 192
    assert Path("written").exists()


@pytest.mark.parametrize(
    "code",
    [
        '"written".from_file(True, 3)',
        'torch.from_file("written", True, 3)',
        'ops.aten.from_file("written", True, 3)',
        'ops.unknown.anything("written")',
        "torch.ops.load_library()",
        "(x).set_(x)",
        "x.share_memory_()",
        'torch.__dict__["from_file"]',
        "torch.classes.rpc.Anything(x)",
    ],
)
def test_code_put_into_an_archive_by_hand_is_read_before_it_is_loaded(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.jit.script(nn.Flatten()).save("good.pt")
    with zipfile.ZipFile("good.pt") as good, zipfile.ZipFile("features.pt", "w") as bad:
        for member in good.infolist():
            content = good.read(member)
            if member.filename.endswith("flatten.py"):
                content = content.replace(b"    return ", f"    _9 = {code}\n    return ".encode(), 1)
                assert code.encode() in content
            bad.writestr(member.filename.replace("good/", "features/"), content)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="not on the list"):
        TorchScript("features.pt", SHAPE)


def again(source: str, target: str, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """The archive with its parts changed."""
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(target, "w") as bad:
        for member in good.infolist():
            changed = change(member.filename.partition("/")[2], good.read(member))
            if changed is not None:
                bad.writestr(f"{Path(target).stem}/{changed[0]}", changed[1])


@pytest.mark.parametrize(
    ("part", "renamed"), [("code/", "CODE/"), ("code/", "Code/"), (".py", ".PY"), ("__torch__", "__TORCH__")]
)
def test_code_that_torch_alone_finds_runs_nowhere(part: str, renamed: str) -> None:
    torch.jit.script(Loads()).save("good.pt")
    again("good.pt", "features.pt", lambda name, content: (name.replace(part, renamed), content))
    torch.jit.load("features.pt")  # names of parts are the same to it in capitals
    assert Path("written").exists()
    Path("written").unlink()
    with pytest.raises(ValueError, match=r"'features\.pt' (is no TorchScript file|holds __getstate__)"):
        TorchScript("features.pt", SHAPE)
    assert not Path("written").exists()


def test_an_archive_with_two_tables_of_contents_is_the_one_that_was_looked_at() -> None:
    """Of an archive behind other bytes torch reads the table where the end says, Python the one before the end."""
    torch.jit.script(Loads()).save("bad.pt")
    made = []
    for harmless in (False, True):
        file = io.BytesIO()
        with zipfile.ZipFile("bad.pt") as source, zipfile.ZipFile(file, "w") as archive:
            for member in source.infolist():
                content = source.read(member)
                if harmless and member.filename.endswith(".py"):
                    method = content[: content.index(b"  def __getstate__")]
                    content = method.ljust(len(content), b"\n")
                archive.writestr(member.filename, content)
        made.append(file.getvalue())
    bad, good = made
    assert len(bad) == len(good)
    Path("features.pt").write_bytes(bad[:-22] + good)
    torch.jit.load("features.pt")
    assert Path("written").exists()
    Path("written").unlink()
    with pytest.raises(ValueError, match="is no TorchScript file"):  # its values are not those of that code
        TorchScript("features.pt", SHAPE)
    assert not Path("written").exists()


def test_the_format_before_torch_1_4_is_not_read() -> None:
    torch.jit.script(nn.Flatten()).save("good.pt")
    again("good.pt", "features.pt", lambda name, content: None if name == "data.pkl" else (name, content))
    with zipfile.ZipFile("features.pt", "a") as archive:
        archive.writestr("features/model.json", '{"mainModule": {"torchscriptArena": {"key": "hidden"}}}')
        archive.writestr("features/hidden", "import this")
    with pytest.raises(ValueError, match=r"is no TorchScript file: it lacks data\.pkl"):
        TorchScript("features.pt", SHAPE)


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1000.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), -1).clone()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"M\xe8\x03", b"J\x00\x00\x00\x04", "ends at value 67,108,864 of 67,108,864, in 4,000 bytes"),
        (b"FloatStorage", b"DoubleStorage", "ends at value 1,000 of 1,000, in 4,000 bytes"),
        (b"FloatStorage", b"QInt8Storage", "holds a tensor of torch.QInt8Storage"),
        (b"K\x00(M", b"K\x01(M", "ends at value 1,001 of 1,000"),
        (b"K\x00(M", b"J\xff\xff\xff\xff(M", "shape is none"),
        (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor", "holds an object of torch._utils._rebuild_sparse_tensor"),
        (b"c__torch__.", b"c__torch__.torch.classes.rpc.", "holds an object of __torch__.torch.classes.rpc"),
        (b"}", b"}r\xff\xff\xff\xff", "too small for so many things"),
        (b"}", b"}" + b"\x85" * 100_000, "is no TorchScript file"),
    ],
)
def test_values_that_torch_would_read_beyond_their_bytes_are_refused(old: bytes, new: bytes, words: str) -> None:
    torch.jit.script(Holds()).save("good.pt")

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name == "data.pkl":
            assert old in content
            content = content.replace(old, new, 1 if old == b"}" else -1)
        return name, content

    again("good.pt", "features.pt", change)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        TorchScript("features.pt", SHAPE)
    assert "\n" not in str(caught.value)


def test_an_object_that_loading_would_make_of_a_plugin_s_class_is_refused_for_clip_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch-fidelity loads the archive that was looked at, not the file."""

    class Extractor(nn.Module):
        resolution = 8

        def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: Any):
            super().__init__()
            self.weight = nn.Parameter(torch.jit.load(feature_extractor_weights_path).state_dict()["weight"])

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return metric

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (images.float().mean((2, 3)) + self.weight[:3],)

    registry: Any = types.ModuleType("torch_fidelity.registry")
    registry.FEATURE_EXTRACTORS_REGISTRY = {"clip-vit-b-32": Extractor}
    package: Any = types.ModuleType("torch_fidelity")
    package.registry = registry
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.registry", registry)
    torch.jit.script(Holds()).save("good.pt")
    space = spaces.get("clip", weights="good.pt")
    assert torch.equal(space.features(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), torch.tensor([[0.0, 1.0, 2.0]]))
    torch.jit.script(Loads()).save("loads.pt")
    again("loads.pt", "capitals.pt", lambda name, content: (name.replace(".py", ".PY"), content))
    for path in ("loads.pt", "capitals.pt"):
        with pytest.raises(ValueError, match="holds __getstate__|torch-fidelity cannot load clip-vit-b-32 from"):
            spaces.get("clip", weights=path)
        assert not Path("written").exists()
    Path("text.pt").write_text("text")
    with pytest.raises(ValueError, match=r"'text\.pt' is no TorchScript file"):
        spaces.get("clip", weights="text.pt")
    with pytest.raises(ValueError, match="torch-fidelity cannot load clip-vit-b-32 from 'loads.pt'"):
        spaces.get("clip", weights="loads.pt", trust=True)
    assert Path("written").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6" + bytes(18), b"\x80\x02.", b"text"])
def test_what_is_no_archive_of_torchscript_is_refused_in_a_line(content: bytes) -> None:
    Path("features.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is no TorchScript file") as caught:
        TorchScript("features.pt", SHAPE)
    assert "\n" not in str(caught.value)


def test_code_that_is_too_deep_or_too_long_is_refused() -> None:
    deep = [
        b"x = " + code for code in (b"(" * 100_000, b"1" + b"<1" * 2000, b"1" + b" and 1" * 2000, b"-" * 2000 + b"1")
    ]
    for code in (*deep, b"#" * (scripts.LONGEST + 1)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/code/__torch__.py", code)
            archive.writestr("a/data.pkl", b"\x80\x02}.")
        Path("features.pt").write_bytes(file.getvalue())
        with pytest.raises(ValueError, match="code"):
            TorchScript("features.pt", SHAPE)


def test_the_command_names_it_and_what_would_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(Writes()).save("features.pt")
    Path("none.npz").touch()
    space = ["features=torchscript", "features.path=features.pt", "reference=none.npz", "features.rgb=true"]
    assert main(["sample", "n=2", "nfe=2", "metrics=true", *space, "out=out"]) == 1
    assert "holds aten::from_file, which is not on the list" in capsys.readouterr().err
    assert not Path("written").exists()


# ---------------------------------------------------------------------------------------------------------------------
# what computes features


class Residual(nn.Module):
    """Of the kind of ResNets and Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.pools = nn.ModuleList([nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(4)])
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, return_features: bool = True, scale: float | None = None) -> Tensor:
        assert x.ndim == 4, f"four axes, got {x.shape}"
        x = functional.interpolate(
            x.to(torch.float32), size=(8, 8), mode="bilinear", align_corners=False, antialias=True
        )
        x = (x - 128) / 128
        if scale is not None:
            x = x * scale
        x = self.first(x)
        x = x + self.second(x)
        found = torch.cat([pool(x) for pool in self.pools], dim=1).mean(dim=[2, 3])
        return self.drop(found) if return_features else found.softmax(1)


class Attention(nn.Module):
    """Of the kind of vision transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 5, 16))
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x.float() / 255).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (4, 4)).permute(0, 2, 1, 3) for part in (q, k, v)]
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        x = x + self.out(mixed.permute(0, 2, 1, 3).reshape(x.shape))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        found = (x + self.mlp(x))[:, 0]
        return found / found.norm(p=2, dim=-1, keepdim=True).clamp_min(1e-6)


class Distances(nn.Module):
    """Of the kind of perceptual losses, with lists, dictionaries and loops."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)])

    def forward(self, x: Tensor) -> Tensor:
        found: dict[str, Tensor] = {}
        names: list[str] = []
        x = x.float()
        for index, stage in enumerate(self.stages):
            x = torch.relu_(stage(x))
            name = f"stage{index}"
            found[name] = x.amax(dim=(2, 3))
            names.append(name)
        return torch.einsum("sni->ni", torch.stack([found[name] for name in names])).clamp(-1e3, 1e3)


@pytest.mark.parametrize("network", [Residual, Attention, Distances])
@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
def test_networks_that_compute_features_run(network: Callable[[], nn.Module], how: str) -> None:
    torch.manual_seed(0)
    net = network().eval()
    images = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    made = torch.jit.trace(net, images.float(), check_trace=False) if how == "traced" else torch.jit.script(net)
    (torch.jit.freeze(made) if how == "frozen" else made).save("features.pt")  # type: ignore[union-attr]
    with torch.no_grad():
        expected = net(images.float())
    torch.testing.assert_close(TorchScript("features.pt", SHAPE).features(images), expected, rtol=1e-4, atol=1e-5)


def test_every_operator_on_the_list_is_one_of_torch_s() -> None:
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    strange = {name for name in scripts.ALLOWED if name.startswith("aten::")} - known - {f"{name}_" for name in known}
    assert not {name for name in strange if f"{name}_" not in known}, strange


class Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1).float()
        while bool(y.sum() >= 0):
            y = y + 1
        return y


class Many(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1).float()
        for _ in range(1_000_000_000):
            y = y * y
        return y


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > 0:
            raise ValueError("no\nfeatures")
        return x.flatten(1).float()


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(x.flatten(1).float(), x.flatten(1).float())


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float().sum()


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()[:, :0]


class Drops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x.flatten(1).float(), 0.5, training=True)


class Normalises(nn.Module):
    """By the batch that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x.flatten(1).float(), None, None, training=True)


class OneForAll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float().mean(0, keepdim=True)


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() * self.seen.add_(1)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Endless, "a loop of over 10,000 turns"),
        (Many, "a loop of over 10,000 turns"),
        (Raises, "does not run on images of shape .*no features"),
        (Complex, "must give one vector of finite features for each image, and gave .*complex64"),
        (Scalar, "must give one vector of finite features for each image"),
        (Nothing, "must give one vector of finite features for each image"),
        (OneForAll, r"must give one vector of finite features for each image, and gave shape \(1, 192\)"),
        (Normalises, "gives other features of the same image the next time"),
        (Drops, "gives other features of the same image the next time"),
        (Remembers, "gives other features of the same image the next time"),
    ],
)
def test_networks_that_give_no_features_are_refused_in_a_line(network: Callable[[], nn.Module], words: str) -> None:
    torch.jit.script(network()).save("features.pt")
    with pytest.raises(ValueError, match=words) as caught:
        TorchScript("features.pt", SHAPE)
    assert "\n" not in str(caught.value)


class Warns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("\x1b[2Jold\nweights", stacklevel=2)
        return x.flatten(1).float()


def test_what_a_network_warns_of_is_said_in_a_line_that_no_terminal_obeys() -> None:
    torch.jit.script(Warns()).save("features.pt")
    with pytest.warns(UserWarning, match="old") as said:
        TorchScript("features.pt", SHAPE)
    assert {str(warning.message) for warning in said if "old" in str(warning.message)} == {"\\x1b[2Jold weights"}


class Overwrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0).flatten(1).float() + 1


@pytest.mark.parametrize("input", ["uint8", "unit", "state"])
def test_a_network_that_writes_to_its_input_changes_nobody_s_images(input: str) -> None:
    torch.jit.script(Overwrites()).save("features.pt")
    space = TorchScript("features.pt", SHAPE, input=input)
    images = torch.full((50, *SHAPE), 7, dtype=torch.uint8)
    assert torch.equal(space.features(images), torch.ones(50, 192))
    assert bool((images == 7).all())


class Padded(nn.Module):
    """Of the kind of EfficientNet and SigLIP, whose convolutions name their padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.float()).mean((2, 3))


def test_padding_may_be_named() -> None:
    net = Padded().eval()
    images = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    made: list[Any] = [torch.jit.script(net), torch.jit.trace(net, images.float())]
    for one in made:
        one.save("features.pt")
        with torch.no_grad():
            expected = net(images)
        torch.testing.assert_close(TorchScript("features.pt", SHAPE).features(images), expected, rtol=1e-4, atol=1e-3)
