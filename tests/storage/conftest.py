"""The two stores behind one fixture, and records to put into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from wonder_ray.storage.memory import MemoryDisk, MemoryRunStore
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wonder_ray.storage.store import RunStore


class Place(Protocol):
    """Somewhere a run can be stored, and opened again."""

    def open(self) -> RunStore:
        """A store on what is committed here."""
        ...

    def crash(self) -> None:
        """What a kill does to the store that was opened last."""
        ...


class MemoryPlace:
    def __init__(self) -> None:
        self._disk = MemoryDisk()
        self._store: MemoryRunStore | None = None

    def open(self) -> MemoryRunStore:
        self._store = MemoryRunStore(self._disk)
        return self._store

    def crash(self) -> None:
        if self._store is not None:
            self._store.crash()


class FilePlace:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.sqlite"
        self._store: SqliteRunStore | None = None

    def open(self) -> SqliteRunStore:
        self._store = SqliteRunStore(self.path)
        return self._store

    def crash(self) -> None:
        from wonder_ray.storage import opening

        if self._store is not None and self._store._connection is not None:
            opening.abandon(self._store._connection)
            self._store._connection = None


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of store in turn."""
    found: Place = MemoryPlace() if request.param == "memory" else FilePlace(tmp_path)
    yield found
    found.crash()


@pytest.fixture
def store(place: Place) -> RunStore:
    """A new, empty store of each kind, under epoch 1."""
    opened = place.open()
    opened.take_epoch(1)
    return opened
