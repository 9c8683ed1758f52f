"""Hostile files of every kind that is read: kinds of :mod:`benchmarks.robustness.attacks`."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import os
import random
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import scoresde
import solvers
from benchmarks.robustness import pickles
from benchmarks.robustness.hostile import (
    Attack,
    Kind,
    RefusedError,
    check,
    damaged,
    odd_file,
    odd_json,
    odd_text,
    read_json,
    write_json,
)
from benchmarks.robustness.inputs import SIDE
from scoresde import data, models
from scoresde.metrics.spaces.network import FeatureNetwork, load_features, save_features
from scoresde.metrics.spaces.torchscript import TorchScript
from scoresde.metrics.statistics import load_moments
from scoresde.models import edm
from solvers import Plan

SHAPE = (1, SIDE, SIDE)
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def prepare(good: Path) -> None:
    """Further good files: a folder of diffusers, a feature network and statistics."""
    warnings.filterwarnings("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks |= {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = UNet2DModel(sample_size=SIDE, in_channels=1, out_channels=1, **blocks)
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(good / "diffusers")
    network = FeatureNetwork(channels=(4, 4), depth=1)
    save_features(good / "features", network, "tiny", SHAPE, {"source": "noise"})
    torch.jit.script(Averages()).save(str(good / "script.pt"))
    mean, covariance = np.arange(4.0), np.diag([1.0, 2.0, 3.0, 4.0])
    np.savez(good / "statistics.npz", mu=mean, sigma=covariance)


# ---------------------------------------------------------------------------------------------------------------------
# pickles


def of_pickles(rng: random.Random, good: Path) -> Iterator[Attack]:
    """a network that samples finite images; moments of finite numbers"""
    for about, content in pickles.cases(10**9, rng.randrange(10**6)):
        yield Attack(f"{about}, to convert", partial(_convert, content))
        yield Attack(f"{about}, as statistics", partial(_moments, content, "in.pkl"))


def _convert(content: bytes) -> None:
    Path("in.pkl").write_bytes(content)
    edm.convert("in.pkl", "out")
    _sampled(models.load("out"))


class _Numbers:
    """A feature space of so many numbers."""

    def __init__(self, size: int = 4):
        self.size, self.name = size, "numbers"


def _moments(content: bytes, name: str) -> None:
    Path(name).write_bytes(content)
    found = load_moments(name, _Numbers())  # type: ignore[arg-type]
    check(np.isfinite(found.mean).all() and np.isfinite(found.covariance).all(), "moments that are not finite")


def _sampled(checkpoint: models.Checkpoint) -> Tensor:
    """Samples of a model that was taken: finite ones of its shape, or an error that names what is wrong."""
    cond = {"label": torch.arange(2) % checkpoint.classes} if checkpoint.classes else None
    shape = (2, *checkpoint.shape)
    samples = scoresde.sample(
        checkpoint.model, nfe=2, shape=shape, seeds=0, cond=cond, decode=checkpoint.decode
    ).samples
    check(samples.isfinite().all(), "samples that are not finite")
    check(samples.shape == shape, f"samples of shape {tuple(samples.shape)} from a model of {shape}")
    return samples


# ---------------------------------------------------------------------------------------------------------------------
# folders of networks


def of_models(rng: random.Random, good: Path) -> Iterator[Attack]:
    """samples of the undamaged model, unless another process or other weights are described"""
    right = _sampled(models.load(good / "model"))
    free = ("process", "prediction", "time_scale", "preconditioning")
    load = lambda: _sampled(models.load("model"))  # noqa: E731
    return _networks(rng, good / "model", "model", {CONFIG: free}, load, right)


def of_diffusers(rng: random.Random, good: Path) -> Iterator[Attack]:
    """samples of the undamaged model, unless another schedule or other weights are described"""
    source = good / "diffusers"
    right = _sampled(models.from_diffusers(str(source)))
    # What settings say beyond the tensors' shapes makes another network: how it feeds and scales what it has.
    network = ("flip_sin_to_cos", "freq_shift", "time_embedding_type", "center_input_sample", "norm_eps", "act_fn")
    network += ("mid_block_scale_factor", "downsample_padding", "norm_num_groups", "attention_head_dim", "dropout")
    network += ("resnet_time_scale_shift", "downsample_type", "upsample_type", "sample_size")
    free = {"unet/config.json": network, "scheduler/scheduler_config.json": None, "model_index.json": ()}
    load = lambda: _sampled(models.from_diffusers("model"))  # noqa: E731
    return _networks(rng, source, "model", free, load, right, weights="unet/diffusion_pytorch_model.safetensors")


def of_features(rng: random.Random, good: Path) -> Iterator[Attack]:
    """features of the undamaged network"""
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def load() -> Tensor:
        space = load_features("model")
        check(len(str(space.name)) < 10_000, "a name without end")
        return space.features(images)

    right = load_features(good / "features").features(images)
    return _networks(rng, good / "features", "model", {CONFIG: ()}, load, right)


def _networks(
    rng: random.Random,
    source: Path,
    target: str,
    free: dict[str, tuple[str, ...] | None],
    load: Callable[[], Tensor],
    right: Tensor,
    weights: str = WEIGHTS,
) -> Iterator[Attack]:
    """A folder with one of its files damaged; ``free`` are the settings of each that may make other samples."""
    ways = (
        "json",
        "json",
        "json",
        "json",
        "text",
        "bytes",
        "header",
        "header",
        "tensors",
        "tensors",
        "tensors",
        "file",
    )
    for index in itertools.count():
        way, seed, name = rng.choice(ways), rng.randrange(10**9), rng.choice(sorted(free))
        own = random.Random(seed)
        if way == "json":
            where, about, content = odd_json(read_json(source / name), own)
            may = free[name]
            other = may is None or where[0] in may
        else:
            about, content, other = f"{way} {seed}", None, way in ("bytes", "header", "tensors")

        def run(
            way: str = way, seed: int = seed, name: str = name, content: Any = content, other: bool = other
        ) -> None:
            shutil.copytree(source, target)
            folder, own = Path(target), random.Random(seed)
            if way == "json":
                write_json(folder / name, content)
            elif way == "text":
                (folder / name).write_bytes(odd_text(own)[1])
            elif way == "file":
                odd_file(folder / own.choice((name, weights)), own)
            else:
                _damage_weights(folder / weights, way, own)
            found = load()
            check(other or torch.equal(found, right), "taken, and gives other numbers")

        yield Attack(f"{index}: {name if way in ('json', 'text', 'file') else weights}: {about}", run)


def _damage_weights(path: Path, way: str, rng: random.Random) -> None:
    if way == "bytes":
        path.write_bytes(damaged(path.read_bytes(), rng)[1])
    elif way == "header":
        whole = path.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        _, _, header = odd_json(json.loads(whole[8 : 8 + size]), rng)
        text = json.dumps(header).encode()
        told = rng.choice((len(text), len(text), len(text), len(text) + 1, 2**63, 10**12, 0))
        path.write_bytes(struct.pack("<Q", told) + text + whole[8 + size :])
    else:
        tensors = load_file(path)
        name = rng.choice(sorted(tensors))
        way = rng.choice(("removed", "nan", "inf", "reshaped", "cut", "renamed", "more", "integer", "none at all"))
        value = tensors.pop(name)
        if way in ("nan", "inf"):
            value = value.clone()
            value.view(-1)[rng.randrange(value.numel())] = float(way)
            tensors[name] = value
        elif way == "reshaped":
            tensors[name] = value.reshape(-1, 1).contiguous()
        elif way == "cut":
            tensors[name] = value[:-1].contiguous()
        elif way == "renamed":
            tensors[f"{name}\x1b[31m"] = value
        elif way == "more":
            tensors |= {name: value, "more": torch.zeros(3)}
        elif way == "integer":
            tensors[name] = value.to(torch.int64)
        elif way == "none at all":
            tensors = {}
        save_file(tensors, path, metadata={"format": "pt"})


# ---------------------------------------------------------------------------------------------------------------------
# TorchScript


class Averages(nn.Module):
    """A good feature network."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32).mean(dim=[2, 3]) + x.to(torch.float32).amax(dim=[2, 3])


