"""The views over real histories of the core, against the same figures from folding its rows in Python."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, seconds_of, store
from tests.analytics.reference import History, at
from tests.cases.words import edge, fail_always, m_of, node, workflow
from tests.core import RUN_ID as CORE_RUN
from tests.core import attempt_of
from tests.planning.graphs import nested
from tests.test_fold import actions
from wonder_ray.analytics.events import Events
from wonder_ray.definitions.models import GateNode, SubworkflowNode, Undo
from wonder_ray.fold import fold
from wonder_ray.planning.facts import AnswerGate, ContinueRun, Fork, PauseRun, StartRun, TaskLost
from wonder_ray.state import TERMINAL_RUN, ErrorRecord, Lineage

if TYPE_CHECKING:
    from tests.core import CoreRun
    from wonder_ray.definitions.models import WorkflowDefinition

RUN = run_id(1)


def ask(events: Events, view: str, run: str = RUN) -> list[dict[str, Any]]:
    return events.sql(f"SELECT * FROM {view} WHERE workflow_run_id = ?", [run]).dicts()


def check_attempts(found: list[dict[str, Any]], history: History) -> None:
    told = {
        (row["token_id"], row["attempt"]): (
            row["node_id"], row["outcome"], row["ready_at"], row["dispatched_at"], row["ended_at"], row["queue_ms"],
            row["open_ms"], row["run_ms"], row["tokens"], row["cost_usd"], row["error_type"], row["message"],
        )
        for row in found
    }  # fmt: skip
    meant = {
        (a.token_id, a.attempt): (
            a.node_id, a.outcome, at(a.ready_us), at(a.dispatched_us), None if a.ended_us is None else at(a.ended_us),
            (a.dispatched_us - a.ready_us) / 1000, a.open_ms, a.end.get("duration_ms"), a.end.get("tokens"),
            a.end.get("cost_usd"), (a.end.get("error") or {}).get("type"), a.end.get("message"),
        )
        for a in history.attempts
    }  # fmt: skip
    assert len(found) == len(told)
    assert told == meant


def check_tokens(found: list[dict[str, Any]], history: History) -> None:
    told = {
        row["token_id"]: (
            row["node_id"], row["parent_id"], row["transition_id"], row["group_id"], row["fanout_id"], row["branch"],
            row["status"], row["created_at"], row["created_sequence"], row["created_turn"],
            row["ended_at"], row["ended_sequence"], row["ended_turn"],
        )
        for row in found
    }  # fmt: skip
    meant = {}
    for life in history.lives.values():
        token, ended = life.token, life.ended or {}
        meant[token.id] = (
            token.node_id, token.parent_id, token.transition_id, token.group_id, token.fanout_id, token.index, life.status,
            at(life.created["timestamp"]), life.created["sequence_number"], life.created["turn"],
            at(ended["timestamp"]) if ended else None, ended.get("sequence_number"), ended.get("turn"),
        )  # fmt: skip
    assert len(found) == len(told)
    assert told == meant


def check_run(found: list[dict[str, Any]], history: History, core: CoreRun) -> None:
    (row,) = found
    state = core.state.run
    ended = state.status in TERMINAL_RUN
    assert row["status"] == str(state.status)
    assert row["started_at"] == at(history.rows[0]["timestamp"])
    assert row["ended_at"] == (at(history.rows[-1]["timestamp"]) if ended else None)
    assert row["duration_ms"] == (history.duration_ms if ended else None)
    assert row["events"] == len(history.rows)
    assert row["attempts"] == len(history.attempts)
    assert row["failed_attempts"] == sum(r["event_type"] == "task.failed" for r in history.rows)
    assert row["resumptions"] == sum(r["event_type"] == "run.resumed" for r in history.rows)
    assert (row["tokens"] or 0) == sum(a.end.get("tokens") or 0 for a in history.attempts)
    assert (row["cost_usd"] or 0) == pytest.approx(sum(a.end.get("cost_usd") or 0 for a in history.attempts))
    assert row["error_type"] == (None if state.error is None or not ended else state.error.type)


def check_all(events: Events, core: CoreRun, run: str = RUN) -> None:
    history = History(core.rows)
    check_attempts(ask(events, "attempts", run), history)
    check_tokens(ask(events, "tokens", run), history)
    check_run(ask(events, "runs", run), history, core)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    definition=nested(3),
    seed=st.integers(0, 2**20),
    room=st.integers(1, 5),
    crash=st.sampled_from([None, 2, 5, 9]),
    steps=st.sampled_from([7, 150]),
)
def test_the_views_of_any_run_say_what_folding_it_says(
    definition: WorkflowDefinition, seed: int, room: int, crash: int | None, steps: int
) -> None:
    core = Measured(definition, actions(definition, seed), room=room, crash_at=crash, checked=False)
    core.start()
    for _ in range(steps):
        if not core.step():
            break
    with tempfile.TemporaryDirectory() as folder:
        events = Events(store(Path(folder), {RUN: core}))
        check_all(events, core)
        events.close()


def test_tokens_of_different_runs_that_bear_the_same_ids_are_kept_apart(storage: Path) -> None:
    cores = {run_id(n): Measured(crawl(), {"fetch": flaky_fetch(attempts=n % 3)}, room=n).run() for n in (1, 2, 3)}
    events = Events(store(storage, cores))
    for run, core in cores.items():
        check_all(events, core, run)
    assert events.sql("SELECT count(*) FROM runs").rows == [(3,)]


def test_an_attempt_that_ran_out_of_time_and_one_that_was_withdrawn_are_told_apart(storage: Path) -> None:
    definition = workflow(
        [node("begin"), node("quick"), node("slow"), node("never", timeout_s=0.5), node("late"), node("end")],
        edge("begin", "quick", group="race"),
        edge("begin", "slow", group="race"),
        edge("begin", "never"),
        edge("never", "late", on="timed_out"),
        *(edge(source, "end", join=m_of(1, "race", "cancel")) for source in ("quick", "slow")),
    )
    seconds = {"slow": 5.0, "never": 3.0}
    core = Measured(definition, durations=lambda token: seconds.get(token.node_id, seconds_of(token) / 10)).run()
    events = Events(store(storage, {RUN: core}))
    check_all(events, core)
    outcomes = dict(events.sql("SELECT node_id, outcome FROM attempts").rows)
    assert outcomes == {
        "begin": "completed", "quick": "completed", "slow": "cancelled", "never": "timed_out",
        "late": "completed", "end": "completed",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "batched"), [("lost", False), ("lost", True), ("oom", False), ("node", False)])
def test_an_attempt_whose_process_died_is_lost(storage: Path, kind: str, batched: bool) -> None:
    core = Measured(workflow([node("work")]))
    core.start()
    token = core.flying.pop()
    gone = ErrorRecord("WorkerDied", "killed", kind=kind, node_id="work")
    core.turn(TaskLost(**attempt_of(token), error=gone, batched=batched))
    while core.step():
        pass
    events = Events(store(storage, {RUN: core}))
    check_all(events, core)
    found = events.sql("SELECT outcome, error_type, run_ms IS NULL FROM attempts ORDER BY attempt").rows
    assert found == [("lost", "WorkerDied", True), ("completed", None, False)]


# --- runs that wait, stop, take back and begin half-way ------------------------------------------------------------


def test_how_a_run_stands_is_told_at_every_stage(storage: Path) -> None:
    asked = GateNode(id="ask", output={"state.answer": "result"})
    definition = workflow([node("begin"), asked, node("end")], edge("begin", "ask"), edge("ask", "end"))
    core = Measured(definition)
    core.start()
    seen = []
    for number, act in enumerate(
        (
            core.run_on,
            lambda: core.say(PauseRun(reason="lunch")),
            lambda: core.say(ContinueRun()),
            lambda: core.say(AnswerGate(gate="ask", answer=42)),
            core.run_on,
        )
    ):
        act()
        events = Events(store(storage / str(number), {RUN: core}))
        check_all(events, core)
        seen.append(events.sql("SELECT status FROM runs").rows[0][0])
    assert seen == ["waiting", "paused", "waiting", "running", "completed"]


def test_work_that_is_taken_back_has_attempts_of_its_own(storage: Path) -> None:
    undo = Undo(action="m:undo", input={"id": "result"})
    definition = workflow([node("book", undo=undo), node("pay", "fail_always")], edge("book", "pay"))
    core = Measured(definition, {"pay": fail_always})
    core.start()
    while core.status != "compensating":
        assert core.step()
    check_all(Events(store(storage / "1", {RUN: core})), core)
    core.run_on()
    events = Events(store(storage / "2", {RUN: core}))
    check_all(events, core)
    outcomes = events.sql("SELECT node_id, outcome FROM attempts ORDER BY sequence_number").rows
    assert outcomes == [("book", "completed"), ("pay", "failed"), ("undo:book", "completed")]


def test_a_forked_run_begins_with_the_tokens_of_its_source(storage: Path) -> None:
    source = Measured(crawl(), {"fetch": flaky_fetch()}).run()
    for sequence in range(8, len(source.rows), 7):
        state = fold(CORE_RUN, source.rows, at=sequence)
        fork = Measured(crawl())
        begun = Fork(source=Lineage(run_id=CORE_RUN, sequence=state.run.sequence), state=state, changes={})
        fork.turn(StartRun(input=None, workflow_name="crawl", workflow_version="v", fork=begun))
        fork.run_on()
        check_all(Events(store(storage / str(sequence), {RUN: fork})), fork)


def test_a_child_run_has_a_row_of_its_own(storage: Path) -> None:
    definition = workflow([node("begin"), SubworkflowNode(id="child", workflow="inner")], edge("begin", "child"))
    parent, child = Measured(definition).run(), Measured(workflow([node("work")])).run()
    store(storage, {RUN: parent})
    events = Events(store(storage, {run_id(2): child}, parent_run_id=RUN, root_run_id=RUN, workflow_name="inner"))
    check_all(events, parent)
    check_all(events, child, run_id(2))
    family = events.sql("SELECT workflow_run_id, parent_run_id, attempts FROM runs WHERE root_run_id = ? ORDER BY 1", [RUN]).rows
    assert family == [(RUN, None, 1), (run_id(2), RUN, 1)]
