"""Plays definitions on the production core, with the answers of an example or with those of chance, and tells what went wrong.

Conditions, sizes and thresholds are replaced by answers; all else of the core is what runs in production. What is wrong is read
off the events, by rules of its own.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import msgspec

from tests.core import CoreRun, attempt_of, random_order
from wonder_ray.coordinator.machine import Machine
from wonder_ray.definitions.graph import Graph, compile_graph
from wonder_ray.errors import ExpressionError
from wonder_ray.planning import facts
from wonder_ray.soundness.abstraction import Abstract
from wonder_ray.soundness.checking import SHOWN_MAX, Check, Evidence
from wonder_ray.soundness.conditions import Condition, names_in, parse_condition, parts_of, subject
from wonder_ray.soundness.timing import durations, schedule
from wonder_ray.state import TERMINAL_RUN, ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.definitions.graph import Edge, NodeSpec
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.soundness.stepping import Move, Stepped

UNMET = {"Deadlock", "JoinUnsatisfied", "GroupNotOpen"}


class Answers:
    """Answers what transitions ask, from what an example says or by chance, and notes it."""

    def __init__(self, seed: int | None = None) -> None:
        self.when: dict[tuple[str, str], bool] = {}
        """(Transition, token) -> whether its condition holds."""
        self.sizes: dict[tuple[str, str], int] = {}
        self.broken: set[str] = set()
        """The tokens whose node cannot be evaluated."""
        self.needed: list[int] = []
        self.fails = 0.0
        self._chance = None if seed is None else random.Random(seed)
        self._said: dict[Any, Any] = {}

    def learn(self, graph: Graph, stepped: Stepped) -> None:
        """What an example's step decided."""
        for token_id, decided in stepped.decided.items():
            for edge in graph.edges:
                condition = getattr(edge.when, "condition", None)
                if condition is not None and condition.atom in decided:
                    self.when[edge.id, token_id] = decided[condition.atom] is condition.holds
        self.sizes |= stepped.sizes
        self.broken |= stepped.broken
        self.needed += stepped.needed

    def holds(self, edge: Edge, text: str, token_id: str) -> bool:
        """Whether a condition holds for a token."""
        condition = parse_condition(text)
        if condition.constant is not None:
            self.when[edge.id, token_id] = condition.constant
        elif self._chance is not None:
            self.when[edge.id, token_id] = self._truth(condition, token_id)
        return self.when[edge.id, token_id]

    def _truth(self, condition: Condition, token_id: str) -> bool:
        if condition.constant is not None:
            return condition.constant
        parts = None if condition.atom[0] else parts_of(condition.atom[1])
        if parts is not None:
            truths = [self._truth(part, token_id) for part in parts[1]]
            return (any(truths) if parts[0] == "||" else all(truths)) is condition.holds
        return self._atom(condition, token_id) is condition.holds

    def _atom(self, condition: Condition, token_id: str) -> bool:
        """By chance: once per run for what is asked of the input; what is compared has one value."""
        assert self._chance is not None
        operator, *sides = condition.atom
        about = (subject(condition.atom), None if condition.of_input else token_id)
        if about[0][0] != "of":
            return bool(self._said.setdefault(about, self._chance.random() < 0.5))
        literal = next(side for side in sides if side != about[0][1])
        if re.fullmatch(r"-?[0-9.]+", literal):
            value = self._said.setdefault(about, float(literal) + self._chance.choice([-1, -0.5, 0, 0.5, 1]))
            if not isinstance(value, float):
                return False
            compared = [value if side == about[0][1] else float(side) for side in sides]
            return compared[0] < compared[1] if operator == "<" else compared[0] == compared[1]
        return bool(self._said.setdefault(about, self._chance.choice([literal, None])) == literal)

    def size(self, text: str, token_id: str) -> int:
        """How many branches a token's fan-out has."""
        if self._chance is None:
            return self.sizes[text, token_id]
        key = (text, None if names_in(text) == {"input"} else token_id)
        return int(self._said.setdefault(key, self._chance.randrange(5)))

    def breaks(self, token_id: str) -> bool:
        """Whether what a token computes cannot be evaluated."""
        if self._chance is not None and self._chance.random() < self.fails:
            self.broken.add(token_id)
        return token_id in self.broken

    def threshold(self, text: str, scope: Mapping[str, Any]) -> int:
        """What an `m` asks for."""
        if self._chance is None:
            return self.needed.pop(0)
        return int(self._said.setdefault(text, self._chance.randrange(1, 4))) if "group" in scope else 1


