"""The table "Decision -> Event Mapping": one case per row.

Production planners decide on real runs, and every decision that they made is looked at: it yields the row's workflow event and
trace event, and nothing else. The row of `SET_CONTEXT` names no trace event, where "Decision Matrix" and "Edge Cases" both name
`operation.context.field_set` for it; two against one, so that it is traced.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import pytest

from tests.spec.flows import PAGES, boom, crawl, one_node
from tests.spec.watching import Step, WatchedRun
from wonder_ray.coordinator.apply import events_of
from wonder_ray.decisions import UpdateTokenStatus
from wonder_ray.state import TERMINAL_TOKEN, ErrorRecord, TokenStatus

ACTIONS = {"list": lambda value: value, "fetch": lambda value: value.upper(), "report": lambda value: value}


class Row(NamedTuple):
    """One row: the decision (or the fact that stands in its place), and what comes of it."""

    what: str
    events: tuple[str, ...]
    traces: tuple[str, ...] = ()
    status: TokenStatus | None = None
    fails: bool = False


ROWS = {
    "CREATE_TOKEN": Row("CREATE_TOKEN", ("token.created",), ("operation.tokens.created",)),
    "BATCH_CREATE_TOKENS": Row("BATCH_CREATE_TOKENS", ("fan_out.started",), ("operation.tokens.created",) * len(PAGES)),
    "UPDATE_TOKEN_STATUS completed": Row(
        "UPDATE_TOKEN_STATUS",
        ("node_completed", "token.completed"),
        ("operation.tokens.status_updated",),
        status=TokenStatus.COMPLETED,
    ),
    "UPDATE_TOKEN_STATUS failed": Row(
        "UPDATE_TOKEN_STATUS",
        ("node_failed", "token.failed"),
        ("operation.tokens.status_updated",),
        status=TokenStatus.FAILED,
        fails=True,
    ),
    "MARK_WAITING": Row("MARK_WAITING", ("token.waiting",)),
    "SET_CONTEXT": Row("SET_CONTEXT", ("context.updated",), ("operation.context.field_set",)),
    "APPLY_OUTPUT": Row("APPLY_OUTPUT", ("context.output_applied",)),
    "MERGE_BRANCHES": Row("MERGE_BRANCHES", ("branches.merged",)),
    "ACTIVATE_FAN_IN": Row("ACTIVATE_FAN_IN", ("fan_in.completed",)),
    "COMPLETE_WORKFLOW": Row("COMPLETE_WORKFLOW", ("workflow.completed",)),
    "FAIL_WORKFLOW": Row("FAIL_WORKFLOW", ("workflow.failed",), fails=True),
    "(Executor callback) task.completed": Row("TaskSucceeded", ("task.completed",)),
    "(Executor callback) task.failed": Row("TaskErrored", ("task.failed",), fails=True),
    "(Initialization)": Row("StartRun", ("workflow.started",)),
}


def run(*, fails: bool = False) -> WatchedRun:
    actions = ACTIONS | ({"fetch": boom} if fails else {})
    return WatchedRun(crawl(), actions).run(PAGES)  # type: ignore[return-value] # `run` returns itself


def has_status(step: Step, status: TokenStatus | None) -> bool:
    return status is None or (isinstance(step.decision, UpdateTokenStatus) and step.decision.status is status)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_decision_to_event_mapping(row: Row) -> None:
    steps = [step for step in run(fails=row.fails).of_kind(row.what) if has_status(step, row.status)]
    assert steps, f"no run makes {row.what}"
    assert {(step.events, step.traces) for step in steps} == {(row.events, row.traces)}


def test_mark_for_dispatch() -> None:
    steps = run().steps
    for step in steps:
        if step.what == "MARK_FOR_DISPATCH":
            assert step.events == ("task.dispatched",)
        else:
            assert "dispatch.batch.start" not in step.traces
    batches = [list(group) for what, group in groupby(steps, lambda step: step.what) if what == "MARK_FOR_DISPATCH"]
    assert [len(batch) for batch in batches] == [1, len(PAGES), 1]
    for batch in batches:  # one trace event per batch, at its start
        assert [step.traces for step in batch] == [("dispatch.batch.start",)] + [()] * (len(batch) - 1)


@pytest.mark.parametrize("status", [status for status in TokenStatus if status not in TERMINAL_TOKEN])
def test_a_status_that_is_not_terminal_emits_nothing(status: TokenStatus) -> None:
    run = WatchedRun(one_node())
    run.start(1)
    decision = UpdateTokenStatus(token_id=run.flying[0].id, status=status, error=ErrorRecord("E", "m"))
    assert list(events_of(run.state, decision)) == []


@pytest.mark.parametrize("fails", [False, True])
def test_every_workflow_event_comes_of_a_decision_or_an_observation(fails: bool) -> None:
    finished = run(fails=fails)
    assert [name for step in finished.steps for name in step.events] == [row["event_type"] for row in finished.rows]


@pytest.mark.parametrize("fails", [False, True])
def test_without_traces_the_workflow_events_are_the_same(fails: bool) -> None:
    traced = run(fails=fails)
    plain = WatchedRun(crawl(), traced.actions)
    plain.machine._tracer = None
    plain.run(PAGES)
    assert plain.lines == traced.lines
    assert traced.traces
    assert plain.traces == []
