"""What only the file can show: kills, faults of the disk, readers beside it, its settings and its schema."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.storage.test_conformance import full_token, lines, record
from wonder_ray.errors import StorageError
from wonder_ray.state import Run
from wonder_ray.storage import opening, schema
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.records import ContextDelta
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wonder_ray.storage.records import StoredRun

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from wonder_ray.state import Run, Token
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.records import ContextDelta, TurnRecord
from wonder_ray.storage.sqlite import SqliteRunStore

path = Path(sys.argv[1])
assert RunLock(path.with_suffix(".lock")).try_acquire({"pid": __import__("os").getpid(), "host": "here"})
store = SqliteRunStore(path)
store.take_epoch(store.epoch_max() + 1)
stored = store.load()
turn = stored.run.turn if stored else 0
while True:
    turn += 1
    store.commit(TurnRecord(
        run=Run(run_id="run_0192f0c1a2b3_0123456789abcdef", turn=turn, sequence=3 * turn),
        epoch=store.epoch_max(),
        tokens=[Token(id=f"t_{turn}_{n}", ordinal=2 * turn + n, node_id="a", result="x" * 3000) for n in (0, 1)],
        deltas=[ContextDelta("", "state.turn", "set", str(turn).encode())],
        keys=[(f"k{turn}", b"")],
        events=[(3 * turn - 2 + n, b"{}") for n in range(3)],
    ))
    if turn % 7 == 0:
        store.checkpoint()
    print(turn, flush=True)
"""


class Writer:
    """A process that commits turn after turn, and says so after each commit."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)

    def wait_for(self, turns: int) -> int:
        """The last turn of so many that it says it committed."""
        assert self.process.stdout is not None
        said = [self.process.stdout.readline() for _ in range(turns)]
        return int(said[-1])

    def kill(self) -> int:
        """End it where it stands; the last turn it said it committed, or 0."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGKILL)
        said = self.process.stdout.read().split("\n")
        self.process.stdout.close()
        self.process.wait()
        whole = [line for line in said[:-1] if line]
        return int(whole[-1]) if whole else 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


def names_beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def write_turns(path: Path, turns: int = 1) -> None:
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
        for turn in range(1, turns + 1):
            store.commit(record(turn, tokens=[full_token(turn)], events=lines(turn, turn)))


def loaded(store: SqliteRunStore) -> StoredRun:
    stored = store.load()
    assert stored is not None
    return stored


def assert_is_a_whole_prefix(store: SqliteRunStore, turns_min: int) -> int:
    """The file holds exactly the turns 1..n of `WRITER`, each whole, and at least those that were told."""
    stored = store.load()
    turn = 0 if stored is None else stored.run.turn
    assert turn >= turns_min
    if stored is not None:
        assert [token.ordinal for token in stored.tokens] == list(range(2, 2 * turn + 2))
        assert [delta.value for delta in stored.deltas] == [str(n).encode() for n in range(1, turn + 1)]
        assert set(stored.keys) == {f"k{n}" for n in range(1, turn + 1)}
        assert stored.last_sequence == 3 * turn
    assert [row[0] for row in store.outbox("events", limit=100_000)] == list(range(1, 3 * turn + 1))
    return turn


# --- kills ---------------------------------------------------------------------------------------------------------


def test_kills_in_the_middle_of_commits_leave_exactly_the_committed_turns(path: Path) -> None:
    done = 0
    for round_ in range(6):
        writer = Writer(path)
        seen = writer.wait_for(1 + 5 * round_)
        told = max(writer.kill(), seen)
        with SqliteRunStore(path) as store:
            found = assert_is_a_whole_prefix(store, told)
            assert store.epoch_max() == round_ + 1
        assert found > done
        done = found


def test_a_kill_while_the_file_is_made_leaves_none_or_a_whole_one(path: Path) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    aside.write_bytes(b"torn")
    with SqliteRunStore(path) as store:
        assert store.load() is None
    assert names_beside(path) == [path.name]


