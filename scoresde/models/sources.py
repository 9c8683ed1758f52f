"""Models from wherever they are: the bundled one, our folders, checkpoints of diffusers, and exact ones by name."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from scoresde.exact import DENSITIES, GaussianMixture
from scoresde.files import digest, digest_of
from scoresde.files.bundled import CONFIG, WEIGHTS, bundled
from scoresde.files.bundled import find as folder_of
from scoresde.integrations.diffusers.loading import from_diffusers
from scoresde.integrations.diffusers.repository import quiet
from scoresde.models.folders import read
from scoresde.networks.checkpoint import Checkpoint
from scoresde.networks.described import CheckpointError, read_json
from scoresde.process import VP
from scoresde.tuned import FILE

DIFFUSERS = "diffusers:"
Place: TypeAlias = str | Path | Mapping[str, Any]


def load(
    name_or_folder: Place,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    shape: Sequence[int] | None = None,
    variant: str | None = None,
    prompts: str | Sequence[str] | None = None,
    negative: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Checkpoint:
    """Read a bundled model by its name, a model folder, or a checkpoint of diffusers; or make an exact model.

    Args:
        name_or_folder: a name such as ``"mnist"``; a folder with ``config.json`` and ``model.safetensors``; a folder of
            diffusers; ``diffusers:`` before a folder or a hub id, see :func:`scoresde.models.from_diffusers`; or the
            name of a density of :mod:`scoresde.exact`, with options ``{"name": "ring", "modes": 12}``: a model of
            points on VP, whose score is exact.
        device: where the network goes.
        dtype: precision of the network; weights stored in bfloat16 are converted.
        shape, variant: of a checkpoint of diffusers, see :func:`scoresde.models.from_diffusers`.
        prompts, negative, height, width: of a pipeline of text, see
            :func:`scoresde.integrations.diffusers.from_pipeline`: the model has a class for each prompt.

    Raises:
        CheckpointError: nothing there, or a foreign, truncated, corrupt or mismatched file; prompts for a model that
            takes none.
        ValueError, TypeError: prompts or sizes that the pipeline does not take; an exact model's option that it does
            not have, or out of range; a density of a plugin that is no mixture.
    """
    density, source = exact(name_or_folder), foreign(name_or_folder)
    if prompts is not None:
        if source is None:
            if density is None:
                find(name_or_folder)
            name = str(name_or_folder) if density is None else density["name"]
            raise CheckpointError(f"{name!r} is no pipeline of diffusers, and so takes no prompt")
        options = {"negative": negative, "height": height, "width": width, "variant": variant}
        found = _prompted().from_pipeline(source, prompts, device=device, dtype=dtype, **options)
    elif density is not None:
        model = DENSITIES.get(process=VP(), **density)
        if not isinstance(model, GaussianMixture):
            name, kind = density["name"], type(model).__name__
            raise TypeError(f"the density {name!r} must give a scoresde.exact.GaussianMixture, got {kind}")
        return Checkpoint(model, tuple(model.shape), 0, density)
    elif source is not None:
        states = None if shape is None else tuple(shape)
        found = from_diffusers(source, device=device, dtype=dtype, shape=states, variant=variant)  # type: ignore[arg-type]
    else:
        found = read(find(name_or_folder), device, dtype)
    found.model.tuned = beside(name_or_folder)
    return found


def exact(place: Place) -> dict[str, Any] | None:
    """Name and options of the exact model that is meant; None for a model in files."""
    if isinstance(place, Mapping):
        return dict(place)
    return {"name": place} if place in DENSITIES and place not in bundled() else None


def of_text(name_or_folder: Place) -> str | None:
    """The class of a pipeline that takes prompts; None for every other model."""
    source = foreign(name_or_folder)
    return None if source is None else _prompted().of_text(source)


def _prompted() -> Any:
    """Pipelines of diffusers, which is loaded for them alone.

    Raises:
        ImportError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module("scoresde.integrations.diffusers.prompted")
    except ModuleNotFoundError as error:
        raise ImportError(f"checkpoints of diffusers need it: install scoresde[diffusers] ({error})") from error


def fingerprint(name_or_folder: Place) -> str:
    """SHA-256 over the files of a model, which tells a retrained model from the one that was there before.

    Of a hub id, over its name and its newest commit, since the files do not lie here; of an exact model, over its name
    and options.
    """
    if (density := exact(name_or_folder)) is not None:
        return digest_of([json.dumps(density, sort_keys=True)])
    source = foreign(name_or_folder)
    if source is None:
        folder = find(name_or_folder)
        paths = [folder / CONFIG, folder / WEIGHTS]
    elif (folder := Path(source).expanduser()).is_dir():
        texts = of_text(name_or_folder) is not None  # whose tokenizers are in these files too
        suffixes = (".json", ".safetensors", ".bin", *((".txt", ".model") if texts else ()))
        paths = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    else:
        from huggingface_hub import model_info

        return digest_of([f"{source}@{model_info(source).sha}"])
    return digest(*paths)


def beside(name_or_folder: Place) -> str | None:
    """Path of the solver that was tuned to a model and lies in its folder; None where there is none."""
    if exact(name_or_folder) is not None:
        return None
    folder = home(name_or_folder)
    return str(folder / FILE) if folder is not None and (folder / FILE).is_file() else None


def home(name_or_folder: Place) -> Path | None:
    """The folder that a model lies in, ours or of diffusers; None for a hub id, whose files do not lie here.

    Raises:
        CheckpointError: it is none of these.
    """
    source = foreign(name_or_folder)
    if source is None:
        return find(name_or_folder)
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else None


def foreign(name_or_folder: Place) -> str | None:
    """The folder or hub id of a checkpoint of diffusers, None for a model of our own.

    That is what follows ``diffusers:``, or a folder whose ``model_index.json`` or ``config.json`` names a class.
    """
    if isinstance(name_or_folder, Mapping):
        return None
    name = str(name_or_folder)
    if name.startswith(DIFFUSERS):
        return name.removeprefix(DIFFUSERS)
    folder = Path(name_or_folder).expanduser()
    if name in bundled() or not folder.is_dir():
        return None
    if (folder / "model_index.json").is_file():
        return name
    try:
        return name if "_class_name" in read_json(folder / CONFIG) else None
    except (OSError, ValueError):
        return None


def find(name_or_folder: Place) -> Path:
    """The folder of a bundled model's name, or the given folder.

    Raises:
        CheckpointError: it is neither (the nearest name is given), or a file; an exact model, which has none.
    """
    if isinstance(name_or_folder, Mapping):
        raise CheckpointError(f"the exact model {name_or_folder.get('name')!r} has no folder")
    return folder_of(name_or_folder, DENSITIES)
