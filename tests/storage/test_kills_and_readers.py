"""Processes that share a run's file: a writer that is killed, and readers beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.storage.samples import loaded, names_beside, record, write_turns
from wonder_ray.errors import StorageError
from wonder_ray.storage import opening
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable

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
