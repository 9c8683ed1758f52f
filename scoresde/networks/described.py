"""Networks that files describe: compared with the tensors that lie beside the description before anything is built."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from scoresde.files import regular
from scoresde.files.bundled import CheckpointError

LARGEST_JSON = 2**24  # bytes
LONGEST = 64  # entries or letters of a setting
COUNTS = ("depth", "blocks")  # settings that say how many layers there are at each level
SMALL = 4096  # sizes that need no tensor of that size, such as the side of an image

Shape = tuple[int, ...]


def read_json(path: Path, infinities: bool = False) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: of the file.
        infinities: whether it may hold NaN and infinities, as schedulers' do.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, no object, or larger than any description of a model.
    """
    try:
        if regular(path).stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has more than {LARGEST_JSON:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=None if infinities else _no_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{str(path)!r} is damaged: it holds a {type(content).__name__}")
    return content


def _no_number(word: str) -> float:
    raise ValueError(f"it holds {word}")


def stored(path: Path) -> dict[str, Shape]:
    """Names and shapes of the tensors in a safetensors file, from its header.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged.
    """
    regular(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # of a damaged file anything may come
        raise CheckpointError(f"{str(path)!r} is damaged or not a safetensors file: {error}") from error


def built(
    make: Callable[[], nn.Module], options: Mapping[str, Any], shapes: Mapping[str, Shape], where: str, source: str
) -> nn.Module:
    """The network that a description asks for, if the tensors beside it are all of that network and no others.

    It is built without memory first, so that a description cannot ask for more than the tensors take.

    Args:
        make: builds it of ``options``.
        options: as they were described.
        shapes: of the tensors.
        where, source: names of the description and of the tensors, for errors.

    Raises:
        CheckpointError: a setting that cannot be meant, or tensors of another network (named).
    """
    check_options(options, shapes, where)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without values
            planned = make()
    except ImportError:
        raise
    except Exception as error:  # whatever odd settings lead to
        raise _undescribed(where, str(error) or type(error).__name__) from error
    compare({name: tuple(value.shape) for name, value in planned.state_dict().items()}, shapes, source)
    return make()


def check_options(options: Mapping[str, Any], shapes: Mapping[str, Shape], where: str) -> None:
    """Refuse settings that the stored tensors cannot explain.

    Raises:
        CheckpointError: names the setting, its value, and what the tensors say.
    """
    most = max((size for shape in shapes.values() for size in shape), default=0)
    levels = max((len(value) for value in options.values() if isinstance(value, (list, tuple))), default=1)
    for key, value in options.items():
        entries = value if isinstance(value, (list, tuple)) else [value]
        if len(entries) > LONGEST or not all(map(_is_plain, entries)):
            raise CheckpointError(
                f"{where} does not describe a model: {key} = {value!r:.60} is no setting of a network"
            )
        largest = max((abs(entry) for entry in entries if isinstance(entry, (int, float))), default=0)
        if largest > max(most, SMALL):
            raise CheckpointError(
                f"{where} does not describe a model: {key} = {largest} where no tensor is over {most}"
            )
        if key in COUNTS and largest * levels > len(shapes):
            raise _undescribed(where, f"{key} = {largest} at {levels} levels, and there are {len(shapes)} tensors")


def _undescribed(where: str, why: str) -> CheckpointError:
    return CheckpointError(f"{where} does not describe a model: {' '.join(why.split())}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, int) or isinstance(value, float) and math.isfinite(value)


def compare(expected: Mapping[str, Shape], found: Mapping[str, Shape], source: str) -> None:
    """Refuse tensors that are not all of a network, and no others.

    Raises:
        CheckpointError: one is missing, foreign or of another shape; ``source`` is where they came from.
    """
    lacking, foreign = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if lacking or foreign:
        told = [f"it {verb} {names[0]!r}" for verb, names in (("lacks", lacking), ("has", foreign)) if names]
        raise CheckpointError(f"{source!r} holds the weights of another network: {' and '.join(told)}")
    for name, needed in expected.items():
        if tuple(found[name]) != tuple(needed):
            raise CheckpointError(f"{source!r}: {name!r} has shape {tuple(found[name])}, the network needs {needed}")


def fill(net: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Give a network its weights, which must be all of them and no others.

    Raises:
        CheckpointError: a weight is missing, foreign, of another shape or not finite; ``source`` is where it came from.
    """
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    compare(expected, {name: tuple(value.shape) for name, value in weights.items()}, source)
    check_finite(weights, source)
    net.load_state_dict(weights)


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not finite.

    Raises:
        CheckpointError: names the first.
    """
    for name, value in weights.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{source!r}: {name!r} holds values that are not finite")
