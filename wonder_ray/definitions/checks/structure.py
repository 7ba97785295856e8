"""Names, limits, nodes that transitions and `start` speak of, and whether every node can be reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wonder_ray.definitions.limits import NODES_MAX, TRANSITIONS_MAX
from wonder_ray.definitions.models import ActionNode, StepsNode, SubworkflowNode, TaskNode
from wonder_ray.ids import NAME_PATTERN

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey

_MODULE = r"[\w\-]{1,128}(?:\.[\w\-]{1,128}){0,32}"  # a file's name need not be an identifier
_QUALNAME = r"[^\W\d]\w{0,127}(?:\.[^\W\d]\w{0,127}){0,16}"
_ACTION = re.compile(rf"{_MODULE}:{_QUALNAME}|{NAME_PATTERN.pattern}")
_BUNDLE = re.compile(r"[0-9a-f]{64}")
_REACHED_SHOWN_MAX = 20


def check_limits(survey: Survey) -> bool:
    """Note what is too large; False when the other checks had better not look at it."""
    definition = survey.definition
    for field, found, limit in (
        ("nodes", len(definition.nodes), NODES_MAX),
        ("transitions", len(definition.transitions), TRANSITIONS_MAX),
    ):
        if found > limit:
            mend = "split the workflow, or make data of what differs between the nodes and use foreach"
            survey.add((field,), f"{found:,} {field}, more than {limit:,}", mend)
    return not survey.problems


def check_structure(survey: Survey) -> None:
    """Names, references and reachability."""
    definition = survey.definition
    survey.name(definition.name, "workflow", ("name",))
    if definition.bundle is not None and not _BUNDLE.fullmatch(definition.bundle):
        survey.add(("bundle",), f"{definition.bundle[:80]!r} is not a sha256", "leave it to the client, which packs the code")
    for name in definition.output:
        survey.name(name, "output", ("output", name))
    _nodes(survey)
    _ends(survey)
    _starts(survey)
    _reach(survey)


def _nodes(survey: Survey) -> None:
    for i, node in enumerate(survey.definition.nodes):
        survey.name(node.id, "node", ("nodes", i, "id"))
        if survey.positions[node.id] != i:
            first = survey.positions[node.id]
            survey.add(
                ("nodes", i, "id"), f"two nodes are called {node.id!r} (nodes {first} and {i}, counted from 0)", "rename one"
            )
        if isinstance(node, StepsNode):
            for j, step in enumerate(node.steps):
                _action(survey, step.action, ("nodes", i, "steps", j, "action"))
        elif isinstance(node, ActionNode):
            _action(survey, node.action, ("nodes", i, "action"))
        if isinstance(node, TaskNode | SubworkflowNode) and node.undo is not None:
            _action(survey, node.undo.action, ("nodes", i, "undo", "action"))


def _action(survey: Survey, action: str, place: Place) -> None:
    if not _ACTION.fullmatch(action):
        survey.add(place, f"{action[:80]!r} names no action", "write 'module:function', or the name of an action in the bundle")


def _ends(survey: Survey) -> None:
    for i, transition in enumerate(survey.definition.transitions):
        for field, node in (("from", transition.source), ("to", transition.target)):
            if node not in survey.positions:
                survey.add(("transitions", i, field), f"unknown node {node[:80]!r}", survey.hint(node, survey.positions))


def _starts(survey: Survey) -> None:
    seen = set()
    for i, node in enumerate(survey.definition.start):
        if node not in survey.positions:
            survey.add(("start", i), f"unknown node {node[:80]!r}", survey.hint(node, survey.positions))
        elif node in seen:
            survey.add(("start", i), f"node {node!r} is started twice", "name it once; to start it n times, fan out to it")
        seen.add(node)
    if not survey.start:
        first = survey.definition.nodes[0].id
        mend = f"say where a run begins, such as start: [{first}]"
        survey.add(("start",), "no start node: every node has an incoming transition", mend)


def _reach(survey: Survey) -> None:
    reached = {node for node in survey.start if node in survey.positions}
    if not reached:
        return  # said already, and every node would be listed
    stack = list(reached)
    while stack:
        for i in survey.leaving[stack.pop()]:
            target = survey.definition.transitions[i].target
            if target in survey.positions and target not in reached:
                reached.add(target)
                stack.append(target)
    missing = [node for node in survey.positions if node not in reached]
    for node in missing[:_REACHED_SHOWN_MAX]:
        more = f" (one of {len(missing):,} such nodes)" if len(missing) > _REACHED_SHOWN_MAX else ""
        survey.add(
            ("nodes", survey.positions[node]),
            f"cannot be reached from a start node{more}",
            "add a transition to it, add it to start, or remove it",
        )
