"""Nodes compiled for the planners: expressions ready to evaluate, times in microseconds, undos as nodes of their own.

>>> from wonder_ray.definitions.models import TimerNode
>>> compile_node(TimerNode(id="pause", duration_s=1.5), frozenset()).timer
TimerSpec(duration=1500000, until=None)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.definitions import models
from wonder_ray.definitions.expressions import Expression, compile_expression
from wonder_ray.definitions.targets import Target, parse_target

if TYPE_CHECKING:
    from collections.abc import Mapping

UNDO_PREFIX: Final = "undo:"
"""What ids of undo nodes begin with; no name of a node may hold the colon."""
LATEST: Final = "latest"


class RetryRule(msgspec.Struct, frozen=True):
    """A retry policy in the planners' units."""

    max_attempts: int
    backoff_us: int
    multiplier: float
    max_backoff_us: int
    jitter: float
    retry_on: frozenset[str]
    non_retryable: frozenset[str]


class GateSpec(msgspec.Struct, frozen=True):
    """What a gate asks, of whom, and whom next."""

    answer: dict[str, Any] | None
    """JSON Schema."""
    assignee: Expression | None
    escalations: tuple[tuple[int, Expression], ...]
    """(microseconds since the gate opened, assignee), in order of time."""


class SignalSpec(msgspec.Struct, frozen=True):
    """What a `wait_signal` node waits for."""

    name: str
    retained: bool
    payload: dict[str, Any] | None
    """JSON Schema."""


class TimerSpec(msgspec.Struct, frozen=True):
    """When a timer goes off: after a duration (microseconds, or an expression in seconds), or at a time."""

    duration: int | Expression | None
    until: Expression | None


class ChildSpec(msgspec.Struct, frozen=True):
    """Which workflow a child run is of."""

    workflow: str
    version: str | None
    """None is the latest."""


class TerminateSpec(msgspec.Struct, frozen=True):
    """How a terminate node ends the run."""

    failed: bool
    error_type: str
    message: str


class NodeSpec(msgspec.Struct, frozen=True):
    """A node."""

    id: str
    kind: str
    input: tuple[tuple[str, Expression], ...]
    output: tuple[tuple[Target, Expression], ...]
    retry: tuple[RetryRule, ...]
    timeout_us: int | None
    batch: bool
    """Whether its ready tokens may share a task: never where a token has one attempt only."""
    guard: Expression | None = None
    key: Expression | None = None
    key_limit: int = 1
    mutex: tuple[str, ...] = ()
    gate: GateSpec | None = None
    signal: SignalSpec | None = None
    timer: TimerSpec | None = None
    child: ChildSpec | None = None
    terminate: TerminateSpec | None = None
    undo_id: str | None = None
    """The id of the node that takes its work back, where it has one."""

    @property
    def is_task(self) -> bool:
        """Whether its tokens run user code in a Ray task."""
        return self.kind in {"action", "steps", "undo"}


def compile_node(node: models.Node, names: frozenset[str]) -> NodeSpec:
    """What planners read of a node; `names` are the names of `foreach` elements that expressions may use."""
    given: Mapping[str, str] = getattr(node, "input", {})
    rules: tuple[models.Retry, ...] = getattr(node, "retry", ())
    return NodeSpec(
        id=node.id,
        kind=node.kind,
        input=_mapping(given, names),
        output=tuple((parse_target(target), compile_expression(text, names)) for target, text in node.output.items()),
        retry=tuple(_rule(rule) for rule in rules),
        timeout_us=in_us(getattr(node, "timeout_s", None)),
        batch=isinstance(node, models.TaskNode) and node.batch,
        guard=_optional(node.guard, names),
        key=_optional(node.concurrency_key, names),
        key_limit=node.concurrency_limit,
        mutex=node.mutex,
        gate=_gate(node, names) if isinstance(node, models.GateNode) else None,
        signal=SignalSpec(node.signal or node.id, node.retained, node.payload) if isinstance(node, models.SignalNode) else None,
        timer=_timer(node, names) if isinstance(node, models.TimerNode) else None,
        child=_child(node) if isinstance(node, models.SubworkflowNode) else None,
        terminate=_terminate(node) if isinstance(node, models.TerminateNode) else None,
        undo_id=None if getattr(node, "undo", None) is None else f"{UNDO_PREFIX}{node.id}",
    )


def compile_undo(node: models.Node, names: frozenset[str]) -> NodeSpec | None:
    """The node that takes a node's work back, or None."""
    undo: models.Undo | None = getattr(node, "undo", None)
    if undo is None:
        return None
    return NodeSpec(
        id=f"{UNDO_PREFIX}{node.id}",
        kind="undo",
        input=_mapping(undo.input, names),
        output=(),
        retry=tuple(_rule(rule) for rule in undo.retry),
        timeout_us=in_us(undo.timeout_s),
        batch=False,
    )


def in_us(seconds: float | None) -> int | None:
    """Microseconds of seconds."""
    return None if seconds is None else round(seconds * 1_000_000)


def _optional(text: str | None, names: frozenset[str]) -> Expression | None:
    return None if text is None else compile_expression(text, names)


def _mapping(mapping: Mapping[str, str], names: frozenset[str]) -> tuple[tuple[str, Expression], ...]:
    return tuple((name, compile_expression(text, names)) for name, text in mapping.items())


def _gate(node: models.GateNode, names: frozenset[str]) -> GateSpec:
    found = [(round(step.after_s * 1_000_000), compile_expression(step.assignee, names)) for step in node.escalate]
    return GateSpec(node.answer, _optional(node.assignee, names), tuple(sorted(found, key=lambda step: step[0])))


def _timer(node: models.TimerNode, names: frozenset[str]) -> TimerSpec:
    duration = node.duration_s
    compiled = compile_expression(duration, names) if isinstance(duration, str) else in_us(duration)
    return TimerSpec(compiled, _optional(node.until, names))


def _child(node: models.SubworkflowNode) -> ChildSpec:
    return ChildSpec(node.workflow, None if node.version == LATEST else node.version)


def _terminate(node: models.TerminateNode) -> TerminateSpec:
    return TerminateSpec(node.status == "failed", node.error_type, node.message)


def _rule(rule: models.Retry) -> RetryRule:
    return RetryRule(
        max_attempts=rule.max_attempts,
        backoff_us=round(rule.backoff_s * 1_000_000),
        multiplier=rule.multiplier,
        max_backoff_us=round(rule.max_backoff_s * 1_000_000),
        jitter=rule.jitter,
        retry_on=frozenset(rule.retry_on),
        non_retryable=frozenset(rule.non_retryable),
    )