class _When:
    names = frozenset[str]()

    def __init__(self, answers: Answers, edge: Edge, text: str) -> None:
        self.text, self._answers, self._edge = text, answers, edge

    def evaluate_bool(self, scope: Mapping[str, Any]) -> bool:
        return self._answers.holds(self._edge, self.text, scope["token"]["id"])


class _Size:
    names = frozenset[str]()

    def __init__(self, answers: Answers, text: str, *, as_list: bool) -> None:
        self.text, self._answers, self._as_list = text, answers, as_list

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        size = self._answers.size(self.text, scope["token"]["id"])
        return [None] * size if self._as_list else size


class _Breaks:
    names = frozenset[str]()

    def __init__(self, answers: Answers) -> None:
        self.text, self._answers = "", answers

    def evaluate(self, scope: Mapping[str, Any]) -> None:
        if self._answers.breaks(scope["token"]["id"]):
            raise ExpressionError(self.text)


class _Needed:
    def __init__(self, answers: Answers, text: str) -> None:
        self.text, self._answers = text, answers
        self.names = frozenset(names_in(text))

    def evaluate(self, scope: Mapping[str, Any]) -> int:
        return self._answers.threshold(self.text, scope)


def answered(definition: WorkflowDefinition, answers: Answers, *, alike: Mapping[str, NodeSpec]) -> Graph:
    """The graph of a definition without its data; `alike` has the nodes."""
    bare = compile_graph(definition)
    edges = []
    for edge, t in zip(bare.edges, definition.transitions, strict=True):
        fields: dict[str, Any] = {}
        if t.when is not None:
            fields["when"] = _When(answers, edge, t.when)
        if t.foreach is not None and (names_in(t.foreach) or t.open):
            fields["foreach"] = _Size(answers, t.foreach, as_list=True)
        if isinstance(t.spawn_count, str) or (t.spawn_count is not None and t.open):
            fields["spawn_count"] = _Size(answers, str(t.spawn_count), as_list=False)
        if edge.join is not None:
            m = edge.join.m
            if t.join is not None and isinstance(t.join.m, str) and names_in(t.join.m) - {"group"}:
                m = _Needed(answers, t.join.m)  # type: ignore[assignment] # stands for it
            fields["join"] = msgspec.structs.replace(edge.join, m=m, merges=())
        edges.append(msgspec.structs.replace(edge, **fields))
    nodes = {
        name: msgspec.structs.replace(node, output=tuple((target, _Breaks(answers)) for target, _ in node.output))
        for name, node in alike.items()
    }
    return Graph(nodes=nodes, edges=tuple(edges), start=bare.start, output=(), timeout_us=None, max_depth=bare.max_depth)


def on_core(definition: WorkflowDefinition, graph: Graph, **how: Any) -> CoreRun:
    """A run on that graph."""
    run = CoreRun(definition, checked=False, **how)
    run.graph = graph
    run.machine = Machine(graph, run.state, epoch=1)
    return run


# --- examples ----------------------------------------------------------------------------------------------------------


def play(definition: WorkflowDefinition, shown: Evidence) -> tuple[CoreRun, Answers]:
    """An example's moves, on the core."""
    answers = Answers()
    steps = shown.examples.play(shown.moves)
    assert len(steps) == len(shown.moves)
    for stepped in steps:
        answers.learn(shown.examples.graph, stepped)
    times = schedule(durations(definition), steps)
    assert times is not None
    run = on_core(definition, answered(definition, answers, alike=shown.examples.graph.nodes))
    begun_us = run.clock.now_us()
    for move, at_us in zip(shown.moves, times, strict=True):
        run.clock.advance(seconds=(begun_us + at_us - run.clock.now_us()) / 1_000_000)
        make(run, move)
    return run, answers


