"""Tensors in others' hands: functions that write into what they are given, or return memory that they write to again.

A network may begin with an in-place ReLU, and a wrapper of a captured graph returns one buffer every time. A run keeps
its state, and methods keep model outputs for later; neither may change behind their back. Nothing here waits for the
device but one comparison at the first call, and well-behaved functions cost no copies after their first few calls.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

EARLY = 4  # calls whose results are given on as copies, because it shows then whether a function keeps its own
RECENT = 32  # results that are watched after that, more than any method remembers
PLAIN = (int, float, str, type(None))  # most arguments that are no tensors

Memory = tuple[int, int]  # first address of a storage, and the one behind its last


class Isolated:
    """What is known of a function of tensors, so that calls of it change nobody's tensors.

    The first call works on copies of its arguments. If they were written to (by version counters and, since writes
    through ``.data``, numpy or under ``inference_mode`` are not counted, by their content), all later calls work on
    copies too; if not, later calls get the arguments themselves, and their version counters are watched. Results of the
    first ``EARLY`` calls are given on as copies: where the function's own are still alive once nobody else holds them,
    it keeps them and may write to them again, and all later results are copied. So are results in memory that torch
    does not manage (of numpy, or of a captured graph). A function may return what it was given.

    Args:
        name: what the function is, in words for errors.
        arguments: names of its positional arguments.
    """

    def __init__(self, name: str, arguments: Sequence[str] = ()):
        self._name, self._arguments = name, arguments
        self._calls, self._writes, self._keeps = 0, False, False
        self._given: list[tuple[weakref.ref[Tensor], Memory]] = []

    def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        named: Mapping[str, Any] | None = None,
        private: Sequence[bool] = (),
    ) -> Any:
        """``function(*args, **named)``, a tensor or a mapping of tensors that nobody else will write to.

        Args:
            function: the same one at every call.
            args, named: tensors, also in dictionaries, lists and tuples, are left as they are.
            private: which positional arguments nobody else holds, so that they may be written to; () is none of them.

        Raises:
            ValueError: an argument was written to, or memory of an earlier result was returned, by a function that at
                first did no such thing.
        """
        named = named or {}
        if torch.compiler.is_compiling():
            return function(*args, **named)
        self._calls += 1
        if self._calls == 1 or self._writes:
            results = self._on_copies(function, args, named, private)
        else:
            tensors = _tensors([*_theirs(args, private), *named.values()])
            versions = _versions(tensors)
            results = function(*args, **named)
            if _versions(tensors) != versions:
                raise ValueError(
                    f"{self._name} wrote into {self._written(args, named, tensors, versions)} at call {self._calls}, "
                    "and did not at first: let it work on a copy, such as x.clone(), or not in place (inplace=False)"
                )
            del tensors
        if self._calls > EARLY or self._keeps:
            return _copied(results) if self._keeps or not self._apart(results) else results
        copies, own = _copied(results), _storages(results)
        del results
        self._keeps = any(not storage.expired() for storage in own)
        return copies

    def _on_copies(
        self, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any], private: Sequence[bool]
    ) -> Any:
        given = tuple(arg if any(private[i : i + 1]) else _copied(arg) for i, arg in enumerate(args))
        given_named = {key: _copied(value) for key, value in named.items()}
        tensors = _tensors([*_theirs(given, private), *given_named.values()])
        versions = _versions(tensors)
        results = function(*given, **given_named)
        originals = _tensors([*_theirs(args, private), *named.values()])
        if self._calls == 1:
            self._writes = _versions(tensors) != versions or not all(map(_equal, originals, tensors))
        return results

    def _apart(self, results: Any) -> bool:
        """Whether results are in memory that nobody will write to before they are done with."""
        given = [(tensor, memory) for tensor, memory in self._given if tensor() is not None]
        fresh: list[tuple[weakref.ref[Tensor], Memory]] = []
        for tensor in _tensors((results,)):
            if (memory := _memory(tensor)) is None:
                return False
            for _, (start, end) in given:
                if memory[0] < end and start < memory[1]:
                    raise ValueError(
                        f"{self._name} returned the memory of an earlier result at call {self._calls}, and did not at "
                        "first: let it return a copy, such as output.clone()"
                    )
            fresh.append((weakref.ref(tensor), memory))
        self._given = [*given, *fresh][-RECENT:]
        return True

    def _written(
        self, args: tuple[Any, ...], named: Mapping[str, Any], tensors: list[Tensor], versions: list[int | None]
    ) -> str:
        """The argument whose tensor has another version now."""
        written = next(
            tensor for tensor, before, now in zip(tensors, versions, _versions(tensors), strict=True) if before != now
        )
        labelled = {**dict(zip(self._arguments, args, strict=False)), **named}
        found = (key for key, value in labelled.items() if any(tensor is written for tensor in _tensors((value,))))
        return f"its argument {next(found, '?')!r}"


def shown(hook: Callable[[Tensor, float], Tensor | None] | None, x: Tensor, t: float) -> Tensor:
    """The state after a hook has seen it: what the hook returns, or made of the tensor that it was given.

    The hook is given a copy and the state becomes one, so that it may keep both and write to them at any time.
    """
    if hook is None:
        return x
    seen = x.clone()
    edited = hook(seen, t)
    return (seen if edited is None else edited).clone()


def written(copy: Tensor, original: Tensor) -> bool:
    """Whether somebody wrote into a fresh copy, in ways that torch counts; elsewhere by its content."""
    return not _equal(copy, original) if copy.is_inference() else copy._version != 0


def _theirs(args: tuple[Any, ...], private: Sequence[bool]) -> Sequence[Any]:
    """The arguments that others hold."""
    return [arg for arg, own in zip(args, private, strict=True) if not own] if private else args


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """All tensors in nested dictionaries, lists and tuples."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif not isinstance(value, PLAIN) and isinstance(value, (Mapping, list, tuple)):
            found += _tensors(value.values() if isinstance(value, Mapping) else value)
    return found


def _copied(value: Any) -> Any:
    """The same with copies of all those tensors."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        copies = {key: _copied(inner) for key, inner in value.items()}
        if type(value) is dict or not isinstance(value, MutableMapping):
            return copies
        same = copy.copy(value)
        same.update(copies)
        return same
    if isinstance(value, (list, tuple)):
        inner = [_copied(part) for part in value]
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    return value


def _versions(tensors: list[Tensor]) -> list[int | None]:
    """How often each was written to, as torch counts it; None where it does not."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # of tensors made under inference_mode
        return [None if tensor.is_inference() else tensor._version for tensor in tensors]


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, where that can be seen: not while a graph is captured or traced."""
    if one.is_meta or (one.is_cuda and torch.cuda.is_current_stream_capturing()):
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    try:
        return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
    except (RuntimeError, NotImplementedError):
        return True


def _memory(tensor: Tensor) -> Memory | None:
    """Where a tensor is; None where torch does not free its memory with it, or where it has none (in torch.func)."""
    try:
        storage = tensor.untyped_storage()
        start = storage.data_ptr()
    except (RuntimeError, NotImplementedError):
        return None
    return (start, start + storage.nbytes()) if start and storage.resizable() else None


def _storages(results: Any) -> list[StorageWeakRef]:
    """Storages of results, not kept alive here; a recorded gradient may keep them, so that those tell nothing."""
    tensors = (tensor for tensor in _tensors((results,)) if not tensor.requires_grad and _memory(tensor))
    return [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]
