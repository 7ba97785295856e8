"""What is told of a run without changing it: values over its state, and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import RUN_ID, CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import ComputeNode, GateNode, SignalNode, SubworkflowNode, TimerNode
from wonder_ray.errors import ExpressionError
from wonder_ray.fold import fold
from wonder_ray.planning import facts
from wonder_ray.planning.queries import evaluate_query, gates_of, waiting_of


def told(run: CoreRun, most: int | None = None) -> list[dict[str, Any]]:
    """What a live run waits for; what its history tells without a planner must be the same."""
    live, folded = (waiting_of(state, run.graph, most) for state in (run.state, fold(RUN_ID, run.rows)))
    assert live == folded
    return [{field: getattr(found, field) for field in ("kind", "node_id", "name")} for found in live]


def test_a_query_sees_the_run_and_changes_nothing() -> None:
    run = started(flow(ComputeNode(id="a", output={"state.n": "input.n + 1"}), GateNode(id="g"), start=("a", "g")), {"n": 1})
    assert evaluate_query(run.state, "state.n * 10 + input.n") == 21
    with pytest.raises(ExpressionError):
        evaluate_query(run.state, "state.nothing")
    with pytest.raises(ExpressionError):
        evaluate_query(run.state, "1 +")


def test_everything_that_a_run_waits_for_is_told_what_needs_somebody_first() -> None:
    definition = flow(
        TimerNode(id="timer", duration_s=60),
        SubworkflowNode(id="child", workflow="other"),
        GateNode(id="gate", answer={"type": "boolean"}, assignee="'ann'", input={"sum": "5"}, timeout_s=9),
        SignalNode(id="sig", signal="paid", payload={"type": "object"}, timeout_s=7),
        ComputeNode(id="s"),
        act("each"),
        act("held", guard="has(state.go)"),
        transitions=(edge("s", "each", foreach="[]", group="g", open=True),),
        start=("timer", "child", "gate", "sig", "s", "held"),
    )
    run = started(definition)
    assert run.status == "waiting"
    child = next(iter(run.state.children))
    expected = [
        {"kind": "gate", "node_id": "gate", "name": None},
        {"kind": "signal", "node_id": "sig", "name": "paid"},
        {"kind": "group", "node_id": "s", "name": "g"},
        {"kind": "guard", "node_id": "held", "name": None},
        {"kind": "timer", "node_id": "timer", "name": None},
        {"kind": "child", "node_id": "child", "name": child},
    ]
    assert told(run) == expected
    assert told(run, most=2) == expected[:2]
    (gate,) = gates_of(run.state, run.graph)
    started_us = run.state.run.started_us or 0
    assert (gate.assignee, gate.shown, gate.asked, gate.schema) == ("ann", {"sum": 5}, 1, {"type": "boolean"})
    assert (gate.since_us, gate.deadline_us) == (started_us, started_us + 9_000_000)
    waits = {each.node_id: each for each in waiting_of(run.state, run.graph)}
    deadlines = {node: (each.deadline_us or started_us) - started_us for node, each in waits.items()}
    assert deadlines == {"gate": 9_000_000, "sig": 7_000_000, "s": 0, "held": 0, "timer": 60_000_000, "child": 0}
    tokens = {node: run.state.tokens[each.token_id].node_id for node, each in waits.items() if each.token_id is not None}
    assert tokens == {node: node for node in ("gate", "sig", "held", "timer", "child")}
    run.say(facts.AnswerGate(gate="gate", answer="perhaps"))
    assert gates_of(run.state)[0].asked == 2
    run.say(facts.PauseRun(reason="lunch"))
    assert told(run)[0] == {"kind": "pause", "node_id": "", "name": "lunch"}


def test_who_waits_for_a_lock_is_told_from_who_waits_for_a_guard() -> None:
    run = started(flow(GateNode(id="g", mutex=("m",)), GateNode(id="h", mutex=("m",)), start=("g", "h")))
    assert [each["kind"] for each in told(run)] == ["gate", "lock"]
