"""Child runs: what they are of, and whether a recursion can end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.checks.survey import COMPLETED
from wonder_ray.definitions.models import GateNode, SignalNode, SubworkflowNode
from wonder_ray.definitions.node_specs import LATEST

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.models import Transition

_VERSION: Final = re.compile(r"[0-9a-f]{64}")


def check_children(survey: Survey) -> None:
    """Every rule about nodes that run workflows."""
    recursive: list[str] = []
    for i, node in enumerate(survey.definition.nodes):
        if not isinstance(node, SubworkflowNode):
            continue
        survey.name(node.workflow, "workflow", ("nodes", i, "workflow"))
        if node.version != LATEST and not _VERSION.fullmatch(node.version):
            mend = "write latest, or the version that registering gave (64 hexadecimal digits)"
            survey.add(("nodes", i, "version"), f"{node.version[:80]!r} is no version", mend)
        if node.workflow == survey.definition.name and node.version == LATEST:
            recursive.append(node.id)
    if recursive:
        _recursion(survey, recursive)


def _recursion(survey: Survey, recursive: list[str]) -> None:
    """Whether every run of the workflow runs it again."""
    ends = _ending(survey, set(recursive))
    if all(node in ends for node in survey.start if node in survey.positions):
        return
    message = f"every route leads into a node that runs {survey.definition.name!r} again, down to max_depth"
    mend = "put a condition (when) on the way to it, so that some run does without"
    survey.warn(("nodes", survey.positions[recursive[0]], "workflow"), message, mend)


def _ending(survey: Survey, recursive: set[str]) -> set[str]:
    """The nodes from which a run may come to its end without reaching one of these: the least such set."""
    ends: set[str] = set()
    waiting = dict.fromkeys(survey.positions)
    while waiting:
        again: dict[str, None] = {}
        for node in waiting:
            if node not in ends and node not in recursive and _may_end(survey, node, ends):
                ends.add(node)
                again |= dict.fromkeys(survey.definition.transitions[i].source for i in survey.entering[node])
        waiting = {node: None for node in again if node in survey.positions}
    return ends


def _may_end(survey: Survey, node: str, ends: set[str]) -> bool:
    """Whether a token that ends at a node may fire transitions into `ends` only, or none."""
    if isinstance(survey.definition.nodes[survey.positions[node]], GateNode | SignalNode):
        return True  # who answers decides, and may never
    tiers: dict[int, list[Transition]] = {}
    for i in survey.leaving[node]:
        if survey.triggers[i] == COMPLETED:
            tiers.setdefault(survey.definition.transitions[i].priority, []).append(survey.definition.transitions[i])
    for _, tier in sorted(tiers.items()):
        always = [transition for transition in tier if not _may_not_fire(transition)]
        if always:
            return all(transition.target in ends for transition in always)
        if any(transition.target in ends for transition in tier):
            return True
    return True  # none of them matches


def _may_not_fire(transition: Transition) -> bool:
    conditional = transition.when is not None or transition.max_iterations is not None
    return conditional or transition.foreach is not None or isinstance(transition.spawn_count, str) or transition.spawn_count == 0
