"""Lines to write, and a disk that can be full."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import apsw
import pytest

from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    from collections.abc import Iterator


class MakeLine(Protocol):
    """The type of the `make_line` fixture."""

    def __call__(self, n: int = 0, **columns: Any) -> LogLine:
        """An info line of the executor whose timestamp and message are `n`."""
        ...


def _line(n: int = 0, **columns: Any) -> LogLine:
    values = {"timestamp": n, "level": "info", "service": "executor", "event_type": "stdout", "message": str(n), **columns}
    return LogLine(**values)


@pytest.fixture(scope="session")
def make_line() -> MakeLine:
    return _line


@pytest.fixture
def lines() -> list[LogLine]:
    """Where a test's lines arrive."""
    return []


@pytest.fixture
def user_logger() -> logging.Logger:
    return logging.Logger("user.code")  # noqa: LOG001 - outside the tree, so that pytest's handlers stay away


class FaultyDisk(apsw.VFS):
    """An SQLite VFS that refuses every write while `full` is true."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.full = False

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _FaultyFile(self, name, flags)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.full:
            raise apsw.FullError("no space left on this test's disk")
        super().xWrite(data, offset)


@pytest.fixture
def faulty_disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk("wonder-logs-faulty")
    yield disk
    disk.unregister()
