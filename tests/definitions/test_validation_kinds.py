"""Gates, signals, timers, ends, children, claims, races and effects: every error once, with its place and its mend."""

from __future__ import annotations

from typing import Any

import pytest

from tests.definitions_by_hand import (
    SIGNAL,
    TIMER,
    UNDONE,
    A,
    line,
    named,
    node,
    only,
    race,
    split_and_join,
    task,
    with_edge,
    with_join,
)

Case = tuple[dict[str, Any], str | None, str, str, str]
NAME_MEND = "use 1 to 128 letters"
ERRORS: list[Case] = [
    # timers
    (node(kind="timer"), "a", "duration_s", "a timer without a time", "say how long (duration_s: 60)"),
    (node(duration_s=5, until="input.t"), "a", "until", "duration_s and until exclude each other", "keep one"),
    (node(duration_s=-1), "a", "duration_s", "-1 is no number of seconds between 0 and", "correct it"),
    (node(duration_s=1e300), "a", "duration_s", "1e+300 is no number of seconds", "correct it"),
    (node(duration_s="-1"), "a", "duration_s", "'-1' gives -1: it must be a number of seconds of at least 0", "in seconds"),
    (node(duration_s="5m"), "a", "duration_s", "expression `5m`", "it gives seconds, such as 90"),
    (node(duration_s="'5'"), "a", "duration_s", "gives '5': it must be a number of seconds", "write it in seconds"),
    (node(until="2026-11-25T09:00:00Z"), "a", "until", "expression `2026-11-25T09:00:00Z`", "a text with quotes of its own"),
    (node(until="'2026-11-25T09:00:00'"), "a", "until", "a time without its zone", "'2026-11-25T09:00:00Z'"),
    (node(until="'tomorrow'"), "a", "until", "gives 'tomorrow': it is no time", "write RFC 3339 text"),
    (node(until="-5"), "a", "until", "gives -5: it is no time", "write RFC 3339 text"),
    (node(until=True), "a", "until", "gives True: it is no time", "write RFC 3339 text"),
    # gates and signals
    (node(answer={"type": "bool"}), "a", "answer.type", "'bool' is not valid", "see JSON Schema"),
    (node(payload={"minimum": 2, "maximum": 1}), "a", "payload.minimum", "minimum 2 is more than maximum 1", "swap"),
    (A | {"state": {"properties": {"x": {"type": "strin"}}}}, None, "state.properties.x.type", "'strin' is not", "see JSON"),
    (node(signal="go on"), "a", "signal", "signal 'go on' is not a name", NAME_MEND),
    (node(assignee="alice"), "a", "assignee", "alice is unknown", "put it in quotes of its own: 'alice'"),
    (
        node(assignee="alice@example.org"),
        "a",
        "assignee",
        "expression `alice@example.org`",
        "quotes of its own: 'alice@example.org'",
    ),
    (
        node(kind="gate", escalate=[{"after_s": 5, "assignee": "team lead"}]),
        "a",
        "escalate.0.assignee",
        "`team lead`",
        "'team lead'",
    ),
    (node(kind="gate", timeout_s=1e300), "a", "timeout_s", "1e+300 s is more than ten thousand years", "somebody will see"),
    (node(escalate={"after_s": 1e13, "assignee": "'x'"}), "a", "escalate.0.after_s", "more than ten thousand years", "give"),
    # ends
    (
        {"nodes": {"a": {"status": "failed"}, "b": {}}, "transitions": line("a", "b")},
        "a->b",
        "from",
        "node 'a' ends the run, so nothing leaves it",
        "remove the transition",
    ),
    (node(status="failed", error_type="a b"), "a", "error_type", "'a b' is no type of an error", "as in a class name"),
    # children and undos
    (node(workflow="my flow"), "a", "workflow", "workflow 'my flow' is not a name", NAME_MEND),
    (node(workflow="w2", version="2.0"), "a", "version", "'2.0' is no version", "write latest, or the version"),
    (node(workflow="w2", retry={"retry_on": []}), "a", "retry.0.retry_on", "matches no error", "name error types"),
    (node(workflow="w2", undo="m f"), "a", "undo.action", "'m f' names no action", "write 'module:function'"),
    (node(action="m:f", undo=UNDONE | {"input": {"x": "("}}), "a", "undo.input.x", "expression `(`", "correct the expression"),
    (node(action="m:f", undo=UNDONE | {"retry": {"backoff_s": 90}}), "a", "undo.retry.0.backoff_s", "90 is more than", "raise"),
    (node(action="m:f", undo=UNDONE | {"num_cpus": 1.5}), "a", "undo.resources.num_cpus", "takes whole numbers only", "ask for"),
    (node(action="m:f", undo=UNDONE | {"timeout_s": 1e12}), "a", "undo.timeout_s", "more than ten thousand years", "give"),
    # guards and claims
    (node(guard="input."), "a", "guard", "expression `input.`: Syntax error", "correct the expression"),
    (node(guard="'no'"), "a", "guard", "gives 'no': a condition is true or false", "compare it with something"),
    (node(concurrency_key="gpu"), "a", "concurrency_key", "gpu is unknown", "put it in quotes of its own: 'gpu'"),
    (node(concurrency_key="[1]"), "a", "concurrency_key", "gives [1]: a key is a text or a whole number", "as in input.user"),
    (node(concurrency_limit=2), "a", "concurrency_limit", "limits nothing without a concurrency_key", "add a concurrency_key"),
    (node(mutex="my lock"), "a", "mutex.0", "mutex 'my lock' is not a name", NAME_MEND),
    # constants elsewhere
    (with_edge(when="1"), "a->b", "when", "'1' gives 1: a condition is true or false", "compare it"),
    (with_edge(foreach="3"), "a->b", "foreach", "gives 3: foreach takes a list", "or use spawn_count"),
    (with_edge(spawn_count="-1"), "a->b", "spawn_count", "gives -1: it must be a whole number", "correct it"),
    (with_edge(spawn_count="1 / 0"), "a->b", "spawn_count", "expression `1 / 0`: divide by zero", "correct the expression"),
    (
        with_edge(when="group.size > 1"),
        "a->b",
        "when",
        "group.size is unknown",
        "group and results have a value in the m of a join only",
    ),
    (with_edge(foreach="[1]", item="group"), "a->b", "item", "'group' cannot name an item", "none of error, group, index"),
    # races
    (race(TIMER), "a->t0", "race", "race 'r' has one alternative at node 'a'", "give the others the same race"),
    (race(TIMER, task()), "a->t1", "race", "action node 't1' cannot race", "cancel the slower work"),
    (race(TIMER, SIGNAL, priority=1), "a->t1", "priority", "never fires together with 'a->t0', which it races", "same priority"),
    (race(TIMER, SIGNAL, on="failed"), "a->t1", "on", "on is 'failed' and not 'completed'", "race after the same outcome"),
    (race(TIMER, SIGNAL, join="incoming"), "a->t1", "race", "a token that waits at a join cannot race", "join at a node behind"),
    (
        {"nodes": {"a": {}, "b": SIGNAL, "c": TIMER}, "transitions": [{"from": "a", "to": ["b", "c"], "race": "r r"}]},
        "a->b",
        "race",
        "race 'r r' is not a name",
        NAME_MEND,
    ),
    # open groups and effects
    (with_edge(open=True), "a->b", "open", "open is of a group, and none is named", "name the group"),
    (
        {
            "nodes": {name: {} for name in "abcd"},
            "transitions": [
                {"from": "a", "to": ["b", "c"], "group": "g", "open": True},
                {"from": ["b", "c"], "to": "d", "join": "g"},
            ],
        },
        "a->c",
        "open",
        "members that are added to 'g' take the way of 'a->b', which is open, too",
        "let one transition be open",
    ),
    (with_edge(cancel="bb"), "a->b", "cancel.0", "unknown node 'bb'", "did you mean 'b'?"),
    (with_edge(cancel_groups="g"), "a->b", "cancel_groups.0", "no transition opens group 'g'", "there are none"),
    (with_edge(complete_groups=["g"]), "a->b", "complete_groups.0", "no transition opens group 'g'", "there are none"),
    (with_edge(close_groups="g"), "a->b", "close_groups.0", "no transition opens group 'g'", "there are none"),
    (
        split_and_join()
        | {
            "transitions": [
                {"from": "a", "to": ["b", "c"], "group": "g"},
                {"from": ["b", "c"], "to": "d", "join": "g", "on": "completed"},
                {"from": "b", "to": "d", "on": "failed", "cancel_groups": "g", "complete_groups": "g"},
            ]
        },
        "b->d#2",
        "complete_groups.0",
        "group 'g' is to be completed and cancelled at once",
        "keep it in one of the two",
    ),
    # joins
    (
        {"nodes": {"a": {}, "b": {}}, "transitions": [{"from": "a", "to": "b", "join": {"over": "incoming", "blocking": True}}]},
        "a->b",
        "join.blocking",
        "takes its arrivals one after the other as it is",
        "remove blocking",
    ),
    (with_join(timeout_s=1e300), "b->c", "join.timeout_s", "more than ten thousand years", "give a time"),
    (split_and_join(timeout_s=5), "c->d", "join.timeout_s", "differs from that of 'b->d' in timeout_s", "write the same join"),
    (with_join(strategy="m_of_n", m="group.sise ="), "b->c", "join.m", "expression `group.sise =`", "correct"),
    (with_join(strategy="m_of_n", m="-1"), "b->c", "join.m", "gives -1: it must be a whole number", "correct"),
    # loops
    (
        {"nodes": {"a": {"duration_s": 0}, "b": {}}, "transitions": line("a", "b", "a"), "start": "a"},
        "b->a",
        "",
        "the loop a -> b -> a has no bound and no condition",
        "put max_iterations",
    ),
    (A | {"timeout_s": 1e300}, None, "timeout_s", "more than ten thousand years", "give a time"),
]


@pytest.mark.parametrize(("document", "where", "field", "message", "mend"), ERRORS, ids=named)
def test_errors(document: dict[str, Any], where: str | None, field: str, message: str, mend: str) -> None:
    problem = only(document)
    assert (problem.node or problem.transition, problem.field) == (where, field)
    assert message in problem.message
    assert mend in problem.mend