def make(run: CoreRun, move: Move) -> None:
    """One move."""
    if move.outcome is None:
        run.start()
    elif move.outcome.of == "closing":
        run.say(facts.SealGroup(group=move.token_id))
    elif move.outcome.of == "time":
        run.turn(facts.Alarm())
    else:
        (token,) = [token for token in run.flying if token.id == move.token_id]
        run.flying.remove(token)
        if move.outcome.error is None:
            run.turn(facts.TaskSucceeded(**attempt_of(token), result=None))
        else:
            error = msgspec.structs.replace(move.outcome.error, node_id=token.node_id)
            run.turn(facts.TaskErrored(**attempt_of(token), error=error))


# --- chance ------------------------------------------------------------------------------------------------------------


def by_chance(definition: WorkflowDefinition, seed: int, *, fails: float = 0.0, steps: int = 200) -> tuple[CoreRun, Answers]:
    """A run in which all that is not fixed is left to chance."""
    chance = random.Random(seed)
    answers = Answers(seed)
    answers.fails = fails
    check = Check(definition, 1)
    nodes = Abstract(definition, check.open_groups, exact=SHOWN_MAX).graph.nodes
    run = on_core(definition, answered(definition, answers, alike=nodes), order=random_order(seed), room=seed % 5 + 1)
    run.start()
    for _ in range(steps):
        if run.state.run.status in TERMINAL_RUN:
            break
        still_open = [group for group in run.state.groups.values() if str(group.status) == "open" and group.open]
        if still_open and (not run.flying or chance.random() < 0.2):
            run.say(facts.SealGroup(group=still_open[0].id))
        elif run.flying and chance.random() < fails:
            token = run.flying.pop(chance.randrange(len(run.flying)))
            kind = chance.choice(["SomeError", "Odd", "Overload", "ExpressionError"])
            run.turn(facts.TaskErrored(**attempt_of(token), error=ErrorRecord(kind, "", retryable=False, node_id=token.node_id)))
        elif not run.step():
            break
    return run, answers


# --- what went wrong ---------------------------------------------------------------------------------------------------


def wrongs(run: CoreRun, answers: Answers) -> set[tuple[str, str]]:
    """(Kind, place) of all that went wrong, as the events tell it, in a run in which no failure explains it."""
    found: set[tuple[str, str]] = set()
    rows = [row | msgspec.json.decode(row.get("metadata", "{}")) for row in run.rows]
    error = run.error
    if run.status == "failed" and error is not None and error.type in UNMET:
        locked = any(row["event_type"] == "mutex.requested" for row in rows)
        found.add(("mutex_deadlock" if error.type == "Deadlock" and locked else "waits_for_ever", error.node_id or ""))
    found |= _groups(run) | _ended(run, answers, rows) | _cut_off(run, rows)
    return found


def _groups(run: CoreRun) -> set[tuple[str, str]]:
    joins = run.graph.group_joins
    return {
        ("never_joined", group.name)
        for group in run.state.groups.values()
        if group.name not in joins or (str(group.status) == "skipped" and not group.failures)
    }


def _ended(run: CoreRun, answers: Answers, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Branches that completed without a transition, before their join."""
    found = set()
    for row in rows:
        if row["event_type"] != "token.completed":
            continue
        token = run.state.tokens[row["token_id"]]
        group = run.state.groups.get(token.group_id or "")
        if group is None or group.name not in run.graph.group_joins or token.join_id is not None:
            continue
        edges = [edge for edge in run.graph.outgoing[token.node_id] if edge.trigger.outcome == "completed"]
        if not any(edge.when is None or answers.when.get((edge.id, token.id)) for edge in edges):
            found.add(("left_behind", token.node_id))
    return found


def _cut_off(run: CoreRun, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    if run.status != "completed":
        return set()
    last = [row for row in rows if row["turn"] == rows[-1]["turn"]]
    ending = {row["node_id"] for row in last if row["event_type"] == "node_completed"} & {
        name for name, node in run.graph.nodes.items() if node.terminate is not None
    }
    cancelled = any(row["event_type"] == "token.cancelled" for row in last)
    return {("left_behind", node) for node in ending} if cancelled else set()
