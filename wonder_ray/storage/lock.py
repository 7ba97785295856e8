"""The lock that says which process of this host runs a run: a file lock (flock), which dies with its process.

The file holds who has it, one JSON object: `pid`, `node`, `host`, `epoch`, `placement`, `since_us`. It stays when the lock
is released, empty: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.errors import PayloadError, StorageError
from wonder_ray.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PAUSE_SECONDS: Final = 0.001
_READS_MAX: Final = 50
_SIZE_MAX: Final = 65_536


class RunLock:
    """The exclusive right of one process to run a run. Not to be held across a `fork` (the child would hold it as well).

    Example:
        >>> import pathlib, tempfile
        >>> lock = RunLock(pathlib.Path(tempfile.mkdtemp()) / "run.lock")
        >>> lock.try_acquire({"pid": os.getpid(), "node": "n1", "host": "h1", "epoch": 3})
        True
        >>> lock.release()
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def try_acquire(self, info: Mapping[str, Any]) -> bool:
        """Take the lock, and write who has it; False when another process (or another `RunLock`) holds it.

        Raises:
            StorageError: The file cannot be made or written.
        """
        if self._fd is not None:
            return False
        fd = self._open()
        try:
            if not _lock_unless_held(fd):
                os.close(fd)
                return False
            os.ftruncate(fd, 0)
            _write(fd, info)
        except OSError as error:
            os.close(fd)
            raise _unusable(self.path, error) from error
        self._fd = fd
        return True

    def update(self, info: Mapping[str, Any]) -> None:
        """Replace what the file says about the holder."""
        if self._fd is None:
            msg = f"the lock {self.path} is not held by this process, so it cannot say who holds it"
            raise StorageError(msg)
        try:
            _write(self._fd, info)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def release(self) -> None:
        """Let go of the lock. Releasing twice is fine."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.ftruncate(fd, 0)
            finally:
                os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from error


def read_holder(path: Path) -> dict[str, Any] | None:
    """Who holds a run's lock on this host: what the holder wrote (`{}` if it has just taken it); None when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        for _ in range(_READS_MAX):
            if _try(fd, fcntl.LOCK_SH):
                return None
            info = _parse(os.pread(fd, _SIZE_MAX, 0))
            if info:
                return info
            time.sleep(_PAUSE_SECONDS)  # the holder is between taking the lock and writing its name
        return {}
    finally:
        os.close(fd)


def _lock_unless_held(fd: int) -> bool:
    """Take the exclusive lock; False only when an exclusive lock is in the way.

    A process that asks who holds the lock has a shared one for a moment; that must not make a coordinator give up.
    """
    while not _try(fd, fcntl.LOCK_EX):
        if not _try(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_PAUSE_SECONDS)
    return True


def _try(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int, info: Mapping[str, Any]) -> None:
    """One write, ended by a newline: a reader that comes between the two calls reads the first line, which is whole."""
    line = encode(dict(info)) + b"\n"
    os.pwrite(fd, line, 0)
    os.ftruncate(fd, len(line))


def _parse(data: bytes) -> dict[str, Any] | None:
    line, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    try:
        info = decode(line)
    except PayloadError:
        return None
    return info if isinstance(info, dict) else None


def _unusable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the lock file {path} cannot be used: {error.strerror}; make its folder writable, or choose another storage folder "
        "with --storage or WONDER_STORAGE"
    )