SCRIPTS = {
    "writes a file": 'x.to(torch.float32).mean(dim=[2, 3]) + torch.from_file("../written", True, 3)[0]',
    "writes the user's file": 'x.to(torch.float32).mean(dim=[2, 3]) + torch.from_file("thesis.txt", True, 2)[0]',
    "reads a file": 'x.to(torch.float32).mean(dim=[2, 3]) + torch.from_file("/etc/passwd", False, 2)[0]',
    "no vectors": "x.to(torch.float32)",
    "a number": "x.to(torch.float32).mean()",
    "not finite": "x.to(torch.float32).mean(dim=[2, 3]) / 0.0",
    "complex": "torch.fft.fft(x.to(torch.float32)).mean(dim=[2, 3])",
    "much memory": "x.to(torch.float32).mean(dim=[2, 3]) + torch.ones(3000000, 1000000).sum()",
    "at random": "x.to(torch.float32).mean(dim=[2, 3]) + torch.rand(1)",
    "of the batch": "x.to(torch.float32).mean(dim=[2, 3])[:1]",
    "none": "x.to(torch.float32).mean(dim=[2, 3])[:, :0]",
    "sparse": "x.to(torch.float32).mean(dim=[2, 3]).to_sparse()",
    "too many threads": "torch.set_num_threads(99)",
}
BODIES = {
    "without end": "while True:\n        x = x + 1\n    return x",
    "raises": 'raise ValueError("two\\nlines")',
    "prints": 'print("\\x1b[31m")\n    return x.to(torch.float32).mean(dim=[2, 3])',
    "a tuple": "return x, x",
    "a dictionary": 'return {"a": x}',
    "a word": 'return "word"',
    "two inputs": "return x + y",
    "saves": 'torch.save(x, "../written")\n    return x',
    "a wait": "fut = torch.jit.fork(torch.mean, x.to(torch.float32))\n    return torch.jit.wait(fut)",
    "a long loop": "for i in range(1000000000):\n        x = x + 1\n    return x.to(torch.float32).mean(dim=[2, 3])",
    "in place": "x.zero_()\n    return x.to(torch.float32).mean(dim=[2, 3])",
}


