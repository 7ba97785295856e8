"""Every error of the validator once, with its place and its mend."""

from __future__ import annotations

from typing import Any

import pytest

from tests.definitions_by_hand import (
    A,
    line,
    named,
    only,
    split_and_join,
    task,
    with_edge,
    with_join,
    with_retry,
    with_steps,
)
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.validation import check
from wonder_ray.errors import DefinitionError

NAME_MEND = "use 1 to 128 letters"
ERRORS: list[tuple[dict[str, Any], str | None, str, str, str]] = [
    # names and references
    (A | {"name": "my flow"}, None, "name", "workflow 'my flow' is not a name", NAME_MEND),
    (A | {"bundle": "main"}, None, "bundle", "'main' is not a sha256", "leave it to the client"),
    (A | {"output": {"a b": "1"}}, None, "output.a b", "output 'a b' is not a name", NAME_MEND),
    ({"nodes": {"-a": {}}}, "-a", "id", "node '-a' is not a name", NAME_MEND),
    ({"nodes": [{"id": "a"}, {"id": "a"}]}, "a", "id", "two nodes are called 'a' (nodes 0 and 1", "rename one"),
    ({"nodes": {"a": {"action": "m: f"}}}, "a", "action", "'m: f' names no action", "write 'module:function'"),
    (with_steps({"action": ""}), "a", "steps.0.action", "'' names no action", "write 'module:function'"),
    (A | {"transitions": [{"from": "x", "to": "a"}], "start": "a"}, "x->a", "from", "unknown node 'x'", "known are 'a'"),
    (
        {"nodes": {"fetch": {}}, "transitions": [{"from": "fetch", "to": "ftech", "when": "true"}]},
        "fetch->ftech",
        "to",
        "unknown node 'ftech'",
        "did you mean 'fetch'?",
    ),
    (A | {"start": ["a", "b"]}, None, "start.1", "unknown node 'b'", "known are 'a'"),
    (A | {"start": ["a", "a"]}, None, "start.1", "node 'a' is started twice", "name it once"),
    (
        A | {"transitions": [{"from": "a", "to": "a", "max_iterations": 1}]},
        None,
        "start",
        "no start node: every node has an incoming transition",
        "such as start: [a]",
    ),
    ({"nodes": {"a": {}, "b": {}}, "start": "a"}, "b", "", "cannot be reached from a start node", "add a transition to it"),
    # expressions, targets, triggers
    (A | {"output": {"x": "state."}}, None, "output.x", "expression `state.`: Syntax error", "correct the expression"),
    (
        {"nodes": {"a": task(input={"x": "pages"})}},
        "a",
        "input.x",
        "pages is unknown; names in scope are",
        "correct the expression",
    ),
    ({"nodes": {"a": task(output={"state.x": "1 +"})}}, "a", "output.state.x", "\n  1 +\n     ^", "correct the expression"),
    (with_steps({"when": "(", "on_failure": "continue"}), "a", "steps.0.when", "expression `(`", "correct"),
    (with_steps({"input": {"x": "("}}), "a", "steps.0.input.x", "expression `(`", "correct"),
    (with_steps({"output": {"state.x": "("}}), "a", "steps.0.output.state.x", "expression `(`", "correct"),
    (with_edge(when="a =="), "a->b", "when", "expression `a ==`", "correct"),
    (with_edge(foreach="["), "a->b", "foreach", "expression `[`", "correct"),
    (with_edge(spawn_count="1 +"), "a->b", "spawn_count", "expression `1 +`", "correct"),
    (with_join(strategy="m_of_n", m="m"), "b->c", "join.m", "expression `m`: m is unknown", "correct"),
    (with_join(merge={"target": "state.x", "source": "reslt"}), "b->c", "join.merge.0.source", "reslt is unknown", "correct"),
    (with_edge(when="'" + "x" * 5000 + "'"), "a->b", "when", "more than 4096", "correct"),
    (
        {"nodes": {"a": task(output={"input.x": "1"})}},
        "a",
        "output.input.x",
        "target 'input.x' must start with state",
        "write a path",
    ),
    (with_steps({"output": {"x": "1"}}), "a", "steps.0.output.x", "target 'x' must start with", "write a path"),
    (with_join(merge="x"), "b->c", "join.merge.0.target", "target 'x' must start with", "write a path"),
    (
        with_edge(on="fialed"),
        "a->b",
        "on",
        "'fialed' is no outcome",
        "did you mean 'failed'? write completed, failed, failed[ErrorType]",
    ),
    (with_edge(on="group_failed"), "a->b", "on", "'group_failed' is no outcome", "group_failed(group) or"),
    (with_edge(foreach="[1]", item="in"), "a->b", "item", "'in' cannot name an item", "no word of CEL"),
    (with_edge(foreach="[1]", item="state"), "a->b", "item", "'state' cannot name an item", "none of error, group, index"),
    # splits
    (with_edge(foreach="[1]", spawn_count=2), "a->b", "spawn_count", "foreach and spawn_count exclude each other", "keep one"),
    (with_edge(spawn_count=-1), "a->b", "spawn_count", "-1 is less than 0", "give a count"),
    (with_edge(max_concurrency=2), "a->b", "max_concurrency", "limits nothing here", "add foreach or spawn_count"),
    (with_edge(item="page", spawn_count=2), "a->b", "item", "names the element of a foreach", "add foreach"),
    (with_edge(tolerated_failures=1), "a->b", "tolerated_failures", "none is named", "name the group"),
    (with_edge(group="incoming"), "a->b", "group", "'incoming' is reserved", "choose another name"),
    (with_edge(group="g g"), "a->b", "group", "group 'g g' is not a name", NAME_MEND),
    # joins
    (with_join(strategy="m_of_n"), "b->c", "join.m", "m_of_n without m", "such as m: 2"),
    (with_join(m=2), "b->c", "join.m", "m is for m_of_n, and the strategy is all", "set strategy: m_of_n"),
    (with_join(strategy="m_of_n", m=0), "b->c", "join.m", "0 is less than 1", "give at least 1"),
    (with_edge(join={"over": "g"}), "a->b", "join.over", "no transition opens group 'g'", "(group: g); there are none"),
    (
        {
            "nodes": {name: {} for name in "abcd"},
            "transitions": [
                {"from": "a", "to": "b", "group": "g", "spawn_count": 2},
                {"from": "a", "to": "c"},
                {"from": "c", "to": "d", "join": {"over": "g"}},
            ],
        },
        "c->d",
        "join.over",
        "group 'g' cannot be open at node 'c': no route leads here from within it (it opens at 'a')",
        "move the join",
    ),
    (
        split_and_join(strategy="any", remaining="cancel"),
        "c->d",
        "join.strategy",
        "differs from that of 'b->d' in strategy, remaining",
        "write",
    ),
    (
        {
            "nodes": {name: {} for name in "abcd"},
            "transitions": [
                {"from": "a", "to": "b", "group": "g", "spawn_count": 2},
                {"from": "b", "to": ["c", "d"], "join": {"over": "g"}},
            ],
        },
        "b->d",
        "join.over",
        "group 'g' is joined at two nodes, 'c' and 'd'",
        "join at one node",
    ),
    (
        split_and_join(over="incoming"),
        "b->d",
        "join",
        "other transitions into 'd' join over incoming, and this one joins over 'g'",
        "write the same",
    ),
    (
        {
            "nodes": {name: {} for name in "abc"},
            "transitions": [{"from": "a", "to": "c", "join": "incoming"}, {"from": "a", "to": "b"}, {"from": "b", "to": "c"}],
        },
        "b->c",
        "join",
        "and this one has no join",
        "write the same join",
    ),
    (
        {
            "nodes": {name: {} for name in "abcd"},
            "transitions": [
                {"from": "a", "to": "b", "group": "g", "tolerated_failures": 1},
                {"from": "a", "to": "c", "group": "g", "tolerated_failures": 2},
                {"from": ["b", "c"], "to": "d", "join": "g"},
            ],
        },
        "a->c",
        "tolerated_failures",
        "group 'g' tolerates another number of failures on 'a->b'",
        "say it once",
    ),
    (with_edge(on="group_failed(g)"), "a->b", "on", "no transition opens group 'g'", "there are none"),
    (
        {
            "nodes": {name: {} for name in "abcd"},
            "transitions": [
                {"from": "a", "to": "b", "spawn_count": 2, "group": "g"},
                {"from": "b", "to": "c", "join": "g"},
                {"from": "b", "to": "d", "on": "group_failed(g)"},
            ],
        },
        "b->d",
        "on",
        "group 'g' is not opened at node 'b'",
        "start where the group is opened: 'a'",
    ),
    # loops
    (
        {"nodes": {name: {} for name in "abc"}, "transitions": line("a", "b", "c", "b")},
        "c->b",
        "",
        "the loop b -> c -> b has no bound and no condition",
        "put max_iterations",
    ),
    (
        {"nodes": {"a": {}}, "transitions": line("a", "a"), "start": "a"},
        "a->a",
        "",
        "the loop a -> a has no bound",
        "put max_iterations",
    ),
    # retries, resources, steps
    (
        with_retry({"backoff_s": 90}),
        "a",
        "retry.0.backoff_s",
        "backoff_s 90 is more than max_backoff_s 60",
        "raise max_backoff_s",
    ),
    (with_retry({"retry_on": []}), "a", "retry.0.retry_on", "matches no error", "name error types"),
    (
        with_retry({"retry_on": ["X", "Y"], "non_retryable": ["Y"]}),
        "a",
        "retry.0.non_retryable",
        "'Y' stands in retry_on and in",
        "keep it",
    ),
    (
        with_retry({"retry_on": ["X"], "non_retryable": ["*"]}),
        "a",
        "retry.0.non_retryable",
        "nothing is ever retried",
        "max_attempts: 1",
    ),
    (
        {"nodes": {"a": task(num_cpus=1.5)}},
        "a",
        "resources.num_cpus",
        "1.5: above 1 Ray takes whole numbers only",
        "ask for 1 or 2",
    ),
    (
        {"nodes": {"a": task(resources={"resources": {"tpu": -1}})}},
        "a",
        "resources.resources.tpu",
        "-1 cannot be asked for",
        "0 or more",
    ),
    (
        {"nodes": {"a": task(resources={"resources": {"CPU": 1}})}},
        "a",
        "resources.resources.CPU",
        "one of Ray's own",
        "use num_cpus",
    ),
    (with_steps({"name": "s"}, {"name": "s"}), "a", "steps.1.name", "two steps are called 's'", "rename one"),
    (with_steps({"name": " "}), "a", "steps.0.name", "a step without a name", "name it"),
    (with_steps({"on_failure": "retry"}), "a", "steps.0.max_attempts", "on_failure is retry, and max_attempts is 1", "2 or more"),
    (
        with_steps({"max_attempts": 2}),
        "a",
        "steps.0.max_attempts",
        "max_attempts is 2, and on_failure is abort",
        "set on_failure: retry",
    ),
]


@pytest.mark.parametrize(("document", "where", "field", "message", "mend"), ERRORS, ids=named)
def test_errors(document: dict[str, Any], where: str | None, field: str, message: str, mend: str) -> None:
    problem = only(document)
    assert (problem.node or problem.transition, problem.field) == (where, field)
    assert message in problem.message
    assert mend in problem.mend
    with pytest.raises(DefinitionError) as raised:
        check(definition_from_json({"name": "w"} | document, checked=False))
    assert str(problem) in str(raised.value)
