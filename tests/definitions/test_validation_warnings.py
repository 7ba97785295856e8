"""Every warning of the validator once, with its place and its mend; and sound definitions, which get none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.definitions_by_hand import (
    A,
    line,
    named,
    problems,
    split_and_join,
    task,
    with_edge,
    with_join,
    with_retry,
    with_steps,
)
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.validation import check

WARNINGS: list[tuple[dict[str, Any], str | None, str, str, str]] = [
    (
        {"nodes": {"a": task(input={"x": "result"})}},
        "a",
        "input.x",
        "result is what this node itself returns",
        "keep it in the state",
    ),
    (
        with_edge(foreach="[index]"),
        "a->b",
        "foreach",
        "index has no value here: node 'a' is in no branch of a fan-out",
        "fan out",
    ),
    (with_join(strategy="m_of_n", m="index"), "b->c", "join.m", "index has no value here", "fan out"),
    (
        {"nodes": {"a": task(output={"output.x": "1"})}, "output": {"y": "1"}},
        "a",
        "output.output.x",
        "nothing reads output.x",
        "remove",
    ),
    (with_edge(when="input.x"), "a", "", "every transition from here has a condition", "add a transition without condition"),
    (
        {
            "nodes": {"a": {}, "b": {}, "c": {}},
            "transitions": [{"from": "a", "to": "b"}, {"from": "a", "to": "c", "priority": 1}],
        },
        "a->c",
        "priority",
        "never fires: 'a->b' has no condition and an earlier priority (0)",
        "give both the same priority",
    ),
    (with_edge(group="g"), "a->b", "group", "group 'g' is never joined", "join it (join: {over: g})"),
    (with_join(remaining="cancel"), "b->c", "join.remaining", "after 'all' nothing remains", "use any or m_of_n"),
    (
        with_join(merge=[{"target": "output.x"}, {"target": "output.x", "source": "result.b"}]),
        "b->c",
        "join.merge.1.target",
        "'output.x' is merged twice",
        "one source that holds both",
    ),
    (
        {"nodes": {"a": task(input={"x": "item"})}},
        "a",
        "input.x",
        "item has no value here: node 'a' is in no branch of a foreach that names it",
        "fan out",
    ),
    (
        A | {"output": {"x": "result"}},
        None,
        "output.x",
        "a run's output is of no token: it has no result",
        "write input, state, output or run",
    ),
    (
        {"nodes": {"a": task(input={"x": "state.pagse"})}},
        "a",
        "input.x",
        "no node and no merge writes state.pagse",
        "add an output",
    ),
    (
        {
            "nodes": {"a": task(output={"state.pages": "1"}), "b": task(input={"x": "state.pagse + state.pages"})},
            "transitions": line("a", "b"),
        },
        "b",
        "input.x",
        "no node and no merge writes state.pagse",
        "did you mean 'state.pages'?",
    ),
    ({"nodes": {"a": task(output={"state.x": "1"})}}, "a", "output.state.x", "nothing reads state.x", "remove it"),
    (
        {
            "nodes": {"a": {}, "b": {"output": {"state.x": "1"}}, "c": {}},
            "output": {"x": "state.x"},
            "transitions": [{"from": "a", "to": "b", "spawn_count": 2, "group": "g"}, {"from": "b", "to": "c", "join": "g"}],
        },
        "b",
        "output.state.x",
        "branches of 'g' write state.x, and no merge of its join exports it",
        "merge it at the join",
    ),
    (with_retry({}, {"retry_on": ["X"]}), "a", "retry.1", "never used: rule 0", "put the rule that retries any error last"),
    (
        {"nodes": {"a": task(timeout_s=9)}, "timeout_s": 5},
        "a",
        "timeout_s",
        "9 s is longer than the whole run may take (5 s)",
        "lower it",
    ),
    (with_edge(on="timed_out"), "a->b", "on", "node 'a' has no timeout_s, so it never times out", "give the node a timeout_s"),
    (
        {"nodes": {"a": task()}, "transitions": [{"from": "a", "to": "a", "on": "failed"}], "start": "a"},
        "a->a",
        "",
        "the loop a -> a goes on as long as its nodes fail",
        "put max_iterations",
    ),
]

SOUND: list[dict[str, Any]] = [
    A,
    split_and_join(),
    with_join(merge="output.pages"),
    with_edge(foreach="[1]", item="page", max_concurrency=3),
    {"nodes": {"bio.tool-1": task(), "a": task()}, "transitions": line("bio.tool-1", "a")},
    # loops that end: a bound, a condition, a conditional way out before the way back, data that runs dry
    {"nodes": {"a": {}, "b": {}}, "transitions": [*line("a", "b"), {"from": "b", "to": "a", "max_iterations": 3}], "start": "a"},
    {
        "nodes": {name: {} for name in "abc"},
        "transitions": [*line("a", "b"), {"from": "b", "to": "c", "when": "input.done"}, {"from": "b", "to": "a", "priority": 1}],
        "start": "a",
    },
    {"nodes": {"a": task()}, "transitions": [{"from": "a", "to": "a", "foreach": "input.links"}], "start": "a"},
    # nested groups; the outer join leaves the inner instances
    {
        "nodes": {name: {} for name in "abcd"},
        "transitions": [
            {"from": "a", "to": "b", "foreach": "input.x", "group": "outer", "item": "row"},
            {"from": "b", "to": "c", "foreach": "row", "group": "inner"},
            {
                "from": "c",
                "to": "d",
                "when": "item > 1",
                "join": {"over": "outer", "merge": {"target": "output.x", "source": "[row, item, index]"}},
            },
            {"from": "c", "to": "c", "join": "inner", "priority": 1, "max_iterations": 1},
        ],
    },
    # a value used only inside its branch needs no export
    {
        "nodes": {"a": {}, "b": {"output": {"state.x": "item"}}, "c": task(input={"x": "state.x"}), "d": {}},
        "transitions": [
            {"from": "a", "to": "b", "foreach": "[1]", "group": "g"},
            *line("b", "c"),
            {"from": "c", "to": "d", "join": {"over": "g", "merge": "output.all"}},
        ],
    },
    # the handler of a group, and a retry of it
    {
        "nodes": {name: task() for name in "abcd"},
        "transitions": [
            {"from": "a", "to": "b", "spawn_count": 3, "group": "g", "tolerated_failures": 0.5},
            {"from": "b", "to": "c", "join": "g"},
            {"from": "a", "to": "a", "on": "group_failed(g)", "max_iterations": 2},
            {"from": "a", "to": "d", "on": "group_failed(g)[ValueError]", "priority": 1},
        ],
        "start": "a",
    },
    # a diamond that joins whatever comes in
    {
        "nodes": {name: {} for name in "abcd"},
        "transitions": [{"from": "a", "to": ["b", "c"]}, {"from": ["a", "b", "c"], "to": "d", "join": "incoming"}],
    },
    with_steps({"input": {"x": "state.own"}, "output": {"state.own": "result"}, "when": "!has(state.own)"}),
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