def test_a_reader_sees_what_is_committed_in_the_log_that_a_kill_left_behind(path: Path) -> None:
    writer = Writer(path)
    told = max(writer.wait_for(5), writer.kill())
    log = path.with_name(path.name + "-wal")
    before = (path.read_bytes(), log.read_bytes())
    assert before[1], "the kill was to leave a log behind"
    for _ in range(2):
        with SqliteRunStore(path, read_only=True) as reader:
            assert_is_a_whole_prefix(reader, told)
    assert (path.read_bytes(), log.read_bytes()) == before
    with SqliteRunStore(path) as store:
        assert_is_a_whole_prefix(store, told)
    assert names_beside(path) == ["run.lock", "run.sqlite"]


# --- readers -------------------------------------------------------------------------------------------------------


def test_a_reader_is_told_which_process_has_the_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(path)
    try:
        writer.wait_for(1)
        with pytest.raises(StorageError, match=rf"in use by its coordinator \(pid {writer.process.pid} on here\)"):
            SqliteRunStore(path, read_only=True)
        monkeypatch.setattr(opening, "BUSY_MS", 10)
        with pytest.raises(StorageError, match=rf"in use by its coordinator \(pid {writer.process.pid} on here\)"):
            SqliteRunStore(path)
    finally:
        writer.kill()


def test_a_reader_keeps_no_coordinator_from_the_file(path: Path) -> None:
    write_turns(path, 2)
    with SqliteRunStore(path, read_only=True) as reader, SqliteRunStore(path) as store:
        store.commit(record(3))
        assert (loaded(reader).run.turn, loaded(store).run.turn) == (2, 3)


def test_a_coordinator_waits_for_a_reader_that_has_the_file(path: Path) -> None:
    write_turns(path)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("SELECT count(*) FROM tokens").fetchall()
    timer = threading.Timer(0.1, reader.close)
    timer.start()
    with SqliteRunStore(path) as store:
        assert loaded(store).run.turn == 1
    timer.join()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.commit(record(2)),
        lambda store: store.forget("events", 1),
        lambda store: store.take_epoch(9),
        lambda store: store.set_meta({"a": b""}),
    ],
)
def test_a_reader_cannot_write(path: Path, call: Callable[[SqliteRunStore], object]) -> None:
    write_turns(path)
    with SqliteRunStore(path, read_only=True) as reader:
        with pytest.raises(StorageError, match="opened for reading"):
            call(reader)
        reader.checkpoint()
        assert loaded(reader).run.turn == 1


def test_a_reader_of_no_file_is_told_where_it_may_be_and_makes_none(path: Path) -> None:
    with pytest.raises(StorageError, match="WONDER_STORAGE"):
        SqliteRunStore(path, read_only=True)
    assert names_beside(path) == []


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


# --- what may be opened --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 5000])
def test_a_file_that_is_no_runs_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(StorageError, match="move it away"):
            SqliteRunStore(path, read_only=read_only)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE tokens (x)")
    with pytest.raises(StorageError, match="not a run's file"):
        SqliteRunStore(path)


@pytest.mark.parametrize("version", ["3.7.0", "3.45.1", "3.51.2", "3.6.0"])
def test_a_sqlite_that_can_lose_commits_is_refused(version: str) -> None:
    with pytest.raises(StorageError, match="pip install -U apsw"):
        opening.check_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_sound_sqlite_is_accepted(version: str) -> None:
    opening.check_version(version)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*--storage or WONDER_STORAGE"):
        SqliteRunStore(tmp_path / "nowhere" / "run.sqlite")


# --- settings, size, schema ----------------------------------------------------------------------------------------


