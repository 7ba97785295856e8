"""The cases of resuming and asking again, L1 and L3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cases.words import edge, node, workflow
from wonder_ray.definitions.models import ComputeNode, GateNode, Retry

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

QUESTION = {"question": "'How old are you?'"}
INVALID = "invalid response"
ADD = {"state.value": "state.value + result"}


def l1() -> WorkflowDefinition:
    """Two branches add to a value; the second fails, in two attempts, as long as nothing has mended it."""
    retry = (Retry(max_attempts=2, backoff_s=0.01, max_backoff_s=0.05),)
    mended: dict[str, Any] = {"input": {"mended": "has(state.mended)"}, "retry": retry}
    return workflow(
        [
            ComputeNode(id="first", output={"state.value": "1"}),
            node("one", input={"value": "2"}, output=ADD),
            node("two", "three_if", output=ADD, **mended),
        ],
        edge("first", "one"),
        edge("first", "two"),
        output={"value": "state.value"},
        name="l1",
    )


def l3() -> WorkflowDefinition:
    """A gate that asks again, by way of the graph, until the answer is a number of at least 18."""
    return workflow(
        [
            GateNode(id="age", input=QUESTION | {"said": "has(state.said) ? state.said : ''"}, output={"state.age": "result"}),
            ComputeNode(id="again", output={"state.said": f"'{INVALID}'"}),
            ComputeNode(id="done", output={"output.age": "state.age"}),
        ],
        edge("age", "done", when="type(state.age) == int && state.age >= 18"),
        edge("age", "again", priority=1),
        edge("again", "age"),
        start=("age",),
        name="l3",
    )


def l3_by_schema() -> WorkflowDefinition:
    """A gate that asks again by itself, as its schema refuses the answer."""
    answer = {"type": "integer", "minimum": 18}
    return workflow([GateNode(id="age", input=QUESTION, answer=answer, output={"output.age": "result"})], name="l3-schema")
