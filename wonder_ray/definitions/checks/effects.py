"""Races, open groups, and what transitions do to nodes and groups elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.models import GateNode, SignalNode, TimerNode

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.models import Transition

_GROUP_EFFECTS: Final = ("cancel_groups", "complete_groups", "close_groups")
RACERS: Final = (GateNode, SignalNode, TimerNode)
"""Nodes whose waiting can be withdrawn without a trace, so that they can race."""


def check_effects(survey: Survey) -> None:
    """Every rule about races, open groups and effects."""
    opened = {t.group for t in survey.definition.transitions if t.open}
    cancelled: set[str] = set()
    for i, transition in enumerate(survey.definition.transitions):
        cancelled.update(transition.cancel)
        _effects(survey, i, transition, opened)
        if transition.open and transition.group is None:
            mend = 'name the group, such as group: "pages"'
            survey.add(("transitions", i, "open"), "open is of a group, and none is named", mend)
    _races(survey)
    _open_once(survey)
    _handlers(survey, cancelled)


def _effects(survey: Survey, i: int, transition: Transition, opened: set[str | None]) -> None:
    for j, node in enumerate(transition.cancel):
        if node not in survey.positions:
            mend = survey.hint(node, survey.positions)
            survey.add(("transitions", i, "cancel", j), f"unknown node {node[:80]!r}", mend)
    for field in _GROUP_EFFECTS:
        groups: tuple[str, ...] = getattr(transition, field)
        for j, group in enumerate(groups):
            place = ("transitions", i, field, j)
            if group not in survey.openers:
                survey.add(place, f"no transition opens group {group[:80]!r}", survey.hint(group, survey.openers))
            elif field == "close_groups" and group not in opened:
                mend = "write open: true on the transition that opens it, or remove this"
                survey.warn(place, f"group {group!r} is not open to members from outside, so there is nothing to close", mend)
            elif field == "complete_groups" and group in transition.cancel_groups:
                message = f"group {group!r} is to be completed and cancelled at once"
                survey.add(place, message, "keep it in one of the two: only after completion does its join fire")


def _races(survey: Survey) -> None:
    """The alternatives of a race begin together, and can be withdrawn."""
    races: dict[tuple[str, str], list[int]] = {}
    for i, transition in enumerate(survey.definition.transitions):
        if transition.race is None:
            continue
        races.setdefault((transition.source, transition.race), []).append(i)
        _racer(survey, i, transition)
    for (source, race), found in races.items():
        survey.name(race, "race", ("transitions", found[0], "race"))
        first = survey.definition.transitions[found[0]]
        fans_out = first.foreach is not None or first.spawn_count is not None
        if len(found) == 1 and not fans_out:
            message = f"race {race[:80]!r} has one alternative at node {source[:80]!r}, so there is nothing to win"
            survey.add(("transitions", found[0], "race"), message, "give the others the same race, or remove it")
        for i in found[1:]:
            _together(survey, i, found[0])


def _racer(survey: Survey, i: int, transition: Transition) -> None:
    place = ("transitions", i, "race")
    if transition.join is not None:
        mend = "join at a node behind the race"
        survey.add(place, "a token that waits at a join cannot race", mend)
    position = survey.positions.get(transition.target)
    node = None if position is None else survey.definition.nodes[position]
    if node is not None and not isinstance(node, RACERS):
        mend = "race for a signal, a gate or a timer, or cancel the slower work from a transition behind the faster (cancel)"
        survey.add(place, f"{node.kind} node {node.id!r} cannot race: its work cannot be withdrawn without a trace", mend)


def _together(survey: Survey, i: int, first: int) -> None:
    one, other = survey.definition.transitions[first], survey.definition.transitions[i]
    if one.on != other.on:
        message = (
            f"never fires together with {survey.labels[first]!r}, which it races: on is {other.on[:80]!r} and not {one.on[:80]!r}"
        )
        survey.add(("transitions", i, "on"), message, "race after the same outcome, or give them two races")
    elif one.priority != other.priority:
        message = f"never fires together with {survey.labels[first]!r}, which it races: its priority is another"
        survey.add(("transitions", i, "priority"), message, "give both the same priority")


def _open_once(survey: Survey) -> None:
    """Members that are added later take one way."""
    first: dict[tuple[str, str], int] = {}
    for i, transition in enumerate(survey.definition.transitions):
        if transition.open and transition.group is not None:
            model = first.setdefault((transition.source, transition.group), i)
            if model != i:
                message = (
                    f"members that are added to {transition.group!r} take the way of {survey.labels[model]!r}, which is open, too"
                )
                survey.add(("transitions", i, "open"), message, "let one transition be open, and branch behind it")


def _handlers(survey: Survey, cancelled: set[str]) -> None:
    for i, trigger in enumerate(survey.triggers):
        source = survey.definition.transitions[i].source
        if trigger is not None and trigger.outcome == "cancelled" and source in survey.positions and source not in cancelled:
            message = f"no transition cancels node {source!r}: neither joins, races nor the end of a run count as that"
            survey.warn(
                ("transitions", i, "on"), message, f"name the node in some transition (cancel: [{source}]), or remove this one"
            )
