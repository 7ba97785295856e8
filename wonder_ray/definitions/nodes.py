"""The kinds of nodes: one unit of work each, and no branching (that is what transitions are for).

>>> GateNode(id="approve", assignee="state.owner", answer={"type": "boolean"}).kind
'gate'
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Undo(Model):
    """What takes a node's work back: an action that runs when the run fails, or is cancelled with compensation.

    Undos run one after the other, in the reverse order in which their nodes completed, before the run's terminal event.
    """

    action: str = Field(description="'module:qualname', or the name of an action pickled into the bundle")
    input: Mapping = Field(default_factory=dict, description="parameter -> expression, evaluated when the node completes")
    retry: tuple[Retry, ...] = ()
    timeout_s: float | None = Field(None, gt=0)
    resources: Resources = Resources()


class NodeBase(Model):
    """What every kind of node has."""

    id: str
    output: Mapping = Field(default_factory=dict, description="target path -> expression over `result` and the state")
    guard: str | None = Field(
        None, description="condition under which a token may start here; looked at whenever the context changes"
    )
    concurrency_key: str | None = Field(
        None, description="expression; tokens of the run with the same key never run at the same time"
    )
    concurrency_limit: int = Field(1, ge=1, description="how many tokens with the same key may run at the same time")
    mutex: tuple[str, ...] = Field((), description="held from here on, for as long as the nodes that follow name it, too")


class TaskNode(NodeBase):
    """What nodes have that run user code in a Ray task."""

    input: Mapping = Field(default_factory=dict, description="parameter -> expression")
    retry: tuple[Retry, ...] = ()
    timeout_s: float | None = Field(None, gt=0, description="seconds that one attempt may take, from its dispatch")
    resources: Resources = Resources()
    batch: bool = Field(True, description="whether ready tokens of this node may share one Ray task")
    undo: Undo | None = None


class ActionNode(TaskNode):
    """Runs one action (a Python callable) as a Ray task."""

    kind: Literal["action"] = "action"
    action: str = Field(description="'module:qualname', or the name of an action pickled into the bundle")


class Step(Model):
    """One action of a `steps` node; its expressions see the node's own in-memory `input`, `state` and `output`."""

    name: str
    action: str
    input: Mapping = Field(default_factory=dict)
    output: Mapping = Field(default_factory=dict)
    when: str | None = None
    on_failure: Literal["abort", "retry", "continue"] = "abort"
    max_attempts: int = Field(1, ge=1, le=1000, description="attempts of this step where on_failure is 'retry'")


class StepsNode(TaskNode):
    """Runs a linear sequence of actions in one Ray task; its result is what the steps wrote to `output`."""

    kind: Literal["steps"] = "steps"
    steps: tuple[Step, ...] = Field(min_length=1)


class ComputeNode(NodeBase):
    """Evaluates its `output` expressions inside the coordinator, with no task: for counters, choices and reshaping."""

    kind: Literal["compute"] = "compute"


class Escalation(Model):
    """Whom a gate asks next when it is not answered in time."""

    after_s: float = Field(gt=0, description="seconds since the gate opened")
    assignee: str = Field(description="expression")


class GateNode(NodeBase):
    """Waits for an answer from outside: a decision of a person, usually. The answer is the node's `result`.

    An answer that the schema refuses leaves the gate open, which asks again. One that comes before the gate opens is kept.
    """

    kind: Literal["gate"] = "gate"
    input: Mapping = Field(default_factory=dict, description="what who answers is shown: name -> expression")
    answer: dict[str, Any] | None = Field(None, description="JSON Schema of the answer; none accepts any JSON")
    assignee: str | None = Field(None, description="expression that says who is asked")
    timeout_s: float | None = Field(None, gt=0, description="seconds until the gate times out")
    escalate: tuple[Escalation, ...] = ()


class SignalNode(NodeBase):
    """Waits for a signal from outside. Its payload is the node's `result`."""

    kind: Literal["wait_signal"] = "wait_signal"
    signal: str | None = Field(None, description="the signal's name; by default the node's id")
    retained: bool = Field(True, description="whether a signal that comes while nobody waits is kept (else it is lost)")
    payload: dict[str, Any] | None = Field(None, description="JSON Schema of the payload; a signal that breaks it is refused")
    timeout_s: float | None = Field(None, gt=0, description="seconds until the wait times out")


class TimerNode(NodeBase):
    """Waits for a time; durable, so it goes off (late, if need be) whatever dies meanwhile."""

    kind: Literal["timer"] = "timer"
    duration_s: float | str | None = Field(None, description="seconds, a number or an expression")
    until: str | None = Field(None, description="expression that gives a time: RFC 3339 text, or seconds since 1970")


class TerminateNode(NodeBase):
    """Ends the run as soon as a token reaches it; whatever else goes on is cancelled."""

    kind: Literal["terminate"] = "terminate"
    status: Literal["completed", "failed"] = "completed"
    error_type: str = Field("Terminated", description="the type of the run's error, where the status is failed")
    message: str = Field("", description="the message of the run's error")


class SubworkflowNode(NodeBase):
    """Runs another workflow (or the same one) as a child run with a coordinator of its own; its output is the `result`."""

    kind: Literal["subworkflow"] = "subworkflow"
    workflow: str = Field(description="the name of a registered workflow; the workflow's own name is recursion")
    version: str = Field(
        "latest", description="'latest' (of a workflow's own name: the run's version), or the version (sha256) it is pinned to"
    )
    input: Mapping = Field(default_factory=dict, description="the child's input, an object: name -> expression")
    retry: tuple[Retry, ...] = Field((), description="when a failed child is followed by another one")
    timeout_s: float | None = Field(None, gt=0, description="seconds that one child may take, from its start")
    undo: Undo | None = None


Node = Annotated[
    ActionNode | StepsNode | ComputeNode | GateNode | SignalNode | TimerNode | TerminateNode | SubworkflowNode,
    Field(discriminator="kind"),
]
