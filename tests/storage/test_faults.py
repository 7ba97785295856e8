"""Faults of the disk: failed writes and syncs, a full disk, flipped bits."""

from __future__ import annotations

import random
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.storage.samples import full_token, lines, loaded, record, write_turns
from wonder_ray.errors import StorageError
from wonder_ray.storage.records import ContextDelta
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


# --- faults of the disk --------------------------------------------------------------------------------------------


class FaultyVFS(apsw.VFS):
    """The system's files, of which one operation fails; counts them all."""

    def __init__(self, fail_at: int | None, error: type[apsw.Error], operations: tuple[str, ...]) -> None:
        self.vfs_name = f"faulty-{id(self)}"
        super().__init__(self.vfs_name, "")
        self.operations = operations
        self.fail_at = fail_at
        self.error = error
        self.count = 0
        self.failed_at: str | None = None
        self.after: list[str] = []

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FaultyFile:  # noqa: N802 - SQLite's name
        return FaultyFile(self, name, flags)

    def step(self, operation: str) -> None:
        if self.failed_at is not None:
            self.after.append(operation)
        if operation in self.operations:
            self.count += 1
            if self.count == self.fail_at:
                self.failed_at = operation
                raise self.error("injected")


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVFS, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self.vfs.step("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self.vfs.step("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite's name
        self.vfs.step("truncate")
        super().xTruncate(size)


@pytest.fixture
def faulty() -> Iterator[Callable[..., FaultyVFS]]:
    made: list[FaultyVFS] = []

    def make(
        fail_at: int | None, error: type[apsw.Error] = apsw.IOError, operations: tuple[str, ...] = ("write", "sync")
    ) -> FaultyVFS:
        made.append(FaultyVFS(fail_at, error, operations))
        return made[-1]

    yield make
    for vfs in made:
        vfs.unregister()


def some_turns(store: SqliteRunStore, said: list[int]) -> None:
    """Turns with checkpoints between them, so that every kind of write is among those that fail."""
    for turn in range(2, 8):
        store.commit(record(turn, tokens=[full_token(turn)], events=lines(turn, turn)))
        said.append(turn)
        if turn % 3 == 0:
            store.checkpoint()


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_any_failed_write_or_sync_ends_the_store_and_loses_no_committed_turn(
    tmp_path: Path, faulty: Callable[..., FaultyVFS], error: type[apsw.Error]
) -> None:
    counting = faulty(None)
    write_turns(tmp_path / "count.sqlite")
    with SqliteRunStore(tmp_path / "count.sqlite", vfs=counting.vfs_name) as store:
        some_turns(store, [])
        points = counting.count
    assert points > 40
    for point in range(1, points + 1):
        path = tmp_path / f"{point}.sqlite"
        write_turns(path)
        vfs = faulty(point, error)
        said = [1]
        with pytest.raises(StorageError, match=rf"{point}\.sqlite: cannot"):  # noqa: PT012 - the fault may strike in any of them
            store = SqliteRunStore(path, vfs=vfs.vfs_name)
            some_turns(store, said)
        with pytest.raises(StorageError, match="no longer usable"):
            store.commit(record(9))
        assert "write" not in vfs.after
        assert "sync" not in vfs.after
        with SqliteRunStore(path) as again:
            turn = loaded(again).run.turn
            assert turn in {said[-1], said[-1] + 1}
            assert [token.ordinal for token in loaded(again).tokens] == list(range(1, turn + 1))
            assert [row[0] for row in again.outbox("events")] == list(range(1, turn + 1))


def test_a_full_disk_is_called_one(path: Path, faulty: Callable[..., FaultyVFS]) -> None:
    write_turns(path)
    store = SqliteRunStore(path, vfs=faulty(1, apsw.FullError).vfs_name)
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        store.commit(record(2))


def read_all(path: Path, *, read_only: bool) -> object:
    with SqliteRunStore(path, read_only=read_only) as store:
        return store.load(), store.outbox("events"), store.outbox("trace"), store.get_meta("definition"), store.epoch_max()


def test_no_flipped_bit_passes_unnoticed(path: Path) -> None:
    write_turns(path, 12)
    with SqliteRunStore(path) as store:
        keys = [(f"k{n}", b"reply") for n in range(5)]
        deltas = [ContextDelta("", "state.a", "set", b"12345678")] * 5
        meta = {"definition": b"x" * 500}
        store.commit(record(13, keys=keys, deltas=deltas, meta=meta, iterations=[("", "a->b", 77)], traces=lines(1, 3)))
    whole = read_all(path, read_only=True)
    data = path.read_bytes()
    noticed = 0
    for seed in range(1000):
        rng = random.Random(seed)
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read_all(path, read_only=seed % 2 == 0)
        except StorageError:
            noticed += 1
        else:
            assert found == whole, f"seed {seed}"
    assert noticed > 100  # the others struck free space


def test_a_damaged_file_is_refused_with_the_mend(path: Path) -> None:
    write_turns(path)
    data = bytearray(path.read_bytes())
    data[2048 : 2048 + 64] = b"\xff" * 64
    path.write_bytes(data)
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"(?s)damaged .* rebuilt from its events"):
            SqliteRunStore(path, read_only=read_only)


def test_a_row_that_was_changed_by_hand_is_called_damage(path: Path) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("UPDATE tokens SET result = '{}'")
    store = SqliteRunStore(path)
    with pytest.raises(StorageError, match="a row of tokens does not match its checksum"):
        store.load()
    with pytest.raises(StorageError, match="no longer usable"):
        store.commit(record(2))
