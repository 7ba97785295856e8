"""Expressions that fail where few look: guards, keys, times, assignees, undo inputs, and conditions behind failures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import (
    ActionNode,
    ComputeNode,
    Escalation,
    GateNode,
    Join,
    SubworkflowNode,
    TerminateNode,
    TimerNode,
    Undo,
)
from wonder_ray.planning import facts


def failed_with(run: CoreRun, kind: str, *words: str) -> None:
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == kind
    for word in words:
        assert word in run.error.message


# --- expressions that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (ActionNode(id="a", action="m:f", guard="state.x > 1"), ("guard or concurrency_key", "state.x")),
        (ActionNode(id="a", action="m:f", concurrency_key="1.5"), ("it must be a text or a whole number",)),
        (ActionNode(id="a", action="m:f", concurrency_key="true"), ("it must be a text or a whole number",)),
        (TimerNode(id="a", duration_s="'soon'"), ("duration_s", "it must be a number of seconds")),
        (TimerNode(id="a", duration_s="true"), ("it must be a number of seconds",)),
        (TimerNode(id="a", duration_s="-1"), ("it must be a number of seconds",)),
        (TimerNode(id="a", duration_s="1e15"), ("it must be a number of seconds",)),
        (TimerNode(id="a", until="'soon'"), ("until", "a time with its zone")),
        (TimerNode(id="a", until="false"), ("a time with its zone",)),
        (TimerNode(id="a", until="-1"), ("a time with its zone",)),
        (GateNode(id="a", assignee="state.x"), ("gate", "state.x")),
        (SubworkflowNode(id="a", workflow="w", input={"x": "state.x"}), ("subworkflow", "state.x")),
        (TerminateNode(id="a", output={"output.x": "state.x"}), ("output mapping", "state.x")),
    ],
)
def test_an_expression_that_fails_fails_its_node(node: Any, words: tuple[str, ...]) -> None:
    run = started(flow(node))
    failed_with(run, "ExpressionError", *words)
    assert run.error is not None
    assert run.error.node_id == "a"


def test_a_key_may_be_a_text_or_a_number() -> None:
    for key in ("'x'", "7"):
        run = CoreRun(flow(act("a", concurrency_key=key))).run()
        assert run.status == "completed"


def test_a_timer_until_seconds_since_1970() -> None:
    assert started(flow(TimerNode(id="t", until="2000000000"))).state.next_due_us() == 2_000_000_000_000_000
    assert started(flow(TimerNode(id="t", until="2000000000.5"))).state.next_due_us() == 2_000_000_000_500_000


def test_an_escalation_that_cannot_be_evaluated_fails_the_gate() -> None:
    run = started(flow(GateNode(id="g", escalate=(Escalation(after_s=1, assignee="state.x"),))))
    run.pass_time(1)
    failed_with(run, "ExpressionError", "escalation")


def test_an_undo_whose_input_cannot_be_evaluated_fails_its_node() -> None:
    for output in ({}, {"state.a": "1"}):
        node = act("a", output=output, undo=Undo(action="m:u", input={"x": "state.none"}))
        failed_with(CoreRun(flow(node)).run(), "ExpressionError", "undo input")


def test_a_guard_that_breaks_while_a_gate_is_open_fails_the_gate() -> None:
    run = started(flow(GateNode(id="g", guard="!has(state.x) || state.x > 1"), GateNode(id="h")))
    run.say(facts.UpdateState(changes={"state.x": "text"}))
    failed_with(run, "ExpressionError", "guard")


def test_the_output_of_a_run_that_is_terminated_may_fail() -> None:
    run = started(flow(TerminateNode(id="end"), output={"x": "state.none"}))
    failed_with(run, "ExpressionError", "the workflow's output mapping")


@pytest.mark.parametrize("on", ["failed", "cancelled"])
@pytest.mark.parametrize("how", [{"when": "state.none"}, {"foreach": "1"}])
def test_routing_a_failure_or_a_cancel_may_fail_itself(on: str, how: dict[str, Any]) -> None:
    definition = flow(
        act("a"),
        act("b"),
        act("x"),
        act("y"),
        transitions=(edge("a", "x", on=on, **how), edge("b", "y", cancel=("a",))),
        start=("a", "b"),
    )
    run = CoreRun(definition, {"a": lambda: 1 / 0})
    run.start()
    run.finish("a" if on == "failed" else "b")
    failed_with(run, "ExpressionError")


def test_routing_the_failure_of_a_group_may_fail_itself() -> None:
    definition = flow(
        act("s"),
        act("a"),
        act("x"),
        transitions=(edge("s", "a", group="g"), edge("s", "x", on="group_failed(g)", when="state.none")),
    )
    failed_with(CoreRun(definition, {"a": lambda: 1 / 0}).run(), "ExpressionError", "routing the failure of group 'g'")


def test_a_threshold_that_cannot_be_evaluated_tolerates_nothing() -> None:
    definition = flow(
        act("s"),
        act("a"),
        act("j"),
        transitions=(
            edge("s", "a", spawn_count=2, group="g"),
            edge("a", "j", join=Join(over="g", strategy="m_of_n", m="results[5]")),
        ),
    )
    failed_with(CoreRun(definition, {"a": lambda: 1 / 0}).run(), "ExpressionError", "join over 'g'")


def test_a_threshold_that_can_no_longer_be_evaluated_tolerates_no_failure() -> None:
    """Of three members one is asked for, so that two might fail; but that is no longer known."""
    definition = flow(
        ComputeNode(id="s", output={"state.m": "1"}),
        *(act(node) for node in ("a", "b", "j")),
        transitions=(
            edge("s", "a", spawn_count=3, group="g"),
            edge("s", "b"),
            edge("a", "j", join=Join(over="g", strategy="m_of_n", m="state.m")),
        ),
    )
    run = CoreRun(definition, {"a": lambda: 1 / 0})
    run.start()
    run.say(facts.UpdateState(changes={"state.m": "one"}))
    run.finish("a")
    failed_with(run, "ZeroDivisionError", "division by zero")
    assert run.events("group.failure_tolerated") == []
