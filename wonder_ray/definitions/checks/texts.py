"""Expressions, assignment targets, triggers and item names: whether each text means something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from wonder_ray.definitions import models
from wonder_ray.definitions.expressions import NAMES, TEXT_LENGTH_MAX, compile_expression
from wonder_ray.definitions.graph import GROUP_NAMES
from wonder_ray.definitions.targets import parse_target
from wonder_ray.definitions.triggers import GRAMMAR, OUTCOMES
from wonder_ray.errors import ExpressionError, WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey

_PATH = re.compile(r"([a-z]+)((?:\.[A-Za-z][A-Za-z0-9_]*){0,16})")
_RESERVED = frozenset({"true", "false", "null", "in"})  # no keys in a path of CEL
_WORDS = re.compile(r"[A-Za-z][\w@.\-/: ]{0,79}")
Meaning: TypeAlias = Literal["value", "condition", "count", "list", "key", "seconds", "moment"]


class Use(NamedTuple):
    """One expression and where it stands.

    `node` is the node in whose context it is evaluated (of a transition the source), None for the run's own context.
    `private` marks the expressions inside a `steps` node, which see a state of their own. `meaning` is what its value is taken
    for, and `names` are those it may use beside the ones that every expression may.
    """

    place: Place
    text: str
    node: str | None
    private: bool = False
    meaning: Meaning = "value"
    names: frozenset[str] = frozenset()


def uses(survey: Survey) -> Iterator[Use]:
    """Every expression of the definition."""
    for name, text in survey.definition.output.items():
        yield Use(("output", name), text, None)
    for i, node in enumerate(survey.definition.nodes):
        at: Place = ("nodes", i)
        yield from _mapping((*at, "output"), node.output, node.id)
        yield from _mapping((*at, "input"), getattr(node, "input", {}), node.id)
        yield from _of_node(at, node)
    for i, transition in enumerate(survey.definition.transitions):
        yield from _of_transition(("transitions", i), transition)


def _mapping(place: Place, mapping: models.Mapping, node: str, *, private: bool = False) -> Iterator[Use]:
    for key, text in mapping.items():
        yield Use((*place, key), text, node, private)


def _of_node(at: Place, node: models.Node) -> Iterator[Use]:
    if node.guard is not None:
        yield Use((*at, "guard"), node.guard, node.id, meaning="condition")
    if node.concurrency_key is not None:
        yield Use((*at, "concurrency_key"), node.concurrency_key, node.id, meaning="key")
    if isinstance(node, models.StepsNode):
        for j, step in enumerate(node.steps):
            yield from _of_step((*at, "steps", j), step, node.id)
    elif isinstance(node, models.GateNode):
        if node.assignee is not None:
            yield Use((*at, "assignee"), node.assignee, node.id)
        for j, escalation in enumerate(node.escalate):
            yield Use((*at, "escalate", j, "assignee"), escalation.assignee, node.id)
    elif isinstance(node, models.TimerNode):
        if isinstance(node.duration_s, str):
            yield Use((*at, "duration_s"), node.duration_s, node.id, meaning="seconds")
        if node.until is not None:
            yield Use((*at, "until"), node.until, node.id, meaning="moment")
    if isinstance(node, models.TaskNode | models.SubworkflowNode) and node.undo is not None:
        yield from _mapping((*at, "undo", "input"), node.undo.input, node.id)


def _of_step(place: Place, step: models.Step, node: str) -> Iterator[Use]:
    yield from _mapping((*place, "input"), step.input, node, private=True)
    yield from _mapping((*place, "output"), step.output, node, private=True)
    if step.when is not None:
        yield Use((*place, "when"), step.when, node, private=True, meaning="condition")


def _of_transition(place: Place, transition: models.Transition) -> Iterator[Use]:
    if transition.when is not None:
        yield Use((*place, "when"), transition.when, transition.source, meaning="condition")
    if transition.foreach is not None:
        yield Use((*place, "foreach"), transition.foreach, transition.source, meaning="list")
    if isinstance(transition.spawn_count, str):
        yield Use((*place, "spawn_count"), transition.spawn_count, transition.source, meaning="count")
    if transition.join is not None:
        yield from _of_join((*place, "join"), transition.join, transition.source)


def _of_join(place: Place, join: models.Join, source: str) -> Iterator[Use]:
    if isinstance(join.m, str):
        yield Use((*place, "m"), join.m, source, meaning="count", names=GROUP_NAMES)
    for j, merge in enumerate(join.merge):
        yield Use((*place, "merge", j, "source"), merge.source, source)


def targets(survey: Survey) -> Iterator[Use]:
    """Every assignment target of the definition; of a merge `node` is the source of its transition."""
    for i, node in enumerate(survey.definition.nodes):
        for target in node.output:
            yield Use(("nodes", i, "output", target), target, node.id)
        if isinstance(node, models.StepsNode):
            for j, step in enumerate(node.steps):
                for target in step.output:
                    yield Use(("nodes", i, "steps", j, "output", target), target, node.id, private=True)
    for i, transition in enumerate(survey.definition.transitions):
        for j, merge in enumerate(transition.join.merge if transition.join is not None else ()):
            yield Use(("transitions", i, "join", "merge", j, "target"), merge.target, transition.source)


def check_texts(survey: Survey) -> dict[str, frozenset[str]]:
    """Note texts that mean nothing; gives the names that each sound expression uses."""
    items = _items(survey)
    known: dict[tuple[str, frozenset[str]], frozenset[str] | str] = {}
    for use in uses(survey):
        found = known.get((use.text, use.names))
        if found is None:
            found = known[use.text, use.names] = _names(use.text, items | use.names if use.names else items)
        if isinstance(found, str):
            survey.add(use.place, found, _mend(use))
    _targets(survey)
    _triggers(survey)
    return {text: names for (text, _), names in known.items() if not isinstance(names, str)}


def _mend(use: Use) -> str:
    """What to do about an expression that is none: most often it is a text without quotes of its own."""
    if use.meaning == "seconds":
        return "correct the expression: it gives seconds, such as 90 or input.minutes * 60"
    if use.meaning == "moment":
        return "correct the expression; a fixed time is a text with quotes of its own, such as '2026-11-25T09:00:00Z'"
    if not use.names and any(re.search(rf"\b{name}\b", use.text[:TEXT_LENGTH_MAX]) for name in sorted(GROUP_NAMES)):
        return f"correct the expression; {' and '.join(sorted(GROUP_NAMES))} have a value in the m of a join only"
    if _WORDS.fullmatch(use.text):
        return f"correct the expression; to mean the text itself, put it in quotes of its own: '{use.text}'"
    return "correct the expression"


def _items(survey: Survey) -> frozenset[str]:
    """The item names that expressions may use; names that they cannot are noted."""
    sound: dict[str, bool] = {}
    for i, transition in enumerate(survey.definition.transitions):
        name = transition.item
        if transition.foreach is None or name == "item":
            continue
        if name not in sound:
            sound[name] = name not in NAMES | GROUP_NAMES and _can_be_named(name)
        if not sound[name]:
            message = f"{name[:80]!r} cannot name an item"
            mend = f"use letters, digits and _, no word of CEL, and none of {', '.join(sorted(NAMES | GROUP_NAMES))}"
            survey.add(("transitions", i, "item"), message, mend)
    return frozenset(name for name, is_sound in sound.items() if is_sound) | {"item"}


def _can_be_named(name: str) -> bool:
    try:
        return compile_expression(name, frozenset({name})).names == {name}
    except ExpressionError:
        return False


def _names(text: str, items: frozenset[str]) -> frozenset[str] | str:
    """The names an expression uses, or what is wrong with it.

    Plain paths, which are most of the expressions of large generated workflows, are told without compiling (0.1 ms each).
    """
    path = _PATH.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if path and path[1] in NAMES and _RESERVED.isdisjoint(path[2].split(".")):
        return frozenset({path[1]})
    try:
        return compile_expression(text, items).names
    except ExpressionError as error:
        return str(error)


def _targets(survey: Survey) -> None:
    known: dict[str, str | None] = {}
    for use in targets(survey):
        if use.text not in known:
            known[use.text] = _target_trouble(use.text)
        trouble = known[use.text]
        if trouble is not None:
            survey.add(use.place, trouble, "write a path such as state.pages or output.total")


def _target_trouble(text: str) -> str | None:
    try:
        parse_target(text)
    except WonderError as error:
        return str(error)
    return None


def _triggers(survey: Survey) -> None:
    for i, trigger in enumerate(survey.triggers):
        if trigger is None:
            on = survey.definition.transitions[i].on
            hint = survey.hint(on, OUTCOMES)
            mend = f"{hint} write {GRAMMAR}" if hint.startswith("did") else f"write {GRAMMAR}"
            survey.add(("transitions", i, "on"), f"{on[:80]!r} is no outcome", mend)
