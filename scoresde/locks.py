"""One run at a time in a folder."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "run.lock"


class Lock:
    """A lock on a folder that ends with the process, however that ends.

    The system keeps it, on the file ``run.lock``, which says whose it is; a file that a killed process has left behind
    locks nothing. One process takes it alone; then all processes of its run may share it.
    """

    def __init__(self, folder: Path):
        self._path = folder / NAME
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock alone; False if this file system or this machine has no locks.

        Raises:
            BlockingIOError: another run has it; says which.
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
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._file

    def _lock(self, shared: bool) -> bool:
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            self.drop()
            raise BlockingIOError(f"another run is under way in {str(self._path.parent)!r}{holder}") from error
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return False
            raise
        return True

    def _holder(self) -> str:
        try:
            content = json.loads(os.pread(self._descriptor, 1000, 0))
            return f": process {content['process']} on {content['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
