"""`wonder replay` on a prepared storage: runs come out as recorded, and what was changed is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import COMPLETED, FAILED, OPEN, QUEUED, SHIPPED, Prepared, prepare
from wonder_ray.errors import HistoryConflictError
from wonder_ray.events.query import EventReader
from wonder_ray.planning import router
from wonder_ray.reading import Reader
from wonder_ray.state import TokenStatus
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.records import TurnRecord
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call


@pytest.mark.parametrize("run_id", [COMPLETED, FAILED])
def test_a_run_comes_out_as_recorded(look: Call, run_id: str, prepared: Prepared) -> None:
    found = look("replay", run_id)
    run = prepared.completed if run_id == COMPLETED else prepared.failed
    assert (found.code, found.err) == (0, "")
    said = f"{run_id}: {len(run.rows)} events of {run.turns} turns come out as recorded; its state is not stored here\n"
    assert found.out == said


def test_the_stored_state_of_an_open_run_is_compared(look: Call, prepared: Prepared) -> None:
    assert "its state is what they fold to" in look("replay", OPEN).out
    assert look("replay", OPEN, "--json").json == {
        "equal": True,
        "run_id": OPEN,
        "turns": 3,
        "events": len(prepared.open.rows),
        "differences": [],
        "state": [],
    }


def test_what_planners_do_differently_is_shown(look: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "output_writes", lambda *given: ())
    found = look("replay", COMPLETED)
    assert found.code == 1
    lines = found.out.splitlines()
    assert lines[0].startswith(f"{COMPLETED}: event ")
    assert lines[1].startswith("  recorded  context.output_applied ")
    assert lines[2].startswith("  replayed  context.output_applied ")
    assert "state.urls" in lines[1]
    assert "state.urls" not in lines[2]
    told = look("replay", COMPLETED, "--json").json
    assert told["equal"] is False
    assert told["differences"][0]["recorded"]["metadata"]["writes"][0]["target"] == "state.urls"


def test_a_stored_state_that_was_changed_is_shown(tmp_path: Path) -> None:
    prepare(tmp_path)
    path = Layout(tmp_path).run_file(OPEN)
    with SqliteRunStore(path) as store:
        stored = store.load()
        assert stored is not None
        token = next(token for token in stored.tokens if token.status is TokenStatus.DISPATCHED)
        token.status = TokenStatus.FAILED
        store.commit(TurnRecord(run=stored.run, epoch=1, tokens=[token]))
    found = invoke("replay", OPEN, "--storage", tmp_path)
    assert (found.code, found.out) == (1, f"{OPEN}: tokens.{token.id}.status: stored 'failed', folded 'dispatched'\n")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE tokens SET status = 'completed' WHERE status = 'failed'")
    connection.close()
    damaged = invoke("replay", OPEN, "--storage", tmp_path)
    assert damaged.code == 1
    assert "does not match its checksum" in damaged.out


def test_while_a_coordinator_works_its_run_may_be_cut_anywhere(tmp_path: Path) -> None:
    prepare(tmp_path)
    lock = RunLock(Layout(tmp_path).lock_file(OPEN))
    assert lock.try_acquire({"pid": 1, "node": "n", "host": "h", "epoch": 2, "placement": "dedicated", "since_us": 1})
    found = invoke("replay", OPEN, "--json", "--storage", tmp_path)
    lock.release()
    assert (found.code, found.json["events"], found.json["state"]) == (0, SHIPPED, None)


def test_a_run_without_events_and_one_without_its_beginning_are_refused(
    look: Call, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = look("replay", QUEUED)
    assert queued.code == 2
    assert "has no events yet" in queued.err
    read = EventReader.read
    monkeypatch.setattr(EventReader, "read", lambda self, run_id, after=0: read(self, run_id, 3))
    with pytest.raises(HistoryConflictError, match="retention has removed its beginning"):
        Reader(prepared.storage).replay(COMPLETED)
