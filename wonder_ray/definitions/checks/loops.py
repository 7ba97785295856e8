"""Loops that nothing ends.

A loop is bounded when one of its transitions has `max_iterations`, or may fail to match: it has a `when`, fans out over data that
may be empty (and no join starts it again), or stands behind a conditional transition of an earlier tier that leaves the loop.
Loops that only go on after a failure are let through with a warning.

A loop through a gate or a signal goes round as often as somebody outside wants, which is what workflows that serve requests do;
it is no finding. One through a timer is no error either, since it does not keep anything busy, but nothing outside ends it, and
its history grows: a warning. A timer of no duration waits for nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from wonder_ray.definitions.checks.survey import COMPLETED
from wonder_ray.definitions.checks.tangles import tangles
from wonder_ray.definitions.models import GateNode, SignalNode, TimerNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.triggers import Trigger

Edges: TypeAlias = dict[str, list[int]]
"""Node -> positions of the transitions that leave it."""
_SHOWN_MAX = 8
_NO_TIME = (None, 0, "0")


def check_loops(survey: Survey) -> None:
    """Note one loop per tangle of nodes that has an unbounded one."""
    nodes_by_id = {node: survey.definition.nodes[position] for node, position in survey.positions.items()}
    asked = {node for node, model in nodes_by_id.items() if isinstance(model, GateNode | SignalNode)}
    timed = {node for node, model in nodes_by_id.items() if isinstance(model, TimerNode) and model.duration_s not in _NO_TIME}
    sources = [transition.source for transition in survey.definition.transitions]
    always = [i for i in range(len(sources)) if survey.known_ends(i) and sources[i] not in asked and not _may_end(survey, i)]
    busy = [i for i in always if sources[i] not in timed]
    said: set[str] = set()
    for nodes, loop in _unbounded(survey, [i for i in busy if survey.triggers[i] == COMPLETED]):
        said |= nodes
        message = f"the loop {_shown(survey, loop)} has no bound and no condition: it never ends"
        survey.add(("transitions", loop[-1]), message, "put max_iterations, or a condition (when), on one of its transitions")
    for nodes, loop in _unbounded(survey, busy):
        if said.isdisjoint(nodes):
            said |= nodes
            message = f"the loop {_shown(survey, loop)} goes on as long as its nodes fail"
            survey.warn(("transitions", loop[-1]), message, "put max_iterations on one of its transitions")
    for nodes, loop in _unbounded(survey, always if timed else ()):
        if said.isdisjoint(nodes):
            message = f"the loop {_shown(survey, loop)} goes round at its timer until the run is cancelled, and its history grows"
            mend = "put max_iterations, or a condition (when), on one of its transitions"
            survey.warn(("transitions", loop[-1]), message, mend)


def _may_end(survey: Survey, i: int) -> bool:
    """Whether a transition on its own may end a loop it is in."""
    transition = survey.definition.transitions[i]
    if transition.when is not None or transition.max_iterations is not None:
        return True
    data_decides = transition.foreach is not None or isinstance(transition.spawn_count, str) or transition.spawn_count == 0
    return data_decides and transition.group not in survey.joiners


def _unbounded(survey: Survey, transitions: Iterable[int]) -> Iterator[tuple[set[str], list[int]]]:
    """Sets of nodes that reach each other over these transitions and have no conditional way out, each with one loop in it."""
    edges: Edges = {node: [] for node in survey.positions}
    for i in transitions:
        edges[survey.definition.transitions[i].source].append(i)
    targets = [transition.target for transition in survey.definition.transitions]
    for nodes in tangles({node: [targets[i] for i in found] for node, found in edges.items()}):
        if not _has_way_out(survey, edges, nodes):
            yield nodes, _loop(survey, edges, nodes)


def _has_way_out(survey: Survey, edges: Edges, nodes: set[str]) -> bool:
    """Whether somewhere an earlier tier of the same outcome holds a condition that leads out of these nodes."""
    transitions = survey.definition.transitions
    for node in nodes:
        last: dict[Trigger | None, int] = {}
        for i in edges[node]:
            if transitions[i].target in nodes:
                last[survey.triggers[i]] = max(last.get(survey.triggers[i], transitions[i].priority), transitions[i].priority)
        for i in survey.leaving[node] if last else ():
            other = transitions[i]
            conditional = other.when is not None or other.max_iterations is not None
            if conditional and other.target not in nodes and other.priority < last.get(survey.triggers[i], other.priority):
                return True
    return False


def _loop(survey: Survey, edges: Edges, nodes: set[str]) -> list[int]:
    """The transitions of a shortest loop through the first of these nodes."""
    first = min(nodes, key=survey.positions.__getitem__)
    came_by: dict[str, int] = {}
    queue = deque([first])
    while first not in came_by:
        node = queue.popleft()
        for i in edges[node]:
            target = survey.definition.transitions[i].target
            if target in nodes and target not in came_by:
                came_by[target] = i
                queue.append(target)
    loop = [came_by[first]]
    while survey.definition.transitions[loop[-1]].source != first:
        loop.append(came_by[survey.definition.transitions[loop[-1]].source])
    return loop[::-1]


def _shown(survey: Survey, loop: list[int]) -> str:
    nodes = [survey.definition.transitions[i].source for i in loop]
    some = nodes if len(nodes) <= _SHOWN_MAX else [*nodes[: _SHOWN_MAX - 1], "..."]
    return " -> ".join([*some, nodes[0]])
