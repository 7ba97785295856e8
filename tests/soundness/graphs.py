"""Arbitrary definitions with free conditions, and with all that makes an order of steps matter."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.cases.words import edge, node, workflow
from tests.planning.graphs import nested
from wonder_ray.definitions.models import ActionNode, Join, TerminateNode

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


@st.composite
def counted(draw: DrawFn) -> WorkflowDefinition:
    """Fan-outs in fan-outs that one join of some of them counts, or the joins around them, or nobody."""
    names = [f"n{i}" for i in range(draw(st.integers(2, 4)))]
    sizes: list[dict[str, Any]] = [{}, {"spawn_count": 2}, {"spawn_count": 3}, {"foreach": "[1, 2, 3]"}, {"spawn_count": 4},
                                   {"foreach": "input.list"}, {"foreach": "state.list"}, {"spawn_count": "input.n"}]  # fmt: skip
    edges = []
    groups = []
    for i, (one, other) in enumerate(pairwise(names)):
        group = f"g{i}" if i == 0 or draw(st.booleans()) else None
        tolerated = draw(st.sampled_from([None, None, None, 1, 4])) if group else None
        rest = draw(st.sampled_from(sizes))
        when = draw(st.sampled_from([None, None, None, f"state.w{i}", "input.go"]))
        edges.append(edge(one, other, group=group, tolerated_failures=tolerated, when=when, **rest))
        if draw(st.integers(0, 3)) == 0:
            edges.append(edge(one, other, group=group, tolerated_failures=tolerated))
        if draw(st.integers(0, 4)) == 0:
            edges.append(edge(other, other, max_iterations=draw(st.integers(1, 3)), spawn_count=draw(st.sampled_from([None, 2]))))
        groups += [group] if group else []
    last = names[-1]
    for i, group in enumerate(reversed(groups)):
        strategy = draw(st.sampled_from(["all", "any", "m_of_n", "m_of_n", "m_of_n"]))
        needed: Any = draw(st.sampled_from([1, 2, 3, 4, 6, 9, "input.m", "state.m", "group.size", "group.size - 1"]))
        m = needed if strategy == "m_of_n" else None
        remaining = "absorb" if strategy == "all" else draw(st.sampled_from(["absorb", "cancel", "pass"]))
        join = Join(over=group, strategy=strategy, m=m, remaining=remaining)  # type: ignore[arg-type] # checked by the model
        edges.append(edge(last, f"j{i}", join=join))
        if draw(st.integers(0, 3)) == 0:
            opener = next(e.source for e in edges if e.group == group)
            edges.append(edge(opener, f"j{i}", on=f"group_failed({group})"))
        last = f"j{i}"
    joins = [f"j{i}" for i in range(len(groups))]
    return workflow([node(name) for name in (*names, *joins)], *edges, start=("n0",))
