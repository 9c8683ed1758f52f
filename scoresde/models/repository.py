"""Where the parts of a checkpoint of diffusers come from: objects, folders and hub repositories."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoresde.files import regular
from scoresde.models.denoisers import DENOISERS, LEGACY
from scoresde.models.described import CheckpointError, check_finite, read_json, stored
from scoresde.models.latents import known
from solvers.errors import nearest

INDEX = "model_index.json"
MOST_ENTRIES = 10_000  # of a setting; and values of it that need no weights, such as a number of timesteps
LAYERS = ("layers", "depth", "num_blocks", "num_res")  # in names of settings that say how many there are
NETWORKS, AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")


@dataclass
class Parts:
    """What a checkpoint is made of, under the name that errors give it."""

    name: str
    network: nn.Module
    scheduler: dict[str, Any]
    vae: nn.Module | None = None


def parts_of(source: Any, dtype: torch.dtype | None, revision: str | None) -> Parts:
    """The denoiser, the autoencoder if there is one, and the scheduler's configuration, of anything that has them.

    Raises:
        CheckpointError: they are not there, or of classes that are not known.
        ImportError: diffusers is not installed, and files are to be read.
    """
    if isinstance(source, nn.Module):
        return Parts(type(source).__name__, _cast(source, dtype), {})
    if hasattr(source, "components"):
        found = {key: value for key, value in source.components.items() if value is not None}
        network = _cast(found[_one(type(source).__name__, found, NETWORKS)], dtype)
        config = told(found["scheduler"]) if "scheduler" in found else {}
        vae = next((found[key] for key in AUTOENCODERS if key in found), None)
        if vae is not None:
            vae = _cast(vae, _precision(vae.config, dtype))
        return Parts(type(source).__name__, network, config, vae)
    return _read(str(source), dtype or torch.float32, revision)


def told(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler with its class, which only saved ones have in it; or a configuration itself."""
    if isinstance(scheduler, Mapping):
        return dict(scheduler)
    return {"_class_name": type(scheduler).__name__, **scheduler.config}


def _cast(network: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    return network if dtype is None else nn.Module.to(network, dtype)  # diffusers' own ``to`` warns at every cast


def _read(source: str, dtype: torch.dtype, revision: str | None) -> Parts:
    """The parts of a folder or hub repository that are needed, and no others."""
    files = _Files(str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source, revision)
    index = files.config(INDEX)
    if index is None:
        config = files.config("config.json")
        if config is None:
            raise CheckpointError(f"{source!r} is no checkpoint of diffusers: it has neither {INDEX} nor config.json")
        network = files.load(known_network(str(config.get("_class_name")), repr(source), LEGACY), None, dtype)
        return Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {})
    pairs = {key: value for key, value in index.items() if isinstance(value, (list, tuple)) and len(value) == 2}
    parts = {key: value for key, value in pairs.items() if value[1] is not None}
    chosen = _one(repr(source), parts, NETWORKS)
    network = files.load(known_network(str(parts[chosen][1]), repr(source), LEGACY), chosen, dtype)
    vae = None
    for key in AUTOENCODERS:
        if key in parts:
            config = files.config("config.json", key) or {}
            vae = files.load(known(str(parts[key][1])), key, _precision(config, dtype))
    return Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {}, vae)


