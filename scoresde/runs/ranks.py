"""Several processes, one run: who they are, and the few words that they exchange.

Between its first word and its last a process works alone, so that one that is lost takes nothing with it.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from scoresde.runs.torchrun import several

# A process that is lost is noticed at once, by its connection. This is for one that hangs; slow ones must not be taken
# for it.
PATIENCE = timedelta(days=1)
POLL = 0.2  # seconds

T = TypeVar("T")


class LostError(ConnectionError):
    """A process of this run is gone."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: number of this one, from 0.
        size: how many there are.
        local: number of this one on its machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    def device(self, chosen: torch.device) -> torch.device:
        """The device of this process: where just a GPU was asked for, the one with the process's number.

        Raises:
            ValueError: there are fewer GPUs than processes.
        """
        if self.size == 1 or chosen.type != "cuda" or chosen.index is not None:
            return chosen
        if self.local >= torch.cuda.device_count():
            raise ValueError(
                f"process {self.local} on this machine has no GPU of its own, torch sees {torch.cuda.device_count()}: "
                "start fewer processes (--nproc-per-node), or give device=cpu"
            )
        return torch.device("cuda", self.local)

    def first(self, action: Callable[[], Any]) -> Any:
        """What ``action`` gives in the first process, in all of them, as JSON takes it.

        Raises:
            SystemExit: it failed there. In the first process the error itself is raised.
            LostError: a process is gone.
        """
        if self.size == 1:
            return action()
        content: dict[str, Any] = {"status": 1}
        try:
            if self.rank == 0:
                content = {"status": 0, "value": action()}
        finally:
            content = json.loads(_broadcast(json.dumps(content).encode() if self.rank == 0 else b""))
        if content["status"]:
            raise SystemExit(content["status"])
        return content["value"]

    def agree(self, action: Callable[[], T]) -> T:
        """What ``action``, which is the same for all but for their devices, gives here, if it fails nowhere.

        Raises:
            SystemExit: it failed in another process. In the first of those in which it failed the error is raised.
            LostError: a process is gone.
        """
        if self.size == 1:
            return action()
        failed, value, error = np.zeros(self.size), None, None
        try:
            value = action()
        except Exception as raised:
            failed[self.rank], error = 1, raised
        failed = self.sum(failed)
        if error is not None and int(failed.argmax()) == self.rank:
            raise error
        if value is None or failed.any():
            raise SystemExit(1)
        return value

    def sum(self, values: NDArray[Any], device: torch.device | str = "cpu") -> NDArray[Any]:
        """The sum of everybody's array, by one all_reduce: nccl's on a GPU, gloo's elsewhere.

        Raises:
            LostError: a process is gone.
        """
        if self.size == 1:
            return values
        total = torch.tensor(values, device=device)  # a copy, since the sum takes its place
        with _losses():
            dist.all_reduce(total)
            return total.cpu().numpy()

    def settle(self, failed: bool, idle: Callable[[], object] | None = None) -> int:
        """Wait until all processes have done their part; how many of them failed.

        Args:
            failed: whether this one did.
            idle: called now and then while waiting; None waits without a pause.

        Raises:
            LostError: a process is gone, or has hung for a day.
        """
        if self.size == 1:
            return int(failed)
        count = torch.tensor([int(failed)])
        with _losses():
            work = dist.all_reduce(count, group=_patient(), async_op=True)
            assert work is not None
            while idle is not None and not work.is_completed():
                time.sleep(POLL)
                idle()
            work.wait()
        return int(count)


def current() -> Ranks:
    """The processes of this run, as ``torchrun`` tells them by their environment; one, if it does not.

    Raises:
        ConnectionError: they do not find each other.
    """
    if not several():
        return Ranks()
    size = int(os.environ["WORLD_SIZE"])
    ranks = Ranks(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, store=_store(), rank=ranks.rank, world_size=size)
            _patient()
        except (RuntimeError, ValueError) as error:
            raise LostError(f"the {size} processes of this run do not find each other: {error}") from error
        atexit.register(dist.destroy_process_group)
    return ranks


def _store() -> Store:
    """Where the processes find each other; torchrun keeps it over a restart, with the addresses of those that died."""
    store, _, _ = next(rendezvous("env://"))
    return PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@cache
def _patient() -> Any:
    return dist.new_group(backend="gloo", timeout=PATIENCE)


@contextmanager
def _losses() -> Iterator[None]:
    """A lost connection is said in words."""
    try:
        yield
    except RuntimeError as error:
        raise _lost() from error


@contextmanager
def exchanging() -> Iterator[None]:
    """A connection that is lost in work of which the exchange is a part is said in words; other errors are their own.

    Raises:
        LostError: a process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error):
            raise _lost() from error
        raise


def _lost() -> LostError:
    return LostError("another process of this run is gone")


def _broadcast(message: bytes) -> bytes:
    size = torch.tensor([len(message)])
    with _losses():
        dist.broadcast(size, 0)
        content = torch.frombuffer(bytearray(message or bytes(int(size))), dtype=torch.uint8)
        dist.broadcast(content, 0)
    return content.numpy().tobytes()
