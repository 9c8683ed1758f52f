"""Where the parts of a checkpoint of diffusers come from: objects, folders and hub repositories."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import re
import tarfile
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from scoresde.files import check_unpacked, regular
from scoresde.files.bundled import CheckpointError
from scoresde.files.pickles import Call, Interpreter, Meaning, Name, PickleError, Reference
from scoresde.integrations.diffusers.denoisers import DENOISERS, LEGACY, class_of
from scoresde.integrations.diffusers.latents import known
from scoresde.networks.described import Shape, check_finite, read_json, stored
from solvers.errors import nearest

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
HELD = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5")
FREE = 10_000  # values of a setting that need no weights, such as a number of timesteps
LARGEST_AREA = 2**20  # of states, which need no weights, but positions of each
LAYERS = ("layers", "depth", "num_blocks", "num_res")  # in names of settings that say how many there are
SIDES = ("sample_size", "max_size")  # in names of settings that say how large states are
# What weights may be: no complex numbers, and none of 8 bits, which mean nothing without their scales.
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32)
# Errors of huggingface_hub without a way to the hub; it is there where they are.
OFFLINE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError")
NETWORKS, AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")
ENCODERS, TOKENIZERS = (tuple(f"{part}{of}" for of in ("", "_2", "_3")) for part in ("text_encoder", "tokenizer"))
ENCODER_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
TOKENIZER_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
ELSEWHERE = ("auto_map", "attn_implementation", "_attn_implementation")  # settings that name code in other places
ADAPTER = "adapter_config.json"  # beside a text encoder: leads to weights in other places


@dataclass(frozen=True)
class Library:
    """Whose class a part is of, and what its files of weights are called.

    Attributes:
        name: of its module.
        safetensors, pickles: names of files without their suffix.
    """

    name: str
    safetensors: str
    pickles: str

    @property
    def stems(self) -> tuple[tuple[str, str], ...]:
        """Suffixes, with the names before them."""
        return (".safetensors", self.safetensors), (".bin", self.pickles)

    def variant_of(self, name: str) -> str | None:
        """The variant of a file of weights, whole or in parts, or of their index; "" for none, None for other files."""
        stem = f"(?:{self.safetensors}|{self.pickles})"
        parts = stem + r"(?:\.(\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)"
        found = re.fullmatch(parts + "|" + stem + r"\.(?:safetensors|bin)\.index(?:\.(\w+))?\.json", name)
        return None if found is None else found[1] or found[2] or ""


DIFFUSERS = Library("diffusers", WEIGHTS, WEIGHTS)
TRANSFORMERS = Library("transformers", "model", "pytorch_model")


@dataclass
class Parts:
    """What a checkpoint is made of, under the name that errors give it."""

    name: str
    network: nn.Module
    scheduler: dict[str, Any]
    vae: nn.Module | None = None
    read: bool = False  # from files


def parts_of(source: Any, dtype: torch.dtype | None, revision: str | None, variant: str | None) -> Parts:
    """The denoiser, the autoencoder if there is one, and the scheduler's configuration, of anything that has them.

    Raises:
        CheckpointError: they are not there, or of classes that are not known.
        ImportError: diffusers is not installed, and files are to be read.
    """
    if isinstance(source, nn.Module):
        return Parts(class_of(source), _cast(source, dtype), {})
    if hasattr(source, "components"):
        found = {key: value for key, value in source.components.items() if value is not None}
        network = _cast(found[_one(type(source).__name__, found, NETWORKS)], dtype)
        config = told(found["scheduler"]) if "scheduler" in found else {}
        vae = next((found[key] for key in AUTOENCODERS if key in found), None)
        if vae is not None:
            vae = _cast(vae, _precision(vae.config, dtype))
        return Parts(type(source).__name__, network, config, vae)
    return _read(str(source), dtype or torch.float32, revision, variant)


@dataclass
class Pipeline(Parts):
    """Those of a pipeline, with its text encoders and tokenizers, by their names in it.

    Attributes:
        texts: None for one that the pipeline does without.
    """

    texts: dict[str, Any] = field(default_factory=dict)


class Source:
    """The folder or hub repository of a pipeline, of which nothing but its index is read yet.

    Raises:
        CheckpointError: there is none, or it is no pipeline.
        ImportError: diffusers is not installed.
    """

    def __init__(self, source: str, revision: str | None = None, variant: str | None = None):
        self.files = _files(source, revision, variant)
        self.name = repr(source)
        index = self.files.config(INDEX)
        if index is None:
            raise CheckpointError(f"{source!r} is no pipeline of diffusers: it has no {INDEX}")
        self.kind = str(index.get("_class_name"))
        self.parts = _named(index)

    @property
    def made(self) -> Any:
        """The pipeline's class, which must be known to be one of diffusers."""
        with quiet():
            return getattr(self.files.diffusers, self.kind)

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; empty where there is none."""
        return self.files.config("config.json", part) or {} if part in self.parts else {}

    def pipeline(self, dtype: torch.dtype) -> Pipeline:
        """All parts but those that make no image: checkers and encoders of images.

        Raises:
            CheckpointError: they are not there, damaged, or of classes that are not known.
        """
        chosen = _one(self.name, self.parts, NETWORKS)
        kind = {key: str(value[1]) for key, value in self.parts.items()}
        for key in (*ENCODERS, *TOKENIZERS):  # all classes before any weights
            classes = ENCODER_CLASSES if key in ENCODERS else TOKENIZER_CLASSES
            if key in kind and kind[key] not in classes:
                raise CheckpointError(
                    f"the {key} of {self.name} is {kind[key]!r:.60}, and those known are {', '.join(classes)}"
                )
        texts: dict[str, Any] = dict.fromkeys((*ENCODERS, *TOKENIZERS))
        texts |= {key: self.files.tokenizer(kind[key], key) for key in TOKENIZERS if key in kind}
        texts |= {key: self.files.load(kind[key], key, dtype, TRANSFORMERS) for key in ENCODERS if key in kind}
        vae = next((key for key in AUTOENCODERS if key in kind), None)
        return Pipeline(
            name=self.name,
            network=self.files.load(known_network(kind[chosen], self.name, LEGACY), chosen, dtype),
            scheduler=self.files.config("scheduler_config.json", "scheduler") or {},
            vae=None if vae is None else self.files.load(known(kind[vae]), vae, _precision(self.config(vae), dtype)),
            read=True,
            texts=texts,
        )


def clip(folder: Path) -> tuple[nn.Module, Any]:
    """A CLIP of transformers and its tokenizer, from a folder.

    Raises:
        CheckpointError: it is damaged, or something else.
        ImportError: diffusers or transformers is not installed.
    """
    files = _Files(str(folder), None, None)
    return files.load("CLIPModel", None, torch.float32, TRANSFORMERS), files.tokenizer("CLIPTokenizer", None)


def _named(index: Mapping[str, Any]) -> dict[str, Any]:
    """Parts that an index has, each with its library and class."""
    pairs = {key: value for key, value in index.items() if isinstance(value, (list, tuple)) and len(value) == 2}
    return {key: value for key, value in pairs.items() if value[1] is not None}


def told(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler with its class, which only saved ones have in it; or a configuration itself."""
    if isinstance(scheduler, Mapping):
        return dict(scheduler)
    return {"_class_name": type(scheduler).__name__, **scheduler.config}


