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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wonder_ray.values import canonical

Mapping = dict[str, str]
"""Names or assignment targets on the left, CEL expressions on the right."""


class Model(BaseModel):
    """Base of all definition models: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=True)


class Retry(Model):
    """When and how often a failed attempt is made again.

    The first rule of a node whose `retry_on` names the error's type (and whose `non_retryable` does not) decides.
    The wait before attempt n+1 is `backoff_s * multiplier**(n-1)`, at most `max_backoff_s`, less a share of up to
    `jitter` that is derived from the token (so that a replay waits the same).

    Example:
        >>> Retry(max_attempts=3, retry_on=("TimeoutError",)).backoff_s
        1.0
    """

    max_attempts: int = Field(1, ge=1, le=10_000, description="attempts in all, the first included")
    backoff_s: float = Field(1.0, ge=0, le=86_400, description="seconds before the second attempt")
    multiplier: float = Field(2.0, ge=1, le=100)
    max_backoff_s: float = Field(60.0, ge=0, le=604_800)
    jitter: float = Field(0.1, ge=0, le=1, description="the largest share by which a wait is shortened")
    retry_on: tuple[str, ...] = Field(("*",), description="error types that this rule retries; '*' is any")
    non_retryable: tuple[str, ...] = Field((), description="error types that are never retried")


class Resources(Model):
    """What one task of a node asks of Ray; the names and units are Ray's own (memory in bytes)."""

    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    memory: int | None = Field(None, gt=0)
    resources: dict[str, float] = Field(default_factory=dict)
    label_selector: dict[str, str] = Field(default_factory=dict)
    runtime_env: dict[str, Any] = Field(default_factory=dict)


class NodeBase(Model):
    """What every kind of node has."""

    id: str
    output: Mapping = Field(default_factory=dict, description="target path -> expression over `result` and the state")


class ActionNode(NodeBase):
    """Runs one action (a Python callable) as a Ray task."""

    kind: Literal["action"] = "action"
    action: str = Field(description="'module:qualname', or the name of an action pickled into the bundle")
    input: Mapping = Field(default_factory=dict, description="parameter -> expression")
    retry: tuple[Retry, ...] = ()
    timeout_s: float | None = Field(None, gt=0, description="seconds that one attempt may take, from its dispatch")
    resources: Resources = Resources()
    batch: bool = Field(True, description="whether ready tokens of this node may share one Ray task")


class Step(Model):
    """One action of a `steps` node; its expressions see the node's own in-memory `input`, `state` and `output`."""

    name: str
    action: str
    input: Mapping = Field(default_factory=dict)
    output: Mapping = Field(default_factory=dict)
    when: str | None = None
    on_failure: Literal["abort", "retry", "continue"] = "abort"
    max_attempts: int = Field(1, ge=1, le=1000, description="attempts of this step where on_failure is 'retry'")


class StepsNode(NodeBase):
    """Runs a linear sequence of actions in one Ray task; its result is what the steps wrote to `output`."""

    kind: Literal["steps"] = "steps"
    steps: tuple[Step, ...] = Field(min_length=1)
    input: Mapping = Field(default_factory=dict)
    retry: tuple[Retry, ...] = ()
    timeout_s: float | None = Field(None, gt=0)
    resources: Resources = Resources()
    batch: bool = True


class ComputeNode(NodeBase):
    """Evaluates its `output` expressions inside the coordinator, with no task: for counters, choices and reshaping."""

    kind: Literal["compute"] = "compute"


Node = Annotated[ActionNode | StepsNode | ComputeNode, Field(discriminator="kind")]


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
    m: int | str | None = Field(None, description="how many arrivals `m_of_n` needs: a number or an expression")
    remaining: Literal["absorb", "cancel", "pass"] = "absorb"
    merge: tuple[Merge, ...] = ()


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


def _node_json(node: ActionNode | StepsNode | ComputeNode) -> dict[str, Any]:
    return node.model_dump(mode="json", by_alias=True, exclude_defaults=True)
