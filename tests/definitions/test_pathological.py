"""Definitions that nobody means: each is refused at once, with a message that can be read."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.definitions import models
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.files import definition_from_json, parse_definition
from wonder_ray.definitions.limits import SPAWN_MAX
from wonder_ray.definitions.validation import check
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEGABYTES = "x" * 5_000_000
MESSAGE_MAX = 20_000


@contextmanager
def refused(match: str, *, within_s: float = 2.0) -> Iterator[None]:
    """Soon, in processor time, and in few words."""
    began = time.process_time()
    with pytest.raises(DefinitionError, match=match) as raised:
        yield
    assert time.process_time() - began < within_s
    assert len(str(raised.value)) < MESSAGE_MAX


def edge(**fields: Any) -> models.WorkflowDefinition:
    flow = Workflow("w")
    flow.compute("a")
    flow.compute("b")
    flow.transition("a", "b", **fields)
    return flow.definition()


@pytest.mark.parametrize("text", [MEGABYTES, f"state.{MEGABYTES}", f"'{MEGABYTES}'", f"{'(' * 2_500_000}{')' * 2_500_000}"])
@pytest.mark.parametrize("field", ["when", "foreach", "spawn_count"])
def test_expressions_of_megabytes(field: str, text: str) -> None:
    with refused("more than 4096; move the work into an action"):
        edge(**{field: text})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000 + "true" + ")" * 2000,
        "[" * 2000 + "]" * 2000,
        "state" + "[0]" * 1000,
        "+".join(["1"] * 2000),
        "true ? true : " * 200 + "true",
        "[1]" + ".map(a, [a, a])" * 200,
    ],
)
def test_expressions_that_are_nested_too_deep(text: str) -> None:
    with refused("nested deeper than 32"):
        edge(foreach=text)


def test_expressions_that_grow_without_bound() -> None:
    with refused(r"its value could be over 10\*\*9 times the size of its parts|nested deeper"):
        edge(foreach="['x']" + ".map(s, s + s)" * 30)


@pytest.mark.parametrize("count", [SPAWN_MAX + 1, 10**4000, f"{SPAWN_MAX + 1}", "1000 * 1001"])
def test_fan_outs_that_are_too_wide(count: int | str) -> None:
    with refused("spawn_count: .*(is more than the 1,000,000 branches|and at most 1,000,000)"):
        edge(spawn_count=count)
    assert edge(spawn_count=SPAWN_MAX).transitions[0].spawn_count == SPAWN_MAX


def by_builder(count: int) -> models.WorkflowDefinition:
    flow = Workflow("w")
    for i in range(count):
        flow.compute(f"n{i}")
    return flow.definition()


def by_document(count: int) -> models.WorkflowDefinition:
    return definition_from_json({"name": "w", "nodes": {f"n{i}": {"output": {"nonsense": "("}} for i in range(count)}})


@pytest.mark.parametrize("make", [by_builder, by_document])
def test_too_many_nodes(make: Callable[[int], models.WorkflowDefinition]) -> None:
    with refused("100,001 nodes, more than 100,000; split the workflow", within_s=10):
        make(100_001)


def test_lists_of_ends_that_multiply() -> None:
    names = [f"n{i}" for i in range(1001)]
    document = {"name": "w", "nodes": dict.fromkeys(names), "transitions": [{"from": names, "to": names}]}
    with refused("transitions, 0: with its lists, 1,002,001 transitions are more than 1,000,000; name fewer nodes"):
        definition_from_json(document)
    with refused("workflow 'w': 1,002,001 transitions are more than 1,000,000"):
        Workflow("w").transition(names, names)


def test_more_mistakes_than_anybody_reads() -> None:
    node = models.ComputeNode(id="a", output={f"state.x{i}": "(" for i in range(30_000)})
    with refused("for 10,000 reasons:(.|\n)*and 9,950 more", within_s=8):
        check(models.WorkflowDefinition(name="w", nodes=(node,)))


def test_names_of_megabytes() -> None:
    flow = Workflow(MEGABYTES)
    flow.compute(MEGABYTES, output={MEGABYTES: "1"}, mutex=MEGABYTES)
    flow.wait_signal("s", MEGABYTES)
    flow.transition(MEGABYTES, f"{MEGABYTES}y", group=MEGABYTES, race=MEGABYTES, on=MEGABYTES, cancel=f"{MEGABYTES}z")
    with refused("is not a name"):
        flow.definition()


def test_more_mutexes_than_anybody_can_hold() -> None:
    flow = Workflow("w")
    for node in ("a", "b"):
        flow.compute(node, mutex=[f"{node}{i}" for i in range(5_000)])
    with refused("5,000 mutexes, more than 100; guard several things by one"):
        flow.definition()


def nested(depth: int) -> dict[str, Any]:
    top: dict[str, Any] = {}
    at = top
    for _ in range(depth):
        at["items"] = {}
        at = at["items"]
    return top


class TestNesting:
    def test_of_schemas(self) -> None:
        endless: dict[str, Any] = {}
        endless["properties"] = {"self": endless}
        for schema in (nested(100_000), endless):
            flow = Workflow("w", input=schema, state=schema)
            flow.gate("a", schema)
            flow.wait_signal("b", payload=schema)
            with refused("for 4 reasons:(.|\n)*nesting deeper than 64"):
                flow.definition()

    @pytest.mark.parametrize("depth", [100, 1_000, 100_000])
    def test_of_files(self, depth: int) -> None:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            text = f'{{"name": "w", "nodes": [{{"id": "a", "kind": "gate", "answer": {opening * depth}1{closing * depth}}}]}}'
            with refused("deeper than 64|maximum recursion|not a usable JSON text"):
                parse_definition(text, "json")
            with refused("nested deeper than 64|not a YAML text"):
                parse_definition(text, "yaml")


class TestBombs:
    def test_of_anchors(self) -> None:
        lines = ["x: &a0 [y, y, y, y, y, y, y, y, y, y]"] + [
            f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
        ]
        with refused("aliases repeat more than 1,000,000 values"):
            parse_definition("\n".join(["name: w", *lines, "nodes: *a11"]), "yaml")

    def test_of_merge_keys(self) -> None:
        wide = ", ".join(f"k{i}: 1" for i in range(1_000))
        merged = ", ".join(["*base"] * 2_000)
        with refused("aliases repeat more than 1,000,000 values"):
            parse_definition(f"name: w\nbase: &base {{{wide}}}\nnodes: {{<<: [{merged}]}}\n", "yaml")

    def test_of_schemas(self) -> None:
        definitions = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 4} for i in range(60)} | {"d60": {}}
        flow = Workflow("w")
        flow.gate("a", {"$defs": definitions, "$ref": "#/$defs/d0"})
        with refused("node 'a', answer: judging one value would look at more than 200,000 schemas"):
            flow.definition()

    def test_of_large_schemas(self) -> None:
        flow = Workflow("w", input={"properties": {f"p{i}": {"type": "string"} for i in range(100_000)}})
        flow.compute("a")
        with refused("the schema has .* bytes, more than 262,144; simplify it"):
            flow.definition()

    def test_of_numbers(self) -> None:
        with refused("an integer of 5000 digits"):
            parse_definition(f"name: w\nnodes: {{a: {{duration_s: {'9' * 5000}}}}}\n", "yaml")
        with refused("not a usable JSON text: Exceeds the limit"):
            parse_definition(f'{{"name": "w", "nodes": {{"a": {{"duration_s": {"9" * 5000}}}}}}}', "json")
        with refused("duration_s: .*is no number of seconds between 0 and ten thousand years|should be a valid"):
            parse_definition(f"name: w\nnodes: {{a: {{duration_s: {'9' * 300}}}}}\n", "yaml")