def test_the_settings_that_durability_rests_on_are_in_force(path: Path) -> None:
    with SqliteRunStore(path) as store:
        assert store.durability() == {
            "sqlite": apsw.sqlite_lib_version(),
            "journal_mode": "wal",
            "synchronous": 2,
            "locking_mode": "exclusive",
            "foreign_keys": 1,
            "trusted_schema": 0,
            "page_size": 2048,
            "user_version": len(schema.MIGRATIONS),
        }


def test_an_idle_run_is_one_small_private_file(path: Path) -> None:
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
        store.commit(record(1, tokens=[full_token()], events=lines(1, 8)))
        store.checkpoint()
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
    assert names_beside(path) == [path.name]
    assert path.stat().st_size <= 32 * 1024
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_table_is_strict_and_has_no_index_beside_its_key(path: Path) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
        )
        found = {str(name): strict for name, strict in tables}
        indexes = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    assert set(found.values()) == {1}
    assert {"meta", "run", "tokens", "groups", "fanouts", "context_log", "iterations", "handled", "outbox"} <= set(found)
    assert indexes == []


def test_what_people_ask_of_a_run_can_be_asked_in_sql(path: Path) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        asked = "SELECT id, node_id, status, path_id, branch_index, attempt, due_us, json_extract(input, '$.url') FROM tokens"
        assert connection.execute(asked).fetchall() == [
            ("t_1", "nœud", "waiting_for_retry", "root.A.2", 2, 3, 1_700_000_000_000_000, "x")
        ]
        assert connection.execute("SELECT json_extract(error, '$.type') FROM tokens").fetchall() == [("Timeout",)]
        assert connection.execute("SELECT cast(line AS text) FROM outbox").fetchall() == [('{"sequence_number":1}',)]


def test_an_older_file_is_migrated_when_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_turns(path)
    newer = (*schema.MIGRATIONS, "CREATE TABLE later (x INTEGER) STRICT; INSERT INTO later SELECT ordinal FROM tokens")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    with SqliteRunStore(path, read_only=True) as reader:
        assert reader.durability()["user_version"] == 2
    with SqliteRunStore(path) as store:
        assert store.durability()["user_version"] == 2
        assert loaded(store).tokens == [full_token()]


def test_a_file_of_a_newer_release_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path))) as other:
        other.pragma("user_version", 99)
    with pytest.raises(StorageError, match="update this one"):
        SqliteRunStore(path)


def test_a_migration_that_fails_leaves_the_file_as_it_was() -> None:
    connection = apsw.Connection(":memory:")
    opening.migrate(connection, ("CREATE TABLE a (x);",), "test")
    with pytest.raises(apsw.SQLError):
        opening.migrate(connection, ("CREATE TABLE a (x);", "CREATE TABLE b (x);", "CREATE TABLE a (x);"), "test")
    connection.execute("ROLLBACK")
    assert connection.pragma("user_version") == 1
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]


def test_the_template_is_what_the_migrations_make(path: Path) -> None:
    opening.template.cache_clear()
    write_turns(path)
    made = apsw.Connection(":memory:")
    opening.migrate(made, schema.MIGRATIONS, "test")
    asked = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        assert connection.execute(asked).fetchall() == made.execute(asked).fetchall()


def test_a_large_input_is_not_written_again_by_every_turn(path: Path) -> None:
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
        run = Run(run_id="run_0192f0c1a2b3_0123456789abcdef", input="x" * 1_000_000)
        store.commit(record(run=run))
        store.checkpoint()
        run.turn = 2
        store.commit(record(run=run))
        assert path.with_name(path.name + "-wal").stat().st_size < 50_000


def test_an_exclusive_store_and_its_lock_are_two_things(path: Path) -> None:
    lock = RunLock(path.with_suffix(".lock"))
    assert lock.try_acquire({"pid": 1, "host": "elsewhere"})
    with SqliteRunStore(path), pytest.raises(StorageError, match=r"pid 1 on elsewhere"):
        SqliteRunStore(path, read_only=True)
    lock.release()
