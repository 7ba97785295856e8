"""What a user writes: a workflow as nodes and transitions, in pydantic models with a JSON/YAML file form.

Everything is immutable and validated at the edge; `Workflow` (the builder) makes these, files load into them, and
`wonder_ray.definitions.graph.compile_graph` turns them into what the planners read.

>>> definition = WorkflowDefinition(
...     name="hello",
...     nodes=(ActionNode(id="greet", action="greetings:greet", input={"name": "input.name"}),),
... )
>>> WorkflowDefinition.model_validate_json(definition.model_dump_json()) == definition
True
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field, field_validator

from wonder_ray.definitions.nodes import (
    ActionNode,
    ComputeNode,
    Escalation,
    GateNode,
    Mapping,
    Model,
    Node,
    NodeBase,
    Resources,
    Retry,
    SignalNode,
    Step,
    StepsNode,
    SubworkflowNode,
    TaskNode,
    TerminateNode,
    TimerNode,
    Undo,
)
from wonder_ray.values import canonical

__all__ = [
    "ActionNode",
    "ComputeNode",
    "Escalation",
    "GateNode",
    "Join",
    "Mapping",
    "Merge",
    "Model",
    "Node",
    "NodeBase",
    "Resources",
    "Retry",
    "SignalNode",
    "Step",
    "StepsNode",
    "SubworkflowNode",
    "TaskNode",
    "TerminateNode",
    "TimerNode",
    "Transition",
    "Undo",
    "WorkflowDefinition",
]


class Merge(Model):
    """How the members of a join contribute to the context that goes on, in branch order.

    `source` is evaluated for each arrived member in its own scope (`result` is what its last node returned).
    """

    target: str
    source: str = "result"
    strategy: Literal["append", "concat", "merge_object", "keyed_by_branch", "last_wins"] = "append"


class Join(Model):
    """Where branches meet: the transition's target runs once for the members it waits for.

    `over` is the name of a sibling group, or `incoming`: the incoming transitions of the target node.
    """

    over: str
    strategy: Literal["all", "any", "m_of_n"] = "all"
    m: int | str | None = Field(
        None, description="how many arrivals `m_of_n` needs: a number, or an expression that is evaluated at each arrival"
    )
    remaining: Literal["absorb", "cancel", "pass"] = "absorb"
    merge: tuple[Merge, ...] = ()
    blocking: bool = Field(False, description="whether it waits until earlier groups of its name are settled")
    timeout_s: float | None = Field(
        None, gt=0, description="seconds that it waits, from the opening of its group, or the first arrival"
    )
    on_timeout: Literal["fail", "proceed_with_available"] = "fail"


class Transition(Model):
    """An edge: all branching, spawning and joining lives here.

    `on` is `completed`, `failed`, `failed[ErrorType]`, `timed_out`, `cancelled`, `group_failed(group)` or
    `group_failed(group)[ErrorType]`. In the lowest `priority` that has a match, every match fires.
    """

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    priority: int = 0
    when: str | None = None
    on: str = "completed"
    spawn_count: int | str | None = None
    foreach: str | None = None
    item: str = "item"
    group: str | None = None
    max_concurrency: int | None = Field(None, ge=1)
    tolerated_failures: int | float | None = Field(None, description="a count, or a fraction of the group's size (0 < f < 1)")
    max_iterations: int | None = Field(None, ge=0)
    join: Join | None = None
    race: str | None = Field(None, description="alternatives of one split: the first of their tokens to end withdraws the others")
    open: bool = Field(False, description="whether members can be added to its group from outside, until that is closed")
    cancel: tuple[str, ...] = Field((), description="nodes whose tokens are cancelled when it fires")
    cancel_groups: tuple[str, ...] = Field((), description="groups that are cancelled when it fires: their joins do not fire")
    complete_groups: tuple[str, ...] = Field((), description="groups whose joins fire, with what there is, when it fires")
    close_groups: tuple[str, ...] = Field((), description="open groups that take no more members from then on")

    @field_validator("tolerated_failures")
    @classmethod
    def _tolerated(cls, value: float | None) -> float | None:
        if value is None or (isinstance(value, int) and value >= 0) or (isinstance(value, float) and 0 < value < 1):
            return value
        msg = "a count (0, 1, 2, ...) or a fraction of the group between 0 and 1, such as 0.25"
        raise ValueError(msg)


class WorkflowDefinition(Model):
    """A whole workflow; immutable, and named by the hash of its content."""

    name: str
    description: str = ""
    input: dict[str, Any] | None = Field(None, description="JSON Schema of a run's input")
    output: Mapping = Field(default_factory=dict, description="name -> expression, evaluated when the run completes")
    nodes: tuple[Node, ...] = Field(min_length=1)
    transitions: tuple[Transition, ...] = ()
    start: tuple[str, ...] = Field((), description="by default the nodes without incoming transitions")
    timeout_s: float | None = Field(None, gt=0, description="seconds that a whole run may take")
    state: dict[str, Any] | None = Field(
        None, description="JSON Schema that the state must keep to when it is updated from outside"
    )
    max_depth: int = Field(16, ge=1, le=1000, description="how deep child runs may be nested below a run of this workflow")
    bundle: str | None = Field(None, description="sha256 of the code bundle that holds the actions")

    def to_json(self) -> dict[str, Any]:
        """The file form: plain JSON values, defaults left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {
            "nodes": [{"id": node.id, "kind": node.kind} | _node_json(node) for node in self.nodes]
        }

    @property
    def version(self) -> str:
        """The sha256 (hex) of the canonical form: equal content, equal version, however it was written."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()


def _node_json(node: Node) -> dict[str, Any]:
    return node.model_dump(mode="json", by_alias=True, exclude_defaults=True)