def of_scripts(rng: random.Random, good: Path) -> Iterator[Attack]:
    """features of the undamaged network"""
    pixels = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    right = Averages()(pixels)
    for name, expression in SCRIPTS.items():
        yield Attack(f"script: {name}", partial(_script, name, f"return {expression}", pixels))
    for name, body in BODIES.items():
        yield Attack(f"script: {name}", partial(_script, name, body, pixels))
    while True:
        seed = rng.randrange(10**9)

        def run(seed: int = seed) -> None:
            own, path = random.Random(seed), Path("script.pt")
            shutil.copy(good / "script.pt", path)
            way = own.choice(("bytes", "bytes", "member", "member", "file"))
            if way == "file":
                odd_file(path, own)
            elif way == "bytes":
                path.write_bytes(damaged(path.read_bytes(), own)[1])
            else:
                _damage_member(path, own)
            found = TorchScript(path, SHAPE).features(pixels)
            check(torch.equal(found, right.to(found.dtype)), "taken, and gives other features")

        yield Attack(f"script: damaged {seed}", run)


def _script(name: str, body: str, pixels: Tensor) -> None:
    net = torch.jit.ScriptModule()
    more = ", y: Tensor" if name == "two inputs" else ""
    try:
        net.define(f"def forward(self, x: Tensor{more}):\n    {body}\n")
    except RuntimeError as error:
        raise RefusedError("torch has no such operator") from error
    net.save("script.pt")
    space = TorchScript("script.pt", SHAPE)
    found = space.features(pixels)
    check(name == "in place" and found.shape == (len(pixels), space.size), "taken, though it does not make features")


