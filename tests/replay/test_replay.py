"""Replaying: from the events alone, whatever order, room, failures and crashes made them; and every tampering is found."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.definitions import all_cases
from tests.cases.running import run_in_time
from tests.cases.words import all_of, append, edge, node, workflow
from tests.core import RUN_ID, CoreRun
from tests.planning.graphs import nested
from tests.test_fold import run_any
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import ActionError, HistoryConflictError
from wonder_ray.planning import dispatching, lifecycle, router
from wonder_ray.replay import replay, state_differences

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

CASES = all_cases()


def again(run: CoreRun, rows: list[dict[str, Any]] | None = None, **how: bool) -> Any:
    return replay(run.graph, RUN_ID, run.rows if rows is None else rows, **how)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(3), seed=st.integers(0, 2**20), crash=st.booleans())
def test_any_history_replays_from_its_events_alone(definition: WorkflowDefinition, seed: int, crash: bool) -> None:
    run = run_any(definition, seed, crash_every_turn=crash, checked=False)
    assert again(run).differences == ()


@pytest.mark.parametrize("crash_at", [None, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_replays(case: Any, crash_at: int | None) -> None:
    run = run_in_time(case, checked=False, crash_at=crash_at)
    found = again(run)
    assert found.differences == ()
    assert (found.turns, found.events) == (run.state.run.turn, len(run.rows))


def flow() -> WorkflowDefinition:
    return workflow(
        [node("a"), node("b", input={"value": "item"}, retry=(Retry(max_attempts=2),)), node("join")],
        edge("a", "b", foreach="[1, 2]", group="g"),
        edge("b", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )


def flaky() -> CoreRun:
    failures = [ActionError("Broken", "once")]

    def b(value: Any) -> Any:
        if failures:
            raise failures.pop()
        return value

    return CoreRun(flow(), {"b": b}).run()


def test_rows_of_the_dataset_replay_too() -> None:
    run = flaky()
    epoch = dt.datetime.fromtimestamp(0, dt.UTC)
    nothing = {"cost_usd": None, "message": None, "workspace_id": "default"}
    rows = [nothing | row | {"turn_now": epoch + dt.timedelta(microseconds=row["turn_now"])} for row in run.rows]
    assert again(run, rows).equal


def test_every_row_that_is_tampered_with_is_found() -> None:
    run = flaky()
    facts = {"workflow.started", "task.completed", "task.failed"}
    for at, row in enumerate(run.rows):
        if row["event_type"] in facts:
            continue  # facts are believed: they come from outside
        other = row | ({"message": "changed"} if row["event_type"].endswith("failed") else {"path_id": "root.x"})
        if row["event_type"] in {
            "group.opened",
            "context.output_applied",
            "branches.merged",
            "fan_in.completed",
            "workflow.completed",
        }:
            other = row | {"metadata": row["metadata"].replace("g_", "g_x").replace("[1,2]", "[2,1]")}
        if other["event_type"] != "fan_out.started" and msgspec.json.encode(other) != msgspec.json.encode(row):
            found = again(run, [*run.rows[:at], other, *run.rows[at + 1 :]])
            assert found.differences[0].sequence_number == at + 1, row


def test_what_is_missing_and_what_is_too_much_are_told_apart() -> None:
    run = flaky()
    short = again(run, run.rows[:-1]).differences
    assert [(d.sequence_number, d.recorded, d.replayed and d.replayed["event_type"]) for d in short] == [
        (len(run.rows), None, "workflow.completed")
    ]
    surplus = run.rows[-1] | {"sequence_number": len(run.rows) + 1, "event_type": "fan_in.reset"}
    surplus |= {"metadata": '{"join_id":"incoming:x:"}', "node_id": "x"}
    more = again(run, [*run.rows, surplus]).differences
    assert [(d.sequence_number, d.replayed) for d in more] == [(len(run.rows) + 1, None)]
    assert more[0].recorded["event_type"] == "fan_in.reset"


@pytest.mark.parametrize("count", range(1, 20))
def test_a_history_that_is_still_being_written_may_end_anywhere(count: int) -> None:
    run = flaky()
    assert again(run, run.rows[:count], open_end=True).equal


def test_after_a_difference_the_rest_is_replayed_from_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    run = flaky()
    monkeypatch.setattr(router, "attempt_failed", lambda graph, token, error, now_us: [])
    found = again(run)
    assert [difference.turn for difference in found.differences] == [3]
    assert (found.turns, found.equal) == (run.state.run.turn, False)


def test_what_the_planners_raise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = flaky()

    def broken(*given: object) -> list[object]:
        raise ValueError("no plan")

    monkeypatch.setattr(router, "attempt_failed", broken)
    difference = again(run).differences[0]
    assert (difference.turn, difference.error) == (3, "ValueError: no plan")
    assert difference.recorded["event_type"] == "task.retry_scheduled"


def test_an_alarm_that_finds_less_than_it_did_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = workflow([node("slow", timeout_s=5), node("mend")], edge("slow", "mend", on="timed_out"))
    run = CoreRun(slow, durations=lambda token: {"slow": 60}.get(token.node_id, 1)).run()
    assert again(run).equal
    monkeypatch.setattr(router.Router, "overdue", lambda self, state, now_us: [])
    assert [d.recorded["event_type"] for d in again(run).differences] == ["task.failed"]
    monkeypatch.undo()
    late = CoreRun(workflow("a", timeout_s=3), durations=lambda _token: 4).run()
    assert again(late).equal
    monkeypatch.setattr(router, "time_out", lambda state, now_us: [])
    assert [d.recorded["event_type"] for d in again(late).differences] == ["token.cancelled"]
    assert lifecycle.time_out is not router.time_out  # type: ignore[attr-defined] # what was replaced


def test_input_that_renders_differently_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = flaky()
    monkeypatch.setattr(dispatching, "render_input", lambda state, node, token: {"value": 7} if node.input else {})
    assert [d.recorded["metadata"]["input"] for d in again(run).differences] == [{"value": 1}]


def test_a_gap_is_refused() -> None:
    run = flaky()
    with pytest.raises(HistoryConflictError, match="gap or a double"):
        replay(compile_graph(flow()), RUN_ID, [*run.rows[:3], *run.rows[4:]])


def test_states_are_compared_to_the_place() -> None:
    one = {"tokens": {"t": {"status": "pending", "epoch": 1}}, "run": {"turn": 1}}
    other = {"tokens": {"t": {"status": "completed"}, "u": {}}, "run": {"turn": 1}}
    assert state_differences(one, one) == []
    assert state_differences(one, other) == [
        "tokens.t.status: stored 'pending', folded 'completed'",
        "tokens.t.epoch: stored 1, folded nothing",
        "tokens.u: stored nothing, folded {}",
    ]
    assert len(state_differences({str(i): i for i in range(9)}, {})) == 5
