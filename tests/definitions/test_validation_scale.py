"""The validator as a whole: many findings, large definitions, arbitrary ones."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings

from tests.definitions_by_hand import (
    line,
    only,
    problems,
    task,
    with_join,
)
from tests.strategies import definitions
from wonder_ray.definitions import models
from wonder_ray.definitions.checks import groups, structure
from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.validation import check, validate
from wonder_ray.errors import DefinitionError


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
            models.Transition(source=name, target=names[i + step], group=group, when=f"input.mode > {step}" if step > 2 else None)
            for step in range(1, edges_each + 1)
            if i + step < nodes
        ]
    back = models.Transition(source=names[-1], target=names[0], max_iterations=2)
    some = tuple(
        models.ActionNode(id=name, action="m:f", input={"x": f"state.v{i}"}, output={f"state.v{i}": "result"})
        for i, name in enumerate(names)
    )
    return models.WorkflowDefinition(name="large", nodes=some, transitions=(*made, back), start=(names[0],))


def test_ten_thousand_nodes_are_validated_in_seconds() -> None:
    """About 1.5 s; the bound is for busy machines. (Each *different* condition adds 0.15 ms to compile it.)"""
    definition = large(10_000, 4)
    began = time.process_time()
    found = validate(definition)
    took = time.process_time() - began
    assert len(definition.transitions) > 39_000
    assert {problem.severity for problem in found} == {"warning"}
    assert took < 6


def test_a_long_chain_of_loops_is_no_deep_recursion() -> None:
    names = [f"n{i}" for i in range(5_000)]
    document = {
        "nodes": {name: {} for name in names},
        "transitions": [*line(*names), *line(*reversed(names))],
        "start": "n0",
    }
    assert "n0 -> n1 -> n0" in only(document).message


def test_many_unknown_names_are_not_all_compared() -> None:
    nodes: dict[str, Any] = {f"node{i}": {} for i in range(300)}
    document = {"nodes": nodes, "transitions": [{"from": "node0", "to": f"mode{i}"} for i in range(20_000)]}
    began = time.process_time()
    found = [problem for problem in problems(document) if problem.field == "to"]
    assert time.process_time() - began < 6
    assert found[0].mend == "did you mean 'node0'?"
    assert found[-1].mend.startswith("known are 'node0'")


def test_beyond_a_bound_groups_count_as_open_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_BITS_MAX", 1)
    assert problems(with_join(merge="output.x")) == []


def test_ten_thousand_nodes_of_all_kinds_are_validated_in_seconds() -> None:
    """Every node with a guard, a key, mutexes and a schema; about 2 s, most of it the guards, each of which is another."""
    kinds: list[dict[str, Any]] = [
        {"action": "m:f", "undo": {"action": "m:u", "input": {"x": "result.id"}}},
        {"answer": {"type": "object", "properties": {"ok": {"type": "boolean"}}}, "assignee": "input.owner", "timeout_s": 5},
        {"payload": "integer"},
        {"duration_s": "input.seconds"},
        {"workflow": "w", "input": {"x": "input.x"}},
    ]
    common = {"concurrency_key": "input.key", "concurrency_limit": 2}
    nodes = {
        f"n{i}": kinds[i % len(kinds)] | common | {"guard": f"input.mode > {i}", "mutex": [f"m{i}", f"m{i + 1}"]}
        for i in range(10_000)
    }
    names = list(nodes)
    edges = [{"from": one, "to": other, "cancel": one} for one, other in pairwise(names)]
    races = [{"from": names[i], "to": [names[i + 1], names[i + 3]], "race": "r", "on": "cancelled"} for i in range(0, 9_990, 5)]
    definition = definition_from_json({"name": "w", "nodes": nodes, "transitions": edges + races}, checked=False)
    began = time.process_time()
    found = validate(definition)
    assert time.process_time() - began < 8
    assert found == []
