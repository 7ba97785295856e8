"""Every message of the validator once, with the place and the mend; and that sound definitions get none."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings

from tests.strategies import definitions
from wonder_ray.definitions import models
from wonder_ray.definitions.checks import structure
from wonder_ray.definitions.checks.problems import Problem, did_you_mean
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.validation import check, validate
from wonder_ray.errors import DefinitionError


def problems(document: dict[str, Any]) -> list[Problem]:
    return validate(definition_from_json({"name": "w"} | document, checked=False))


def only(document: dict[str, Any], severity: str = "error") -> Problem:
    found = [problem for problem in problems(document) if problem.severity == severity]
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def task(**fields: Any) -> dict[str, Any]:
    return {"action": "m:f"} | fields


def line(*nodes: str) -> list[dict[str, Any]]:
    """Transitions from each node to the next."""
    return [{"from": one, "to": other} for one, other in zip(nodes, nodes[1:], strict=False)]


def split_and_join(**changes: Any) -> dict[str, Any]:
    """a -> {b, c} in group g -> d; changes go to the join of c."""
    return {
        "nodes": {name: {} for name in "abcd"},
        "transitions": [
            {"from": "a", "to": ["b", "c"], "group": "g"},
            {"from": "b", "to": "d", "join": {"over": "g"}},
            {"from": "c", "to": "d", "join": {"over": "g"} | changes},
        ],
    }


def with_retry(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"a": task(retry=list(rules))}}


def with_steps(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"a": {"steps": [{"name": f"s{i}", "action": "m:f"} | step for i, step in enumerate(steps)]}}}


def with_edge(**fields: Any) -> dict[str, Any]:
    return {"nodes": {"a": task(), "b": task()}, "transitions": [{"from": "a", "to": "b"} | fields]}


def with_join(**fields: Any) -> dict[str, Any]:
    return {
        "nodes": {"a": {}, "b": {}, "c": {}},
        "transitions": [
            {"from": "a", "to": "b", "spawn_count": 2, "group": "g"},
            {"from": "b", "to": "c", "join": {"over": "g"} | fields},
        ],
    }


NAME_MEND = "use 1 to 128 letters"
A = {"nodes": {"a": task()}}
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
    (with_edge(foreach="[1]", item="state"), "a->b", "item", "'state' cannot name an item", "none of error, index"),
    # splits
    (with_edge(foreach="[1]", spawn_count=2), "a->b", "spawn_count", "foreach and spawn_count exclude each other", "keep one"),
    (with_edge(spawn_count=-1), "a->b", "spawn_count", "-1 is less than 0", "give a count"),
    (with_edge(max_concurrency=2), "a->b", "max_concurrency", "limits nothing here", "add foreach or spawn_count"),
    (with_edge(item="page", spawn_count=2), "a->b", "item", "names the element of a foreach", "add foreach"),
    (with_edge(tolerated_failures=1), "a->b", "tolerated_failures", "none is named", "name the group"),
    (with_edge(group="incoming"), "a->b", "group", "'incoming' is reserved", "choose another name"),
    (with_edge(group="g g"), "a->b", "group", "group 'g g' is not a name", "use letters"),
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

SCHEMAS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "objekt"}, "input.type", "'objekt' is not valid"),
    ({"minimum": "1"}, "input.minimum", "is not of type 'number'"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "input.$schema", "another dialect"),
    ({"minimum": 2, "maximum": 1}, "input.minimum", "minimum 2 is more than maximum 1"),
    ({"properties": {"a": {"minLength": 2, "maxLength": 1}}}, "input.properties.a.minLength", "minLength 2 is more than"),
    ({"items": {"exclusiveMinimum": 1, "maximum": 1}}, "input.items.exclusiveMinimum", "no number lies between"),
    ({"type": "string", "enum": ["a", 1]}, "input.enum.1", "1 is no string"),
    ({"enum": []}, "input.enum", "an empty enum"),
    ({"type": "integer", "const": 1.5}, "input.const", "1.5 is no integer"),
    ({"type": ["null", "boolean"], "const": 0}, "input.const", "0 is no null or boolean"),
    ({"enum": [1, 2], "const": 3}, "input.const", "3 is not in enum"),
    ({"enum": [1], "const": True}, "input.const", "True is not in enum"),
    ({"required": ["a"], "properties": {"a": False}}, "input.required.0", "'a' is required, and its schema is false"),
    ({"required": ["a"], "additionalProperties": False}, "input.required.0", "additionalProperties: false forbids it"),
    ({"required": ["a", "b"], "maxProperties": 1}, "input.maxProperties", "2 properties are required"),
    ({"allOf": [{"type": "string"}, {"type": "number"}]}, "input.allOf", "exclude each other"),
    ({"properties": {"a": {"$ref": "#/$defs/X"}}}, "input.properties.a.$ref", "'#/$defs/X' points to nothing"),
    ({"if": {"$ref": "https://example.org/s"}}, "input.if.$ref", "points to nothing in this schema"),
    ({"x": 1.5, "y": {1, 2}}, "input", "value is no JSON: set"),
]

SOUND_SCHEMAS: list[dict[str, Any]] = [
    {"type": "number", "enum": [1, 1.5]},
    {"type": "integer", "const": 1.0},
    {"not": {"minimum": 2, "maximum": 1}},
    {"required": ["ab"], "patternProperties": {"^a": {}}, "additionalProperties": False},
    {"allOf": [{"type": "number"}, {"type": "integer"}]},
    {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}, "y": {"$ref": "#"}}},
    {"prefixItems": [{}], "items": {"$ref": "#/prefixItems/0"}},
]

WARNINGS: list[tuple[dict[str, Any], str | None, str, str, str]] = [
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
    ({"nodes": {"a": task(input={"x": "item"})}}, "a", "input.x", "expression `item`: item has no value at node 'a'", "fan out"),
    (A | {"output": {"x": "result"}}, None, "output.x", "result has no value at a run's output", "write input or state"),
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
        "transitions": [{"from": "a", "to": ["b", "c", "d"]}][:0]
        + [{"from": "a", "to": ["b", "c"]}, {"from": ["a", "b", "c"], "to": "d", "join": "incoming"}],
    },
    with_steps({"input": {"x": "state.own"}, "output": {"state.own": "result"}, "when": "!has(state.own)"}),
]


def named(case: Any) -> str:
    return str(case)[:60] if isinstance(case, str) else ""


@pytest.mark.parametrize(("document", "where", "field", "message", "mend"), ERRORS, ids=named)
def test_errors(document: dict[str, Any], where: str | None, field: str, message: str, mend: str) -> None:
    problem = only(document)
    assert (problem.node or problem.transition, problem.field) == (where, field)
    assert message in problem.message
    assert mend in problem.mend
    with pytest.raises(DefinitionError) as raised:
        check(definition_from_json({"name": "w"} | document, checked=False))
    assert str(problem) in str(raised.value)


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


@pytest.mark.parametrize(("schema", "field", "message"), SCHEMAS, ids=named)
def test_schemas_that_contradict_themselves(schema: dict[str, Any], field: str, message: str) -> None:
    found = validate(models.WorkflowDefinition(name="w", nodes=(models.ActionNode(id="a", action="m:f"),), input=schema))
    assert [problem.field for problem in found] == [field], [str(problem) for problem in found]
    assert message in found[0].message


@pytest.mark.parametrize("schema", SOUND_SCHEMAS)
def test_sound_schemas(schema: dict[str, Any]) -> None:
    assert problems(A | {"input": schema}) == []


def test_errors_come_first_and_are_all_listed() -> None:
    document = {"nodes": {"a": task(output={"state.x": "1"}), "b": task(input={"x": "("})}}
    found = problems(document)
    assert [problem.severity for problem in found] == ["error", "warning"]
    many = {"nodes": {f"n{i}": task(input={"x": "("}) for i in range(60)}}
    with pytest.raises(DefinitionError, match=r"for 60 reasons:(.|\n)*and 10 more"):
        check(definition_from_json({"name": "w"} | many, checked=False))


def test_a_definition_that_is_too_large_is_not_looked_at_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "NODES_MAX", 1)
    problem = only({"nodes": {"a": {}, "b": {"output": {"nonsense": "("}}}})
    assert (problem.field, problem.message) == ("nodes", "2 nodes, more than 1")


def test_hints_of_large_definitions_stay_cheap() -> None:
    known = [f"node{i}" for i in range(10_000)]
    assert did_you_mean("NODE77", known) == "did you mean 'node77'?"
    assert did_you_mean("nodd77", known) == "known are 'node0', 'node1', 'node2', 'node3', 'node4', ..."


@given(definitions())
@settings(max_examples=150, deadline=None)
def test_any_definition_is_judged_without_an_exception_and_what_passes_compiles(definition: models.WorkflowDefinition) -> None:
    if all(problem.severity == "warning" for problem in validate(definition)):
        compile_graph(definition)


def large(nodes: int, edges_each: int) -> models.WorkflowDefinition:
    """A graph in layers, where each layer opens a group that the next joins."""
    names = [f"n{i}" for i in range(nodes)]
    made: list[models.Transition] = []
    for i, name in enumerate(names):
        group = f"g{i}" if i % 3 == 0 else None
        made += [
            models.Transition(source=name, target=names[i + step], group=group, when=f"state.v{i} > {step}" if step > 2 else None)
            for step in range(1, edges_each + 1)
            if i + step < nodes
        ]
    back = models.Transition(source=names[-1], target=names[0], max_iterations=2)
    some = tuple(
        models.ActionNode(id=name, action="m:f", input={"x": f"state.v{i}"}, output={f"state.v{i}": "result"})
        for i, name in enumerate(names)
    )
    return models.WorkflowDefinition(name="large", nodes=some, transitions=(*made, back), start=(names[0],))


def test_validation_is_near_linear() -> None:
    """The bound is generous for busy machines; a quiet one takes a third of it."""
    definition = large(10_000, 4)
    began = time.monotonic()
    found = validate(definition)
    took = time.monotonic() - began
    assert len(definition.transitions) > 39_000
    assert {problem.severity for problem in found} == {"warning"}
    assert took < 15
