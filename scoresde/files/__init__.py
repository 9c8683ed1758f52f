"""Files that are whole or not there, and files that may be read: regular ones, of a size that fits."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PART = "scoresde-part"  # in the names of files being written, so that no file of anybody else's is taken for one
TEMPORARY = re.compile(rf"\..+\.\d+\.{PART}(\.[^.]+)?")
CACHE = "SCORESDE_CACHE"
SMALL, RATIO = 2**28, 200  # bytes that may be unpacked of anything, and of each packed byte of what is larger
_asking_for_umask = threading.Lock()  # which can only be asked for by setting it, for the whole process


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends, and vanishes if the block fails.

    Raises:
        ValueError: a link stands at ``path``: what it leads to is not ours to replace.
    """
    path = Path(path)
    if path.is_symlink():
        raise ValueError(
            f"{str(path)!r} is a link, and a file is to be written there: remove it, or choose another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: libraries choose the file format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{PART}{path.suffix}")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # not through a link laid there
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # Some libraries make their files for the owner alone, whatever the umask says.
        with _asking_for_umask:
            mask = os.umask(0)
            os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        # What failed is the file that was asked for; of a full disk the system does not even say on which file.
        if error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a power cut; on Windows folders cannot be opened, and need not be."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left of :func:`replacing` in a folder in which nobody writes now."""
    for path in folder.glob(".*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def regular(path: str | Path) -> Path:
    """The path, if it leads to a regular file; reading anything else may wait for ever, never end, or do something.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a folder, FIFO, socket or device is.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise ValueError(f"{str(path)!r} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")
    return path


def check_unpacked(name: str, packed: int, unpacked: int) -> None:
    """Refuse to unpack what was made to fill the memory.

    Args:
        name: of the archive, for the message.
        packed, unpacked: bytes; from an archive's own table, before anything is unpacked.

    Raises:
        ValueError: more than 256 MiB that are over 200 times the packed size, or more than the machine's memory.
    """
    if unpacked > SMALL and unpacked > RATIO * packed:
        raise ValueError(f"{name} would unpack {packed:,} bytes to {unpacked:,}, over {RATIO} times as many: refused")
    if unpacked > (memory := _memory()):
        raise ValueError(f"{name} would unpack to {unpacked:,} bytes, and this machine has {memory:,}")


def _memory() -> float:
    """Bytes of memory of this machine; without end on Windows, which does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else math.inf


def digest(*paths: str | Path) -> str:
    """SHA-256 of a file, or of several one after the other, in hexadecimal digits.

    Raises:
        FileNotFoundError, ValueError: as :func:`regular` does.
    """
    return digest_of(itertools.chain.from_iterable(map(_blocks, paths)))


def cache() -> Path:
    """The folder of what can be computed again."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "scoresde").expanduser()


def digest_of(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of bytes and texts one after the other, in hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()


def _blocks(path: str | Path) -> Iterator[bytes]:
    with open(regular(path), "rb") as file:
        while block := file.read(1 << 20):
            yield block
