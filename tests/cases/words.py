"""How behaviour cases are written: what a case is, the actions its nodes name, and short words for nodes and transitions."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.models import ActionNode, Join, Merge, Transition, WorkflowDefinition
from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = "tests.cases.words"


@dataclass(frozen=True)
class Case:
    """One case: what is run, and what must come of it."""

    name: str
    definition: WorkflowDefinition
    completed: Mapping[str, int]
    """Node -> how often it completes; nodes that are not named complete never."""
    input: Any = None
    status: str = "completed"
    output: Any = None
    """The run's output, where the definition has one."""
    error_type: str | None = None
    error_message: str | None = None
    """A part of the error's message."""
    failed_attempts: Mapping[str, int] = field(default_factory=dict)
    """Node -> how many of its attempts fail."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Node -> how long its action takes."""
    before: tuple[tuple[str, str], ...] = ()
    """(x, y): every x completes before any y starts."""
    racing: tuple[str, ...] = ()
    """Nodes of which it depends on the order of arrival how often they complete: `completed` holds for `seconds`."""

    @property
    def actions(self) -> dict[str, Callable[..., Any]]:
        """Node -> its action."""
        return {node.id: action(node.action) for node in self.definition.nodes if isinstance(node, ActionNode)}


def action(ref: str) -> Callable[..., Any]:
    """The function that an action's `module:name` means."""
    found: Callable[..., Any] = getattr(sys.modules[__name__], ref.partition(":")[2])
    return found


# --- actions -------------------------------------------------------------------------------------------------------


def echo(value: Any = None) -> Any:
    """What it was given."""
    return value


def branch(number: int) -> dict[str, int]:
    """A result that names its branch."""
    return {"branch": number}


def fail_always() -> None:
    """Fails with a type and a cause of its own."""
    raise ActionError("FailureType", "Cause description")


def fail_at_three(value: Any) -> Any:
    """Fails for an item equal to 3."""
    if value == 3 and not isinstance(value, bool):
        raise ActionError("SomeFailure", "the item is 3", retryable=False)
    return value


def three_if(mended: Any) -> int:
    """Three; fails as long as it is not mended."""
    if not mended:
        raise ActionError("Broken", "not mended yet")
    return 3


# --- words ---------------------------------------------------------------------------------------------------------


def node(node_id: str, does: str = "echo", **rest: Any) -> ActionNode:
    """An action node; by default it returns its input."""
    return ActionNode(id=node_id, action=f"{HERE}:{does}", **rest)


def edge(source: str, target: str, **rest: Any) -> Transition:
    """A transition."""
    return Transition(source=source, target=target, **rest)


def workflow(nodes: str | list[Any], *edges: Transition, **rest: Any) -> WorkflowDefinition:
    """A workflow of nodes (by name, or made before) and transitions."""
    made = [node(n) if isinstance(n, str) else n for n in (nodes.split() if isinstance(nodes, str) else nodes)]
    return WorkflowDefinition(name=rest.pop("name", "case"), nodes=tuple(made), transitions=edges, **rest)


def all_of(over: str, *merge: Merge) -> Join:
    """An `all` join."""
    return Join(over=over, merge=merge)


def any_of(over: str, remaining: str = "absorb", *merge: Merge) -> Join:
    """An `any` join."""
    return Join(over=over, strategy="any", remaining=remaining, merge=merge)  # type: ignore[arg-type] # checked by the model


def m_of(m: int | str, over: str, remaining: str = "absorb", *merge: Merge) -> Join:
    """An `m_of_n` join."""
    return Join(over=over, strategy="m_of_n", m=m, remaining=remaining, merge=merge)  # type: ignore[arg-type] # as above


def append(target: str, source: str = "result") -> Merge:
    """An `append` merge."""
    return Merge(target=target, source=source)
