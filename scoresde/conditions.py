"""What networks are given beside state and time: the parts of a batch, with and without what guides, both as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCALE = "guidance_scale"  # the condition by which a model that is guided over a range of scales is given each sample's


def replaced(cond: Mapping[str, Any], by: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The condition with some of its values, nested too, replaced by those without guidance.

    A number takes the place of a tensor at every sample; so does a tensor of one sample, of shape (1, …).

    Raises:
        ValueError: the condition has no such value, a tensor is not of one sample, or a value is none of the dtype that
            it would have.
    """
    result = dict(cond)
    for key, value in by.items():
        name = f"{path}{key}"
        if cond.get(key) is None:
            raise ValueError(f"guidance replaces the condition {name!r}, which the model was not given: give cond= it")
        own = cond[key]
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            result[key] = replaced(own, value, f"{name}.")
        elif isinstance(own, Tensor) and isinstance(value, Tensor):
            if value.ndim != own.ndim or len(value) != 1:
                raise ValueError(
                    f"the unconditional {name!r} must be that of one sample, of shape (1, …) with {own.ndim} "
                    f"dimensions, got {tuple(value.shape)}"
                )
            result[key] = _cast(value, own, name).expand(len(own), *value.shape[1:])
        elif isinstance(own, Tensor) and isinstance(value, (int, float)):
            result[key] = torch.full_like(own, _cast(torch.tensor(value), own, name).item())
        else:
            result[key] = value
    return result


def _cast(value: Tensor, like: Tensor, name: str) -> Tensor:
    """The value in the dtype and on the device of another, which whole numbers must not wrap or be cut to fit."""
    cast = value.to(like)
    if not like.is_floating_point() and not like.is_complex() and not torch.equal(cast.to(value), value):
        dtype = str(like.dtype).removeprefix("torch.")
        raise ValueError(f"the unconditional {name!r} = {value.tolist()} is none of the condition's numbers, {dtype}")
    return cast


def joined(first: Any, second: Any, name: str = "cond") -> Any:
    """Two conditions as one batch, nested too: tensors one after the other, and the rest as it is in both.

    Raises:
        ValueError: they do not fit; the message says where.
    """
    if isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape[1:] == second.shape[1:]:
        return torch.cat((first, second))
    if isinstance(first, Mapping) and isinstance(second, Mapping) and first.keys() == second.keys():
        return {key: joined(value, second[key], f"{name}[{key!r}]") for key, value in first.items()}
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return type(first)(joined(one, other, f"{name}[{index}]") for index, (one, other) in pairs)
    if first is second or (type(first) is type(second) and not isinstance(first, Tensor) and first == second):
        return first
    raise ValueError(
        f"{name} is {_told(first)} with the condition and {_told(second)} without, which is no batch of one network "
        "call: guide in two with batched=False"
    )


def _told(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def check(cond: Any, count: int, name: str = "cond") -> None:
    """Refuse conditions of which a part does not belong to each sample.

    Raises:
        ValueError, TypeError: a tensor that has not the batch first, an array of numpy, or a list of other things as
            long as the batch; the message says where.
    """
    if isinstance(cond, Tensor):
        if cond.ndim == 0 or len(cond) != count:
            raise ValueError(f"{name} must have the batch of {count} first, got shape {tuple(cond.shape)}")
    elif isinstance(cond, np.ndarray):
        raise TypeError(f"{name} is a numpy array; only tensors are split into batches: give torch.as_tensor of it")
    elif isinstance(cond, Mapping):
        for key, value in cond.items():
            check(value, count, f"{name}[{key!r}]")
    elif isinstance(cond, list) and len(cond) == count > 1 and not any(map(_holds_tensors, cond)):
        raise TypeError(
            f"{name} is a list of {count}, as many as there are samples, and only tensors are split into batches: give "
            "a tensor, or a tuple of what is the same for all"
        )
    elif isinstance(cond, (list, tuple)):
        for position, value in enumerate(cond):
            check(value, count, f"{name}[{position}]")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_tensors, value.values()))
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(_holds_tensors, value)))


def select(cond: Any, index: list[int] | Tensor, device: torch.device) -> Any:
    """The part of a condition that belongs to the samples of a batch."""
    if isinstance(cond, Tensor):
        return cond[index].to(device)
    if isinstance(cond, Mapping):
        return {key: select(value, index, device) for key, value in cond.items()}
    if isinstance(cond, (list, tuple)):
        return type(cond)(select(value, index, device) for value in cond)
    return cond


def described(cond: Any) -> list[str]:
    """What a condition holds, as text of its own."""
    if isinstance(cond, Tensor):
        return [str(cond.dtype), str(tuple(cond.shape)), repr(cond.detach().cpu().double().flatten().tolist())]
    if isinstance(cond, Mapping):
        return [part for key in sorted(cond) for part in (str(key), *described(cond[key]))]
    if isinstance(cond, (list, tuple)):
        return [part for value in cond for part in described(value)]
    return [repr(cond)]
