"""One run at a time in a folder."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "run.lock"
LONGEST = 1000  # bytes of what the file says
# A link is not followed, and a FIFO not waited for.
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Lock:
    """A lock on a folder that ends with the process, however that ends.

    The system keeps it, on the file ``run.lock``, which says whose it is; a file that a killed process has left behind
    locks nothing. One process takes it alone; then all processes of its run may share it. A file of that name which is
    not of this program's making is neither written nor removed.
    """

    def __init__(self, folder: Path):
        self._path = folder / NAME
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock alone; False if this file system or this machine has no locks.

        Raises:
            BlockingIOError: another run has it; says which.
            ValueError: what stands in its place is not ours.
            OSError: the file cannot be made.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            taken = self._lock(shared=False)
            # A run that has just ended may have removed the file between its opening here and its locking.
            if not taken or self._path.exists() and os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                break
            self.drop()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)
        return taken

    def share(self) -> None:
        """Share it with the other processes of this run, which call this after one has taken it alone."""
        self._lock(shared=True)

    def drop(self, *, remove: bool = False) -> None:
        """Give it back, and remove its file if no other process of this run needs it any more."""
        if self._file is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            try:
                self._file = os.open(self._path, FLAGS, 0o666)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise self._foreign() from error
                raise
            if not stat.S_ISREG(os.fstat(self._file).st_mode) or self._holder() is None:
                self.drop()
                raise self._foreign()
        return self._file

    def _foreign(self) -> ValueError:
        return ValueError(f"{str(self._path)!r} is not a lock of this program: move it, or choose another folder")

    def _lock(self, shared: bool) -> bool:
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder() or ""
            self.drop()
            raise BlockingIOError(f"another run is under way in {str(self._path.parent)!r}{holder}") from error
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return False
            raise
        return True

    def _holder(self) -> str | None:
        """Whose it is, in words; empty where the file is; None where it says something else than such a file does."""
        assert self._file is not None
        written = os.pread(self._file, LONGEST, 0)
        if not written:
            return ""
        try:
            content = json.loads(written)
            return f": process {int(content['process'])} on {content['host']}" if len(content) == 2 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