class _Files:
    """A folder or hub repository; parts lie in folders of their names, or in old repositories beside each other."""

    def __init__(self, source: str, revision: str | None):
        try:
            import diffusers
        except ImportError as error:
            raise ImportError("checkpoints of diffusers need it: pip install diffusers") from error
        self.diffusers: Any = diffusers
        _check_files(Path(source))
        self.source, self.options = source, {} if revision is None else {"revision": revision}

    def config(self, name: str, folder: str | None = None) -> dict[str, Any] | None:
        """A JSON file of that name, None where there is none."""
        for subfolder in dict.fromkeys((folder, None)):
            kind = type("Reader", (self.diffusers.ConfigMixin,), {"config_name": name})
            try:
                found = kind.load_config(self.source, subfolder=subfolder, **self.options)
            except RecursionError as error:
                raise CheckpointError(f"{self.source!r}: {name} is nested without end") from error
            except (OSError, ValueError) as error:
                if not Path(self.source).is_dir() and "does not appear to have a file" not in str(error):
                    raise CheckpointError(f"{self.source!r} cannot be read: {error}") from error
                continue
            return dict(found)
        return None

    def load(self, kind: str, folder: str | None, dtype: torch.dtype | None) -> nn.Module:
        """The network of that class, with its weights."""
        version = tuple(int(part) for part in self.diffusers.__version__.split(".")[:2])
        options: dict[str, Any] = {"dtype" if version >= (0, 42) else "torch_dtype": dtype}
        options["low_cpu_mem_usage"] = importlib.util.find_spec("accelerate") is not None
        local = Path(self.source)
        inside = folder is not None and (not local.is_dir() or (local / folder).is_dir())
        if local.is_dir():
            place = local / folder if inside and folder is not None else local
            self._check(kind, place, self.config("config.json", folder if inside else None) or {})
        try:
            return self._load(kind, folder if inside else None, options)
        except OSError as error:
            if not inside or local.is_dir():
                raise CheckpointError(f"{self.source!r}: {_line(error)}") from error
        return self._load(kind, None, options)

    def _load(self, kind: str, folder: str | None, options: dict[str, Any]) -> nn.Module:
        try:
            network, found = getattr(self.diffusers, kind).from_pretrained(
                self.source, subfolder=folder, output_loading_info=True, **options, **self.options
            )
        except (OSError, ImportError):
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
        check_finite(
            {name: value for name, value in network.state_dict().items() if value.is_floating_point()}, self.source
        )
        return network.eval().requires_grad_(False)

    def _check(self, kind: str, place: Path, config: Mapping[str, Any]) -> None:
        """Refuse a configuration that asks for more than the weights beside it can explain, before it is followed.

        Raises:
            CheckpointError: names the setting.
        """
        shapes = [shape for path in place.glob("*.safetensors") for shape in stored(path).values()]
        if not shapes:
            return  # in older files, which are read whole
        held, where = sum(map(math.prod, shapes)), f"{str(place / 'config.json')!r}"
        for name, value in config.items():
            entries = list(_flat(value))
            if len(entries) > MOST_ENTRIES:
                raise CheckpointError(f"{where}: {name} has more than {MOST_ENTRIES} entries")
            layers = any(word in name for word in LAYERS)
            most = len(shapes) if layers else max(held, MOST_ENTRIES)
            if any(isinstance(entry, (int, float)) and not abs(entry) <= most for entry in entries):
                of = f"{len(shapes)} tensors" if layers else f"{held:,} values"
                raise CheckpointError(f"{where}: {name} = {value!r:.60}, and the weights are {of}")
        try:
            with torch.device("meta"):
                planned = getattr(self.diffusers, kind).from_config({**config})
        except Exception as error:  # whatever odd settings lead to
            raise CheckpointError(
                f"{where} does not describe a model: {_line(error) or type(error).__name__}"
            ) from error
        asked = sum(value.numel() for value in planned.state_dict().values())
        if asked > 2 * held + MOST_ENTRIES:
            raise CheckpointError(f"{where} describes a network of {asked:,} values, and the weights are {held:,}")


def _flat(value: Any, depth: int = 0) -> Iterator[Any]:
    """The entries of nested lists."""
    if isinstance(value, (list, tuple)) and depth < 8:
        for entry in value:
            yield from _flat(entry, depth + 1)
    else:
        yield value


def _check_files(folder: Path) -> None:
    """Refuse what would be waited for or lead elsewhere, among the files of a folder that are read.

    Raises:
        CheckpointError: names it.
    """
    if not folder.is_dir():
        return
    for place in (folder, *(folder / name for name in (*NETWORKS, *AUTOENCODERS, "scheduler"))):
        for path in place.iterdir() if place.is_dir() else ():
            if path.suffix not in (".json", ".safetensors", ".bin") or not path.exists():
                continue
            try:
                regular(path)
            except ValueError as error:
                raise CheckpointError(str(error)) from error
            if path.suffix != ".json":
                continue
            content = read_json(path)
            parts = content.get("weight_map", {}) if path.name.endswith(".index.json") else {}
            for name in parts.values() if isinstance(parts, dict) else ():
                if not isinstance(name, str) or name != Path(name).name:
                    raise CheckpointError(f"{str(path)!r} leads to {name!r:.60}, which is not a file beside it")


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