def _damage_member(path: Path, rng: random.Random) -> None:
    """One file of an archive damaged, the archive whole."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    members[name] = damaged(members[name], rng)[1]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# ---------------------------------------------------------------------------------------------------------------------
# pictures


FORMATS = ("png", "jpeg", "webp", "bmp", "tiff", "gif", "ppm")
LOSSLESS = ("png", "bmp", "tiff", "ppm")
FOREIGN = ("eps", "pdf", "ico", "pcx", "sgi", "tga", "jpeg2000", "dds", "im", "spider")
SUFFIXES = ("png", "jpg", "webp", "bmp", "tif", "gif", "ppm", "PNG")
NAMES = ("a", "\x1b[31m", "two\nlines", "=1+1", "$x$", "<b>", "\udcff", "%s", ".hidden", "-rf", "é" * 80)


def of_pictures(rng: random.Random, good: Path) -> Iterator[Attack]:
    """the pixels that were written, of formats that keep them; one size and channels of 8 bits"""
    while True:
        seed = rng.randrange(10**9)
        yield Attack(f"picture {seed}", partial(_picture, seed))


def _picture(seed: int) -> None:
    rng, folder = random.Random(seed), Path("photos")
    folder.mkdir()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    form, mode = (
        rng.choice(FORMATS),
        rng.choice(("L", "RGB", "RGB", "RGBA", "P", "1", "LA", "I;16", "F", "CMYK", "HSV")),
    )
    way = rng.choice(
        ("whole", "whole", "damaged", "damaged", "damaged", "foreign", "header", "odd", "frames", "two sizes")
    )
    name = f"{rng.choice(NAMES)}.{rng.choice(SUFFIXES)}"
    path, image = folder / name, Image.fromarray(pixels)
    shown = (
        image.convert("L")
        if mode == "I;16"
        else image.convert("L").convert("F")
        if mode == "F"
        else image.convert(mode)
    )
    if mode == "I;16":
        shown = Image.fromarray(np.asarray(shown).astype(np.uint16) * 257)
    file = io.BytesIO()
    try:
        if way == "frames":
            shown.save(
                file, rng.choice(("gif", "tiff", "webp", "png")), save_all=True, append_images=[shown.rotate(90)]
            )
        else:
            shown.save(file, rng.choice(FOREIGN) if way == "foreign" else form)
    except (OSError, ValueError, KeyError):
        shown.convert("RGB").save(file, "png")
        way, mode, form = "whole", "RGB", "png"
    content, kept = file.getvalue(), Image.open(file)
    if way == "frames" and getattr(kept, "n_frames", 1) == 1:
        way = "one frame"
    if way == "damaged":
        content = damaged(content, rng)[1]
    elif way == "header":
        content = _large(rng)
    path.write_bytes(content)
    if way == "odd":
        odd_file(path, rng)
    elif way == "two sizes":
        image.resize((5, 5)).save(folder / "b.png")
    before = sorted(os.listdir())
    if name.startswith(".") and way == "two sizes":
        way = "hidden"  # is not looked at
    found = data.load("photos").pixels
    check(sorted(os.listdir()) == before, "files were made")
    check(found.dtype == torch.uint8 and found.shape[0] == 1, f"{found.dtype} {tuple(found.shape)}")
    check(way not in ("foreign", "header", "frames", "two sizes", "odd"), f"{way} taken")
    check(kept.mode[0] not in "IF" or way in ("damaged", "hidden"), f"{kept.mode} taken")
    if way == "whole" and form in LOSSLESS and mode in ("L", "RGB"):
        right = np.asarray(shown.convert(mode)).reshape(6, 6, -1).transpose(2, 0, 1)
        check((found[0].numpy() == right).all(), "other pixels")


def _large(rng: random.Random) -> bytes:
    """A small file that says it is a large picture."""
    side = rng.choice((20_000, 60_000, 2**31 - 1))
    if rng.random() < 0.5:
        return b"P6 %d %d 255\n" % (side, side) + bytes(100)
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(10**6))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# ---------------------------------------------------------------------------------------------------------------------
# archives


def of_archives(rng: random.Random, good: Path) -> Iterator[Attack]:
    """the pixels that were put in, in the order of their names"""
    while True:
        seed = rng.randrange(10**9)
        yield Attack(f"archive {seed}", partial(_archive, seed))


def _archive(seed: int) -> None:
    rng = random.Random(seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    files = {
        f"{folder}/{index}.png": _png(image) for index, (folder, image) in enumerate(zip("aab", pixels, strict=True))
    }
    way = rng.choice(
        ("whole", "damaged", "damaged", "name", "link", "twice", "bomb", "nested", "special", "encrypted", "large")
    )
    if way == "name":
        name = rng.choice(
            ("../x.png", "/tmp/x.png", "a/../../x.png", "C:\\x.png", "a\nb.png", "\x1b[31m.png", "~/x.png")
        )
        files[name] = _png(pixels[0])
    elif way == "nested":
        files["c.png"] = _zip({"d.png": _png(pixels[0])})
    elif way == "large":
        files["c.png"] = _large(rng)
    zipped = way in ("encrypted",) or (way not in ("special",) and rng.random() < 0.5)
    content = _zip(files, way) if zipped else _tar(files, way, rng)
    if way == "damaged":
        content = damaged(content, rng)[1]
    path = Path(f"photos.{'zip' if zipped else 'tar'}")
    path.write_bytes(content)
    before = sorted(os.listdir(".."))
    found = data.load(path).pixels
    check(sorted(os.listdir()) == sorted(["photos" + path.suffix, "thesis.txt", ".notes.2026.md"]), "files were made")
    check(sorted(os.listdir("..")) == before, "files were made outside")
    check(way in ("whole", "damaged", "name"), f"{way} taken")
    right = {image.tobytes() for image in pixels}
    check(all(image.numpy().tobytes() in right for image in found[:, 0]), "other pixels")
    check(way != "whole" or (found[:, 0].numpy() == pixels).all(), "another order")


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _zip(files: dict[str, bytes], way: str = "") -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in files.items():
            archive.writestr(name, content)
        if way == "twice":
            archive.writestr(*next(iter(files.items())))
        elif way == "bomb":
            archive.writestr("z.png", bytes(3 * 10**8))
        elif way == "link":
            link = zipfile.ZipInfo("z.png")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
    content = bytearray(file.getvalue())
    if way == "encrypted":
        for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(magic) + place] |= 1
    return bytes(content)


def _tar(files: dict[str, bytes], way: str, rng: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w:gz" if way == "bomb" else rng.choice(("w", "w:gz", "w:xz", "w:bz2"))
    ) as archive:
        for name, content in [*files.items(), *([next(iter(files.items()))] if way == "twice" else [])]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if way in ("link", "special"):
            member = tarfile.TarInfo("z.png")
            kinds = (
                (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
                if way == "special"
                else (tarfile.SYMTYPE, tarfile.LNKTYPE)
            )
            member.type, member.linkname = rng.choice(kinds), rng.choice(("/etc/passwd", "a/0.png", "z.png"))
            archive.addfile(member)
        elif way == "bomb":
            member = tarfile.TarInfo("z.png")
            member.size = 3 * 10**8
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# arrays


def of_arrays(rng: random.Random, good: Path) -> Iterator[Attack]:
    """the images and labels that numpy reads"""
    while True:
        seed = rng.randrange(10**9)
        yield Attack(f"arrays {seed}", partial(_arrays, seed))


def _arrays(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    shape = rng.choice(
        (*[(5, 4, 4)] * 6, (5, 4, 4, 1), (5, 4, 4, 3), (5, 4, 4, 2), (5, 0, 4), (0, 4, 4), (5,), (1,) * 9, ())
    )
    kind = rng.choice((*["u1"] * 12, "i1", ">u2", "f4", "c8", "?", "O", "U3", "M8[s]", "V4"))
    images = numbers.integers(0, 256, shape, dtype=np.uint8)
    images = images.astype(kind) if kind not in ("V4",) else np.zeros(shape, kind)
    if rng.random() < 0.2:
        images = np.asfortranarray(images)
    count = shape[0] if shape else 1
    labels = rng.choice(
        (
            *[None] * 5,
            *[np.arange(count)] * 4,
            np.arange(count) * 1.0,
            -np.arange(count),
            np.arange(count + 1),
            np.full(count, 10**9),
        )
        + (np.full(count, np.nan), np.zeros((count, 1), int), np.array(["a"] * count), np.full(count, 2**63, "u8"))
    )
    arrays = {"images": images} | ({} if labels is None else {"labels": labels})
    file = io.BytesIO()
    rng.choice((np.savez, np.savez_compressed))(file, allow_pickle=True, **arrays)
    content, damage = file.getvalue(), rng.choice(("", "", "", "bytes", "member", "header", "bomb"))
    if damage == "header":
        content = _lying(images, rng)
    elif damage == "bomb":
        content = _zip({"images.npy": b"\x93NUMPY\x01\x00v\x00" + bytes(3 * 10**8)})
    name = rng.choice(("in.npz", "in.npz", "in.npz.xz"))
    packed = lzma.compress(content) if name.endswith("xz") else content
    if damage == "bytes":
        packed = damaged(packed, rng)[1]
    path = Path(name)
    path.write_bytes(packed)
    if damage == "member" and not name.endswith("xz"):
        _damage_member(path, rng)
    found = data.load(path)
    check(damage not in ("header", "bomb"), f"{damage} taken")
    check(found.pixels.dtype == torch.uint8 and found.pixels.ndim == 4, f"{found.pixels.dtype}")
    if not damage:
        check(kind == "u1" and len(shape) in (3, 4), f"{kind} {shape} taken")
        right = images.reshape(*shape[:3], -1).transpose(0, 3, 1, 2)
        same = found.pixels.shape == right.shape and (found.pixels.numpy() == right).all()
        check(same or (found.pixels.numpy() == images).all(), "other pixels")
        told = None if labels is None else labels.reshape(-1).tolist()
        check(told is None or (found.labels is not None and found.labels.tolist() == told), "other labels")


def _lying(images: np.ndarray, rng: random.Random) -> bytes:
    """An array whose header says something else than its bytes."""
    shape = rng.choice(((10**12,), (2**62, 4), (5, 4, 5), (-1, 4), (10**6, 10**6, 10**6), "x", (5, 4)))
    descr = rng.choice(("|u1", "|u1", "|O", "<f8", [("a", "|u1")], "__import__('os')"))
    header = repr({"descr": descr, "fortran_order": rng.choice((False, True, 3)), "shape": shape}).encode() + b"\n"
    return _zip({"images.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + images.tobytes()})


# ---------------------------------------------------------------------------------------------------------------------
# statistics


def of_statistics(rng: random.Random, good: Path) -> Iterator[Attack]:
    """mean and covariance that were written, of as many features and such as a distribution can have"""
    while True:
        seed = rng.randrange(10**9)
        yield Attack(f"statistics {seed}", partial(_statistics, seed, good))


def _statistics(seed: int, good: Path) -> None:
    rng, mean, covariance = random.Random(seed), np.arange(4.0), np.diag([1.0, 2.0, 3.0, 4.0])
    way = rng.choice(("bytes", "bytes", "nan", "negative", "asymmetric", "size", "kind", "missing", "whole", "scalar"))
    if way == "nan":
        (mean if rng.random() < 0.5 else covariance)[1] = rng.choice((np.nan, np.inf))
    elif way == "negative":
        covariance[2, 2] = -3.0
    elif way == "asymmetric":
        covariance[0, 3] = 2.5
    elif way == "size":
        mean, covariance = rng.choice(
            ((mean[:3], covariance), (mean, covariance[:3]), (mean[None], covariance), (np.zeros(0), covariance))
        )
    elif way == "kind":
        kind = rng.choice(("c16", "O", "U8", "?", "M8[s]"))
        mean, covariance = mean.astype(kind), covariance.astype(kind)
    elif way == "scalar":
        covariance = np.float64(1.0)  # type: ignore[assignment]
    file = io.BytesIO()
    arrays = {"mu": mean} if way == "missing" else {"mu": mean, "sigma": covariance}
    np.savez(file, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    content = damaged(file.getvalue(), rng)[1] if way == "bytes" else file.getvalue()
    Path("in.npz").write_bytes(content)
    found = load_moments("in.npz", _Numbers())  # type: ignore[arg-type]
    check(way in ("bytes", "whole"), f"{way} taken")
    check((found.mean == mean).all() and (found.covariance == covariance).all(), "other numbers")


# ---------------------------------------------------------------------------------------------------------------------
# plans


def of_plans(rng: random.Random, good: Path) -> Iterator[Attack]:
    """the program that the file says, which makes finite samples"""
    process, made = scoresde.VP(), []
    for name, options in (("ddim", {"eta": 0.5}), ("heun", {}), ("dpmpp_2m", {}), ("uni_pc", {}), ("dpmpp_sde", {})):
        solver = solvers.get(name, **options)
        grid = [0.99, 0.7, 0.4, 0.1, process.t_clean]
        plan = solver.plan(process, grid)  # type: ignore[attr-defined]
        plan.save(good.parent / "plan.json")
        made.append(read_json(good.parent / "plan.json"))
    (good.parent / "plan.json").unlink()
    model = scoresde.ScoreModel(lambda x, t: 0.3 * x, process)
    while True:
        seed = rng.randrange(10**9)
        yield Attack(f"plan {seed}", partial(_plan, seed, made, model))


def _plan(seed: int, made: list[Any], model: scoresde.ScoreModel) -> None:
    rng, path = random.Random(seed), Path("plan.json")
    way, content = rng.choice(("json", "json", "json", "json", "bytes", "text", "file")), rng.choice(made)
    if way == "json":
        for _ in range(rng.choice((1, 1, 2))):
            _, _, content = odd_json(content, rng)
    write_json(path, content)
    if way == "bytes":
        path.write_bytes(damaged(path.read_bytes(), rng)[1])
    elif way == "text":
        path.write_bytes(odd_text(rng)[1])
    elif way == "file":
        odd_file(path, rng)
    plan = Plan.load(path)
    said = read_json(path)
    plan.save("again.json")
    again = read_json(Path("again.json"))
    ours = {key: said[key] for key in again}
    check(
        json.dumps(ours, sort_keys=True) == json.dumps(again, sort_keys=True) or _same(ours, again), "another program"
    )
    check(len(str(plan)) > 0, "no text")
    result = scoresde.sample(model, plan, shape=(2, 1, 4, 4), seeds=0)
    check(result.samples.isfinite().all(), "samples that are not finite")


def _same(a: Any, b: Any) -> bool:
    """Equal, whole numbers equal to the same in floating point; nothing true or false is a number."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


KINDS: dict[str, tuple[int, Kind]] = {
    "pickles": (20, of_pickles),
    "model folders": (24, of_models),
    "folders of diffusers": (14, of_diffusers),
    "feature networks": (10, of_features),
    "TorchScript files": (10, of_scripts),
    "pictures": (24, of_pictures),
    "archives": (16, of_archives),
    "arrays": (16, of_arrays),
    "statistics": (10, of_statistics),
    "plans": (20, of_plans),
}
