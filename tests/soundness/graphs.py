"""Arbitrary definitions with free conditions, and with all that makes an order of steps matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.planning.graphs import nested
from wonder_ray.definitions.models import ActionNode, TerminateNode

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from wonder_ray.definitions.models import Node, Transition, WorkflowDefinition


@st.composite
def conditional(draw: DrawFn, depth: int = 2) -> WorkflowDefinition:
    """Blocks in blocks of every kind, some of whose transitions ask the state, or twice the same of the input."""
    definition = draw(nested(depth))
    transitions = []
    for i, transition in enumerate(definition.transitions):
        asked = draw(st.sampled_from([None, None, None, f"state.x{i}", "input.a", "!input.a"]))
        transitions.append(transition if asked is None else transition.model_copy(update={"when": asked}))
    return definition.model_copy(update={"transitions": tuple(transitions)})


@st.composite
def restless(draw: DrawFn, depth: int = 2) -> WorkflowDefinition:
    """The same with mutexes, races, effects, ends of the run, open groups, and joins that wait for time or for each other."""
    definition = draw(conditional(depth))
    names = [node.id for node in definition.nodes]
    leaving = {transition.source for transition in definition.transitions}
    groups = sorted({t.group for t in definition.transitions if t.group is not None})
    nodes = tuple(_node(draw, node, ends=node.id not in leaving) for node in definition.nodes)
    waits: dict[tuple[str, str], dict[str, Any]] = {}
    transitions = []
    for transition in definition.transitions:
        fields = _effects(draw, transition, names, groups)
        if transition.join is not None:
            key = (transition.target, transition.join.over)
            if key not in waits:
                waits[key] = draw(
                    st.sampled_from([{}, {}, {}, {"timeout_s": 5.0}, _PROCEEDS, {"blocking": key[1] != "incoming"}])
                )
            fields["join"] = transition.join.model_copy(update=waits[key])
        transitions.append(transition.model_copy(update=fields) if fields else transition)
    return definition.model_copy(update={"nodes": nodes, "transitions": tuple(transitions)})


_PROCEEDS = {"timeout_s": 5.0, "on_timeout": "proceed_with_available"}


def _node(draw: DrawFn, node: Node, *, ends: bool) -> Node:
    if ends and draw(st.integers(0, 9)) == 0:
        return TerminateNode(id=node.id)
    if isinstance(node, ActionNode):
        held: tuple[str, ...] = draw(st.sampled_from([(), (), (), (), (), ("m",), ("n",), ("m", "n")]))
        return node.model_copy(update={"mutex": held})
    return node


def _effects(draw: DrawFn, transition: Transition, names: list[str], groups: list[str]) -> dict[str, Any]:
    kind = draw(st.sampled_from(["none"] * 12 + ["cancel", "cancel_groups", "complete_groups", "race", "open"]))
    if kind == "cancel":
        return {kind: (draw(st.sampled_from(names)),)}
    if kind in {"cancel_groups", "complete_groups"} and groups:
        return {kind: (draw(st.sampled_from(groups)),)}
    if kind == "race":
        return {kind: "r"}
    if kind == "open" and transition.group is not None:
        return {kind: True}
    return {}