def _cast(network: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    return network if dtype is None else nn.Module.to(network, dtype)  # diffusers' own ``to`` warns at every cast


def _read(source: str, dtype: torch.dtype, revision: str | None, variant: str | None) -> Parts:
    """The parts of a folder or hub repository that are needed, and no others."""
    files = _files(source, revision, variant)
    index = files.config(INDEX)
    if index is None:
        config = files.config("config.json")
        if config is None:
            raise CheckpointError(f"{source!r} is no checkpoint of diffusers: it has neither {INDEX} nor config.json")
        network = files.load(known_network(str(config.get("_class_name")), repr(source), LEGACY), None, dtype)
        return Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {}, read=True)
    parts = _named(index)
    chosen = _one(repr(source), parts, NETWORKS)
    network = files.load(known_network(str(parts[chosen][1]), repr(source), LEGACY), chosen, dtype)
    vae = None
    for key in AUTOENCODERS:
        if key in parts:
            config = files.config("config.json", key) or {}
            vae = files.load(known(str(parts[key][1])), key, _precision(config, dtype))
    return Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {}, vae, read=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _files(source: str, revision: str | None, variant: str | None) -> _Files:
    folder = Path(source).expanduser()
    return _Files(str(folder) if folder.is_dir() else source, revision, variant)


class _Files:
    """A folder or hub repository; parts lie in folders of their names, or in old repositories beside each other."""

    def __init__(self, source: str, revision: str | None, variant: str | None):
        try:
            import diffusers
        except ImportError as error:
            raise ImportError("checkpoints of diffusers need it: install scoresde[diffusers]") from error
        self.diffusers: Any = diffusers
        self.local = Path(source) if Path(source).is_dir() else None
        if self.local is not None:
            _check_files(self.local)
        self.source, self.options = source, {} if revision is None else {"revision": revision}
        self.variant = variant

    def config(self, name: str, folder: str | None = None) -> dict[str, Any] | None:
        """A JSON file of that name, None where there is none."""
        for subfolder in dict.fromkeys((folder, None)):
            if self.local is not None:
                if (path := self.local / (subfolder or "") / name).is_file():
                    return _json(path)
                continue
            kind = type("Reader", (self.diffusers.ConfigMixin,), {"config_name": name})
            try:
                found = kind.load_config(self.source, subfolder=subfolder, **self.options)
            except RecursionError as error:
                raise CheckpointError(f"{self.source!r}: {name} is nested without end") from error
            except (OSError, ValueError) as error:
                if any(type(each).__name__ in OFFLINE for each in _chain(error)):
                    raise CheckpointError(
                        f"{self.source!r} is neither a folder nor in the cache of the hub, and the hub cannot be "
                        "reached from here"
                    ) from error
                if "does not appear to have a file" not in str(error):
                    raise CheckpointError(f"{self.source!r} cannot be read: {_line(error)}") from error
                continue
            return dict(found)
        return None

    def module(self, library: Library) -> Any:
        """The module that a part's class is in.

        Raises:
            ImportError: it is not installed.
        """
        if library is DIFFUSERS:
            return self.diffusers
        try:
            return importlib.import_module(library.name)
        except ImportError as error:
            raise ImportError("text encoders of pipelines need transformers: install scoresde[diffusers]") from error

    def tokenizer(self, kind: str, folder: str | None) -> Any:
        """The tokenizer of that class.

        Raises:
            CheckpointError: it is not there, or damaged.
        """
        made = getattr(self.module(TRANSFORMERS), kind)
        where, options = self.source, {"subfolder": folder or "", **self.options}
        if self.local is not None:
            where, options = str(self.local / (folder or "")), {"local_files_only": True}
            if not Path(where).is_dir():
                raise CheckpointError(f"{self.source!r} has no {folder}, which its {INDEX} names")
        try:
            return made.from_pretrained(where, trust_remote_code=False, **options)
        except ImportError:
            raise
        except Exception as error:  # of damaged files anything may come
            raise CheckpointError(
                f"{folder or 'the tokenizer'} of {self.source!r}: {_line(error) or type(error).__name__}"
            ) from error

    def load(self, kind: str, folder: str | None, dtype: torch.dtype | None, library: Library = DIFFUSERS) -> nn.Module:
        """The network of that class, with its weights."""
        module = self.module(library)
        version = tuple(int(part) for part in module.__version__.split(".")[:2])
        renamed = {"diffusers": (0, 42), "transformers": (4, 56)}
        options: dict[str, Any] = {"dtype" if version >= renamed[library.name] else "torch_dtype": dtype}
        if library is DIFFUSERS:
            options["low_cpu_mem_usage"] = importlib.util.find_spec("accelerate") is not None
        if self.local is not None:
            place = self.local / folder if folder is not None and (self.local / folder).is_dir() else self.local
            # What was looked at is read, and nothing else: diffusers would take files of the folder above before these.
            in_pickles, variant = self._check(kind, place, library)
            options |= {"use_safetensors": not in_pickles, "variant": variant}
            if library is TRANSFORMERS:
                config = _json(place / "config.json") if (place / "config.json").is_file() else {}
                options |= {"config": _configured(getattr(module, kind), config), "local_files_only": True}
            return self._load(kind, str(place), None, options, library)
        if library is TRANSFORMERS:
            options["config"] = _configured(getattr(module, kind), self.config("config.json", folder) or {})
        # Old repositories have their files beside each other, and some half precision alone.
        tries = [(folder, self.variant), (None, self.variant), *([] if self.variant else [(folder, "fp16")])]
        failure: CheckpointError | None = None
        for where, variant in dict.fromkeys(tries):
            try:
                return self._load(kind, self.source, where, {**options, "variant": variant}, library)
            except CheckpointError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                failure = failure or error
        assert failure is not None
        raise failure

    def _load(self, kind: str, place: str, folder: str | None, options: dict[str, Any], library: Library) -> nn.Module:
        inner = {} if folder is None else {"subfolder": folder}
        module = self.module(library)
        try:
            with _without_bars(module) if library is TRANSFORMERS else nullcontext():
                network, found = getattr(module, kind).from_pretrained(
                    place, output_loading_info=True, **inner, **options, **self.options
                )
        except ImportError:
            raise
        except Exception as error:  # of damaged files anything may come
            raise CheckpointError(f"{self.source!r}: {_line(error) or type(error).__name__}") from error
        # Where one is missing, diffusers leaves random numbers.
        for key, verb in (
            ("missing_keys", "lacks"),
            ("mismatched_keys", "has another shape of"),
            ("unexpected_keys", "has"),
        ):
            if names := sorted(str(name) for name in found.get(key) or ()):
                raise CheckpointError(
                    f"{self.source!r} holds the weights of another network: {kind} {verb} {names[0]!r}"
                )
        weights = network.state_dict()
        for name, value in weights.items():
            if value.dtype not in NUMBERS:
                raise CheckpointError(
                    f"{self.source!r}: {name!r} holds {value.dtype}, and weights are real numbers of 16 bits or more"
                )
        check_finite(weights, self.source)
        return network.eval().requires_grad_(False)

    def _check(self, kind: str, place: Path, library: Library) -> tuple[bool, str | None]:
        """Refuse a configuration that asks for more than the weights beside it can explain, before it is followed.

        Returns:
            Whether the weights are pickled, and their variant.

        Raises:
            CheckpointError: names the setting.
        """
        config = _json(place / "config.json") if (place / "config.json").is_file() else {}
        if library is TRANSFORMERS and (place / ADAPTER).exists():
            raise CheckpointError(f"{str(place)!r} holds {ADAPTER}: text encoders are read whole, without adapters")
        variant = _variant(place, self.variant, library)
        shapes, in_pickles = _weights(place, variant, library)
        held, where = sum(map(math.prod, shapes.values())), f"{str(place / 'config.json')!r}"
        if config.get("quantization_config") is not None:
            raise CheckpointError(f"{where} has a quantization_config: only weights that are numbers are read")
        for name, value in config.items():
            _check_setting(where, name, value, len(shapes), held)
        try:
            with _parts_for(len(shapes)), torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of layers without values
                made = getattr(self.module(library), kind)
                planned = made.from_config({**config}) if library is DIFFUSERS else made(_configured(made, config))
        except Exception as error:  # whatever odd settings lead to
            raise CheckpointError(
                f"{where} does not describe a model: {_line(error) or type(error).__name__}"
            ) from error
        asked = sum(value.numel() for value in (*planned.parameters(), *planned.buffers()))
        if asked > 2 * held + 16 * LARGEST_AREA:
            raise CheckpointError(f"{where} describes a network of {asked:,} values, and the weights are {held:,}")
        return in_pickles, variant


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings in logs, of which transformers writes some for whatever is imported beside what was asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """No progress bar of transformers, which shows one at every file."""
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _configured(kind: Any, config: Mapping[str, Any]) -> Any:
    """The configuration of a class of transformers, without settings that lead to code elsewhere."""
    return kind.config_class.from_dict({key: value for key, value in config.items() if key not in ELSEWHERE})


