"""Where the event service keeps its files, who holds which log, and where tests may make it fail.

`<storage>/events/date=2026-11-23/<name>.parquet`, `<storage>/trace_events/...`: finished files only.
`<storage>/eventlog/<instance>.sqlite`, `.lock`: one commit log per instance of the service.
`<storage>/eventlog/tmp/`: files being written.
`<storage>/eventlog/swaps/`: days that are being replaced, see `swaps.py`; there only while one is.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wonder_ray.events.wire import Stream

FAILPOINTS: Final = (
    "claim.fenced_here",
    "claim.fenced_there",
    "append.before_commit",
    "append.after_commit",
    "plan.before_commit",
    "plan.after_commit",
    "file.written",
    "file.synced",
    "file.renamed",
    "file.done",
    "seal.before_commit",
    "seal.after_commit",
    "adopt.sealed",
    "adopt.carried",
    "adopt.deleted",
)
"""Every place between two steps of the protocol, in the order a row passes them."""

_LOG_NAME: Final = re.compile(r"\d+\.sqlite")


def no_failpoint(name: str) -> None:
    """What production passes for `failpoint`; tests pass something that raises or kills at a name of `FAILPOINTS`."""


class EventLayout:
    """The paths of one storage folder.

    Example:
        >>> EventLayout(Path("s")).partition("events", "2026-11-23")
        PosixPath('s/events/date=2026-11-23')
    """

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.log_dir = storage / "eventlog"
        self.tmp_dir = self.log_dir / "tmp"
        self.swap_dir = self.log_dir / "swaps"

    def create(self) -> None:
        """Make the folders that a service writes to."""
        for folder in (self.tmp_dir, self.dataset("events"), self.dataset("trace")):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.log_dir, self.storage, self.storage.absolute().parent):
            sync_dir(folder)

    def dataset(self, stream: Stream) -> Path:
        """The root folder of a stream's Parquet dataset."""
        return self.storage / ("events" if stream == "events" else "trace_events")

    def partition(self, stream: Stream, date: str) -> Path:
        """The folder of one UTC day."""
        return self.dataset(stream) / f"date={date}"

    def log_path(self, instance: int) -> Path:
        """The commit log of an instance."""
        return self.log_dir / f"{instance}.sqlite"

    def logs(self) -> list[Path]:
        """The commit logs that exist now, oldest instance first."""
        if not self.log_dir.is_dir():
            return []
        names = [entry.name for entry in os.scandir(self.log_dir) if _LOG_NAME.fullmatch(entry.name)]
        return [self.log_dir / name for name in sorted(names, key=instance_of)]

    def files(self, stream: Stream) -> list[str]:
        """The finished files of a dataset as `date=<day>/<name>`, sorted."""
        root = self.dataset(stream)
        if not root.is_dir():
            return []
        found: list[str] = []
        for day in os.scandir(root):
            if day.name.startswith("date=") and day.is_dir():
                found.extend(f"{day.name}/{entry.name}" for entry in os.scandir(day.path) if entry.name.endswith(".parquet"))
        return sorted(found)

    def has_files(self, stream: Stream) -> bool:
        """Whether a dataset has any finished file."""
        return next(self.dataset(stream).glob("date=*/*.parquet"), None) is not None


def instance_of(log: str | Path) -> int:
    """The instance that a log file's name tells."""
    return int(Path(log).name.removesuffix(".sqlite"))


def date_of(name: str) -> str:
    """The day that a file's name tells.

    >>> date_of("date=2026-11-23/000001-5f2c91aa-00000001.parquet")
    '2026-11-23'
    """
    return name.partition("/")[0].removeprefix("date=")


def sync_dir(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LogLock:
    """The right to write a commit log's rows into files, held by at most one live process; the kernel frees it at its end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def try_acquire(cls, log: Path) -> LogLock | None:
        """The lock of a log file, or None while somebody else holds it."""
        path = log.with_suffix(".lock")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if _is_still(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)  # its last holder removed the file between our open and our lock

    def release(self, *, remove: bool = False) -> None:
        """Let go; `remove` when the log itself is gone."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
