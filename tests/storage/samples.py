"""Records to store: full ones, plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.state import Ending, ErrorRecord, Fanout, Group, Lineage, Run, RunStatus, Token, TokenStatus, Wait
from wonder_ray.storage.records import StoredRun, TurnRecord
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from pathlib import Path

RUN_ID = "run_0192f0c1a2b3_0123456789abcdef"


def record(turn: int = 1, **changes: Any) -> TurnRecord:
    """A turn without events, unless `changes` say more."""
    return TurnRecord(**{"run": Run(run_id=RUN_ID, turn=turn), "epoch": 1, **changes})


def lines(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(sequence, f'{{"sequence_number":{sequence}}}'.encode()) for sequence in range(first, last + 1)]


def full_token(ordinal: int = 1) -> Token:
    return Token(
        id=f"t_{ordinal}",
        ordinal=ordinal,
        node_id="nœud",
        status=TokenStatus.WAITING_FOR_RETRY,
        path_id="root.A.2",
        parent_id="t_0",
        transition_id="a->b",
        scope_id="t_0",
        group_id="g_1",
        fanout_id="f_1",
        index=2,
        join_id="g_1",
        attempt=3,
        epoch=2,
        failures={"0": 1, "user": 2},
        solo=True,
        due_us=1_700_000_000_000_000,
        input={"url": "x"},
        result=[1.5, None],
        error=ErrorRecord("Timeout", "took too long", retryable=False, kind="timeout", node_id="a"),
        cause=ErrorRecord("E", ""),
        wait=Wait(since_us=1, at=2, deadline_us=3, assignee="ann", level=1, asked=2, shown={"q": 1}),
        race_id="r_1",
        holds=("mutex:m",),
        wanted=("key:1",),
        wanted_at=7,
        undo_of="t_0",
        child_id=RUN_ID,
    )


def full_run() -> Run:
    return Run(
        run_id=RUN_ID,
        workflow_name="crawl",
        workflow_version="3",
        status=RunStatus.FAILED,
        input={"site": "é"},
        output=[1],
        error=ErrorRecord("E", "m"),
        started_us=1,
        ended_us=2,
        deadline_us=3,
        cancel_reason="why",
        pause_reason="because",
        ending=Ending(status=RunStatus.FAILED, error=ErrorRecord("E", "m"), reason="r", output=[1], compensate=True),
        depth=2,
        forked_from=Lineage(run_id=RUN_ID, sequence=7),
        turn=9,
        sequence=4,
    )


def group(ordinal: int = 1, **changes: Any) -> Group:
    return Group(id=f"g_{ordinal}", ordinal=ordinal, name="pages", opener_id="t_1", **changes)


def fanout(ordinal: int = 1, **changes: Any) -> Fanout:
    return Fanout(id=f"f_{ordinal}", ordinal=ordinal, transition_id="a->b", parent_id="t_1", count=2, **changes)


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