def _check_setting(where: str, name: str, value: Any, tensors: int, held: int) -> None:
    """Refuse a setting that so many tensors, of so many values, cannot explain.

    Raises:
        CheckpointError: names it.
    """
    entries = list(_flat(value))
    if len(entries) > max(tensors, 64):
        raise CheckpointError(f"{where}: {name} has {len(entries)} entries, and the weights are {tensors} tensors")
    numbers = [entry for entry in entries if isinstance(entry, (int, float))]
    if any(word in name for word in LAYERS):
        most, of = tensors, f"{tensors} tensors"
    elif any(word in name for word in SIDES):
        most, of = math.isqrt(max(held, LARGEST_AREA)), f"{held:,} values"
    else:
        most, of = max(held, FREE), f"{held:,} values"
    if not all(abs(number) <= most for number in numbers):
        raise CheckpointError(f"{where}: {name} = {value!r:.60}, and the weights are {of}")


def _flat(value: Any, depth: int = 0) -> Iterator[Any]:
    """The entries of nested lists and mappings."""
    if isinstance(value, (list, tuple, dict)) and depth < 8:
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _flat(entry, depth + 1)
    else:
        yield value


@contextmanager
def _parts_for(tensors: int) -> Iterator[None]:
    """Stop a network from being planned that has many more parts than there are tensors for it.

    Within the block, building one raises ValueError as soon as that is so.
    """
    left = Counter(parameters=2 * tensors + 64, modules=20 * tensors + 1000)
    thread = threading.get_ident()

    def counter(what: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            left[what] -= threading.get_ident() == thread
            if left[what] < 0:
                raise ValueError(f"it has many more {what} than the {tensors} tensors of its weights")

        return count

    hooks = (
        registration.register_module_parameter_registration_hook(counter("parameters")),
        registration.register_module_module_registration_hook(counter("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# ---------------------------------------------------------------------------------------------------------------------
# what lies in a folder


def _variant(place: Path, wanted: str | None, library: Library) -> str | None:
    """The variant of the weights in a folder that is to be read: the wanted one, or the only one there is.

    Raises:
        CheckpointError: it is not there, or there are several; names those that are.
    """
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    found = {variant for name in names if (variant := library.variant_of(name)) is not None}
    if wanted is None and ("" in found or not found):
        return None
    if wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found.pop()
    there = ", ".join(sorted(name for name in names if library.variant_of(name) is not None)) or "none"
    which = "several variants" if wanted is None else f"no weights of the variant {wanted!r}"
    known = ", ".join(repr(name or None) for name in sorted(found))
    raise CheckpointError(f"{str(place)!r} holds {which}: it has {there}; give variant={known}")


def _weights(place: Path, variant: str | None, library: Library) -> tuple[dict[str, Shape], bool]:
    """Names and shapes of the tensors that diffusers reads from a folder, and whether they are pickled.

    Raises:
        CheckpointError: there are none, or a file of them is damaged.
    """
    of = "" if variant is None else f".{variant}"
    for (suffix, stem), shapes_of in zip(library.stems, (stored, pickled), strict=True):
        index = place / f"{stem}{suffix}.index{of}.json"
        paths = [place / f"{stem}{of}{suffix}"]
        if index.is_file():
            parts = _json(index).get("weight_map")
            if not isinstance(parts, dict) or not parts:
                raise CheckpointError(f"{str(index)!r} is damaged: it has no weight_map")
            paths = [place / str(name) for name in sorted(set(map(str, parts.values())))]
            for path in paths:
                if path.suffix != suffix or not path.exists():
                    raise CheckpointError(f"{str(index)!r} leads to {path.name!r:.60}, and there is no such file")
        if paths[0].exists():
            return {name: shape for path in paths for name, shape in shapes_of(path).items()}, suffix == ".bin"
    others = sorted(path.name for path in place.iterdir() if path.suffix in HELD) if place.is_dir() else []
    has = f"; it has {', '.join(others[:8])}" if others else ""
    neither = " nor ".join(f"{stem}{suffix}" for suffix, stem in library.stems)
    raise CheckpointError(f"{str(place)!r} holds neither {neither}{has}")


def pickled(path: Path) -> dict[str, Shape]:
    """Names and shapes of the tensors in a file of ``torch.save``, from its pickle, which is read as data.

    Raises:
        CheckpointError: it is damaged, or holds something else than tensors by name; then torch must not read it.
    """
    try:
        size = regular(path).stat().st_size
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\3\4"
            file.seek(0)
            reader = Interpreter(_TENSORS, _no_meaning, size)
            if zipped:
                with zipfile.ZipFile(file) as archive:
                    found = _of_archive(archive, reader)
            elif tarfile.is_tarfile(path):
                raise PickleError("is a tar, as torch wrote before 2017")
            else:  # as torch wrote before 1.6: what it is, the protocol, the system, the tensors, their keys
                found = [reader.parse(file, size) for _ in range(5)][3]
            content = reader.value(found)
    except (PickleError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} {error}") from error
    except Exception as error:  # of a damaged file anything may come
        raise CheckpointError(f"{str(path)!r} is damaged: {_line(error) or type(error).__name__}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, _Shaped) for name, value in content.items()
    ):
        raise CheckpointError(f"{str(path)!r} holds something else than tensors by name")
    return {name: value.shape for name, value in content.items()}


def _of_archive(archive: zipfile.ZipFile, reader: Interpreter) -> Any:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(set(names)) != len(names) or len(pickles) != 1:
        raise PickleError("is damaged: a file of torch holds one data.pkl, and each of its parts once")
    check_unpacked(repr(pickles[0].filename), pickles[0].compress_size, pickles[0].file_size)
    with archive.open(pickles[0]) as part:
        return reader.parse(part, pickles[0].file_size)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Shaped:
    """A tensor of which only the shape was read."""

    shape: Shape


def _rebuilt(reader: Interpreter, call: Call) -> _Shaped:
    storage, _offset, sizes, *_more = [*call.arguments, *4 * [None]]
    changed = call.state or call.items or call.elements
    if len(call.arguments) < 4 or type(storage) is not Reference or type(sizes) is not tuple or changed:
        raise PickleError("holds a tensor without its storage or shape")
    if not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
        raise PickleError("holds a tensor whose shape is none")
    reader.spend(math.prod(sizes))  # a tensor may be one value repeated, which would be copied as often
    return _Shaped(sizes)


def _parameter(reader: Interpreter, call: Call) -> _Shaped:
    value, *_ = reader.arguments(call, 1, 3)
    if type(value) is not _Shaped:
        raise PickleError("holds a parameter that is no tensor")
    return value


def _ordered(reader: Interpreter, call: Call) -> dict[Any, Any]:
    reader.arguments(call, 0, 0, "items", "state")
    return {key: reader.value(value) for key, value in call.items}


def _no_meaning(name: Name) -> Meaning:
    raise PickleError(f"holds {name}, and weights are tensors alone")


_TENSORS: dict[tuple[str, str], Meaning] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _ordered,
}


def _check_files(folder: Path) -> None:
    """Refuse what would be waited for or lead elsewhere, among the files of a folder that are read.

    Raises:
        CheckpointError: names it.
    """
    parts = (*NETWORKS, *AUTOENCODERS, *ENCODERS, *TOKENIZERS, "scheduler")
    for place in (folder, *(folder / name for name in parts)):
        for path in place.iterdir() if place.is_dir() else ():
            if path.suffix not in (".json", ".safetensors", ".bin", ".txt", ".model") or not path.exists():
                continue
            try:
                regular(path)
            except ValueError as error:
                raise CheckpointError(str(error)) from error
            if path.suffix == ".json":
                _json(path)


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, which in schedulers' may hold -Infinity; an index leads to files beside it alone.

    Raises:
        CheckpointError: names it.
    """
    content = read_json(path, infinities=True)
    parts = content.get("weight_map", {}) if path.name.endswith(".index.json") else {}
    for name in parts.values() if isinstance(parts, dict) else ():
        if not isinstance(name, str) or name != Path(name).name:
            raise CheckpointError(f"{str(path)!r} leads to {name!r:.60}, which is not a file beside it")
    return content


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def known_network(name: str, where: str, *more: str) -> str:
    """The class of a network itself, if there is something to be made of it."""
    if name not in (*DENOISERS, *more):
        raise CheckpointError(f"the network {name!r} of {where} is not known{nearest(name, DENOISERS)}")
    return name


def _one(name: str, parts: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    found = [key for key in keys if key in parts]
    if len(found) != 1:
        raise CheckpointError(f"{name} needs one of {', '.join(keys)}; it has {', '.join(sorted(parts))}")
    return found[0]


def _precision(config: Mapping[str, Any], dtype: torch.dtype | None) -> torch.dtype | None:
    return torch.float32 if config.get("force_upcast") and dtype == torch.float16 else dtype
