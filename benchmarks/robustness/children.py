"""Actions in forked children of a parent that has everything imported: quick, within limits, and told from outside."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.backends import backend_agg, backend_svg  # noqa: F401
from matplotlib.figure import Figure

from scoresde.commands import app, bench, convert, sample, train  # noqa: F401
from scoresde.commands.main import main

GIGABYTE = 2**30


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: what it gave to ``exit``, or minus the number of the signal that ended it.
        out, err: what it wrote.
        seconds: it took.
        late: whether it was ended because its time was over.
    """

    status: int
    out: str
    err: str
    seconds: float
    late: bool = False

    def one_line(self) -> bool:
        """Whether all that is on stderr is one line of the program's own."""
        return self.err.startswith("scoresde: ") and self.err.count("\n") == 1 and self.err.endswith("\n")


def warm() -> None:
    """Import and fill what every child would otherwise import and fill again; starts no thread, here and later.

    What children are held against is then made as they make it, to the bit.
    """
    torch.set_num_threads(1)
    figure = Figure()
    figure.subplots().plot([1, 2])
    for form in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=form)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports half of torch


def forked(action: Callable[[], int | None], place: Path, *, seconds: float = 120, memory: int = 8 * GIGABYTE) -> Ended:
    """Call an action in a child that works in the folder ``place``.

    Args:
        action: gives the exit status, None for 0; what it raises is a traceback and the status 1, as Python has it.
        seconds: until the child and its own children are killed.
        memory: bytes of address space beyond those of the parent.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(action, place, out.fileno(), err.fileno(), seconds, memory)
        _, ended = os.waitpid(child, 0)
        took = time.monotonic() - begin
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the child has left running
        for file in (out, err):
            file.seek(0)
        status = os.waitstatus_to_exitcode(ended)
        said, complained = (file.read().decode("utf-8", "backslashreplace") for file in (out, err))
    return Ended(status, said, complained, took, late=status in (-signal.SIGALRM, -signal.SIGXCPU))


def _child(
    action: Callable[[], int | None], place: Path, out: int, err: int, seconds: float, memory: int
) -> None:  # never returns
    status = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        null = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((null, 0), (out, 1), (err, 2)):
            os.dup2(old, new)
        os.close(null)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
        os.chdir(place)
        torch.set_num_threads(1)  # it has none of its parent's threads, and would wait for them
        status = action() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def command(*arguments: str) -> Callable[[], int]:
    """The command line as an action."""
    return lambda: main(arguments)
