"""Gates, signals, timers, ends, children, claims, races and effects: every warning once, and sound definitions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.definitions_by_hand import SIGNAL, TIMER, UNDONE, line, named, node, problems, race, task, with_edge, with_join
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.validation import check

Case = tuple[dict[str, Any], str | None, str, str, str]

WARNINGS: list[Case] = [
    (node(guard="false"), "a", "guard", "the guard never holds", "remove the guard, or the node"),
    (
        node(guard="result.x"),
        "a",
        "guard",
        "result is what this node itself returns, so its guard has none",
        "keep it in the state",
    ),
    (node(kind="gate", assignee="result"), "a", "assignee", "so its assignee has none", "keep it in the state"),
    (node(concurrency_key="item"), "a", "concurrency_key", "item has no value here", "fan out"),
    (
        node(answer="boolean", timeout_s=5, escalate={"after_s": 5, "assignee": "'x'"}),
        "a",
        "escalate.0.after_s",
        "after 5 s the gate has timed out (timeout_s 5)",
        "lower it",
    ),
    (
        node(kind="gate", escalate=[{"after_s": 5, "assignee": "'x'"}, {"after_s": 5, "assignee": "'y'"}]),
        "a",
        "escalate.1.after_s",
        "two escalations after 5 s",
        "keep one",
    ),
    (
        {"nodes": {"a": {"signal": "go"}, "go": {"kind": "wait_signal", "retained": False}}},
        "go",
        "retained",
        "node 'a' waits for the same signal, 'go', with another retained",
        "write the same on both",
    ),
    (
        {"nodes": {"a": {"signal": "s"}, "b": {"signal": "s", "payload": "string"}}},
        "b",
        "payload",
        "node 'a' waits for the same signal, 's', with another payload",
        "or wait for two signals",
    ),
    (node(status="completed", message="x"), "a", "message", "a run that completes has no error", "set status: failed"),
    (node(status="completed", error_type="X"), "a", "error_type", "a run that completes has no error", "set status: failed"),
    (node(status="failed", mutex="m"), "a", "mutex", "the run ends here", "remove mutex"),
    (node(status="failed", concurrency_key="input.x"), "a", "concurrency_key", "the run ends here", "remove concurrency_key"),
    (node(mutex=["m", "m"]), "a", "mutex.1", "mutex 'm' is named twice", "name it once"),
    (
        {
            "nodes": {"a": {"mutex": "m"}, "b": {"mutex": ["m", "n"]}, "c": {"mutex": "n"}, "d": {"mutex": ["m", "n"]}},
            "transitions": [*line("a", "b"), *line("c", "d")],
        },
        "a->b",
        "",
        "'n' is taken while 'm' is held, and elsewhere the other way round (mutexes 'm', 'n')",
        "take them in one order",
    ),
    (
        {"nodes": {"a": {}, "b": {"workflow": "w"}}, "transitions": line("a", "b")},
        "b",
        "workflow",
        "every route leads into a node that runs 'w' again",
        "put a condition",
    ),
    (
        {
            "nodes": {name: {} for name in "abc"} | {"d": {"workflow": "w"}},
            "transitions": [
                {"from": "a", "to": "b", "when": "input.x"},
                {"from": "a", "to": "c", "priority": 1},
                {"from": ["b", "c"], "to": "d"},
            ],
        },
        "d",
        "workflow",
        "every route leads into a node that runs 'w' again",
        "put a condition",
    ),
    (
        with_edge(on="cancelled"),
        "a->b",
        "on",
        "no transition cancels node 'a': neither joins, races nor the end of a run count",
        "(cancel: [a])",
    ),
    (
        {
            "nodes": {name: {} for name in "abc"},
            "transitions": [
                {"from": "a", "to": "b", "group": "g"},
                {"from": "b", "to": "c", "join": "g", "close_groups": "g"},
            ],
        },
        "b->c",
        "close_groups.0",
        "group 'g' is not open to members from outside",
        "write open: true",
    ),
    (with_join(on_timeout="proceed_with_available"), "b->c", "join.on_timeout", "never times out", "give it a timeout_s"),
    (
        {"nodes": {"a": {}, "b": {}}, "transitions": [{"from": "a", "to": "b", "on": "timed_out"}]},
        "a->b",
        "on",
        "compute node 'a' can have no timeout_s, so it never times out",
        "let it race with a timer",
    ),
    (
        {"nodes": {"a": {"answer": "boolean"}, "b": {}}, "transitions": [{"from": "a", "to": "b", "on": "timed_out"}]},
        "a->b",
        "on",
        "node 'a' has no timeout_s",
        "give the node a timeout_s",
    ),
    (
        node(answer="boolean", timeout_s=9) | {"timeout_s": 5},
        "a",
        "timeout_s",
        "9 s is longer than the whole run may take",
        "lower",
    ),
    (
        {"nodes": {"a": TIMER, "b": {}}, "transitions": line("a", "b", "a"), "start": "a"},
        "b->a",
        "",
        "the loop a -> b -> a goes round at its timer until the run is cancelled",
        "put max_iterations",
    ),
    (
        node(guard="has(state.open)"),
        "a",
        "guard",
        "no node and no merge writes state.open",
        "if updates from outside write it, name it in the schema of the state",
    ),
    (
        {"nodes": {"a": task(output={"output.x": "1"}, undo=UNDONE | {"input": {"x": "state.paid"}})}},
        "a",
        "undo.input.x",
        "no node and no merge writes state.paid",
        "output.x",
    ),
]

SOUND: list[dict[str, Any]] = [
    race(TIMER, SIGNAL, {"answer": "boolean", "assignee": "'alice'", "input": {"what": "input.what"}}),
    race(TIMER, SIGNAL, when="input.patient"),
    # every branch of a fan-out races the others
    {
        "nodes": {"a": {}, "b": {"answer": ["yes", "no"], "assignee": "item"}},
        "transitions": [{"from": "a", "to": "b", "foreach": "input.owners", "race": "first"}],
    },
    node(duration_s="input.minutes * 60.0"),
    node(duration_s="duration('5m')"),
    node(until="'2026-11-25T09:00:00+01:00'"),
    node(until=1_800_000_000),
    node(until="timestamp('2026-11-25T09:00:00Z')"),
    node(action="m:f", undo={"action": "m:undo", "input": {"x": "result.id"}}, guard="input.ok", concurrency_key="input.k"),
    node(workflow="w2", version="0" * 64, undo="m:undo", timeout_s=5),
    # what updates from outside write is told by the schema of the state
    node(guard="has(state.open) && state.open") | {"state": {"properties": {"open": {"type": "boolean"}}}},
    # served for as long as somebody asks, and a poll with a bound
    {"nodes": {"a": SIGNAL, "b": task()}, "transitions": line("a", "b", "a"), "start": "a"},
    {"nodes": {"a": {"answer": "string"}, "b": task()}, "transitions": line("a", "b", "a"), "start": "a"},
    {
        "nodes": {"a": {"kind": "gate", "timeout_s": 5}},
        "transitions": [{"from": "a", "to": "a", "on": "timed_out"}],
        "start": "a",
    },
    {"nodes": {"a": TIMER}, "transitions": [{"from": "a", "to": "a", "max_iterations": 5}], "start": "a"},
    # recursions that end
    {"nodes": {"a": {}, "b": {"workflow": "w"}}, "transitions": [{"from": "a", "to": "b", "foreach": "input.children"}]},
    {
        "nodes": {"a": {}, "b": {"workflow": "w"}, "c": {}},
        "transitions": [{"from": "a", "to": "b", "when": "input.deeper"}, {"from": "a", "to": "c", "priority": 1}],
    },
    {"nodes": {"a": {"answer": "boolean"}, "b": {"workflow": "w"}}, "transitions": line("a", "b")},
    # mutexes in one order, and all at once
    {
        "nodes": {"a": {"mutex": "m"}, "b": {"mutex": ["m", "n"]}, "c": {"mutex": ["n", "m"]}, "d": {"mutex": "n"}},
        "transitions": [*line("a", "b"), *line("c", "d")],
    },
    # an open group that is closed, and completed when it takes too long; its threshold looks at the group
    {
        "nodes": {"a": {}, "b": task(), "c": {}, "d": TIMER, "e": SIGNAL, "f": {}, "g": {"status": "failed", "message": "no"}},
        "transitions": [
            {"from": "a", "to": "b", "foreach": "input.x", "group": "g", "open": True},
            {"from": "a", "to": ["d", "e"]},
            {
                "from": "b",
                "to": "c",
                "join": {
                    "over": "g",
                    "strategy": "m_of_n",
                    "m": "results.exists(r, r.good) ? group.arrived : group.size",
                    "blocking": True,
                    "timeout_s": 5,
                    "on_timeout": "proceed_with_available",
                },
            },
            {"from": "d", "to": "f", "complete_groups": "g", "cancel": "e"},
            {"from": "e", "to": "f", "close_groups": "g", "cancel": ["d"]},
            {"from": "d", "to": "g", "on": "cancelled", "cancel_groups": "g"},
        ],
    },
    {
        "nodes": {"a": {}, "b": {}},
        "transitions": [{"from": "a", "to": "b", "join": {"over": "incoming", "strategy": "any", "timeout_s": 5}}],
    },
    with_join(strategy="any", on_timeout="proceed_with_available"),
]


@pytest.mark.parametrize(("document", "where", "field", "message", "mend"), WARNINGS, ids=named)
def test_warnings(document: dict[str, Any], where: str | None, field: str, message: str, mend: str) -> None:
    found = problems(document)
    assert [problem.severity for problem in found] == ["warning"], [str(problem) for problem in found]
    assert (found[0].node or found[0].transition, found[0].field) == (where, field)
    assert message in found[0].message
    assert mend in found[0].mend
    check(definition_from_json({"name": "w"} | document))


@pytest.mark.parametrize("document", SOUND)
def test_sound_definitions_have_no_problems_and_compile(document: dict[str, Any]) -> None:
    assert [str(problem) for problem in problems(document)] == []
    compile_graph(definition_from_json({"name": "w"} | document))
