"""What somebody asks of a run: whether it can be done, what follows from it, and what is answered.

A command is looked at before anything is recorded. `check` refuses what can never be right (an unknown signal, an update that
breaks the schema), so that its caller hears why and may ask again; all else is recorded, and then planned by `decide_command`.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import ConsumeSignal, Decision, DropSignal, RefuseAnswer, SetContext, Write
from wonder_ray.definitions.targets import parse_target
from wonder_ray.errors import CommandRefusedError, PayloadError
from wonder_ray.ids import derive_id
from wonder_ray.planning import facts
from wonder_ray.planning.changing import problem_with
from wonder_ray.planning.lifecycle import cancel
from wonder_ray.planning.routing import Split
from wonder_ray.planning.schemas import problems_of
from wonder_ray.planning.waiting import answer, waiter_for
from wonder_ray.state import GOING_RUN, ROOT_SCOPE, TERMINAL_TOKEN, GroupStatus, RunStatus, TokenStatus
from wonder_ray.values import check_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group, Kept, Token


def check(state: RunState, graph: Graph, fact: facts.CommandFact) -> None:
    """Raise a `CommandRefusedError` that says why, unless the command can be carried out."""
    run = state.run
    if run.status not in GOING_RUN:
        told = "it has not begun" if run.status is RunStatus.QUEUED else "its end is decided" if run.ending else "it has ended"
        raise _refused(state, fact, f"{told} ({run.status})")
    match fact:
        case facts.SignalRun():
            _check_value(state, fact, fact.payload)
            _check_signal(state, graph, fact)
        case facts.AnswerGate():
            _check_value(state, fact, fact.answer)
            _gate_of(state, graph, fact)
        case facts.UpdateState():
            _check_update(state, graph, fact)
        case facts.CompleteGroup() | facts.SealGroup() | facts.AddMembers():
            _check_group(state, graph, fact)
        case _:
            pass


def is_repeated(state: RunState, fact: facts.CommandFact) -> bool:
    """Whether a command asks for what is so already: it is answered with yes, and not recorded again."""
    match fact:
        case facts.CancelRun():
            return state.run.status not in GOING_RUN
        case facts.PauseRun():
            return state.run.status is RunStatus.PAUSED
        case facts.ContinueRun():
            return state.run.status is not RunStatus.PAUSED
        case _:
            return False


def _refused(state: RunState, fact: facts.CommandFact, why: str) -> CommandRefusedError:
    return CommandRefusedError(f"run {state.run.run_id}: {type(fact).__name__} was refused: {why}")


def _check_value(state: RunState, fact: facts.CommandFact, value: Any) -> None:
    try:
        check_json(value)
    except PayloadError as error:
        raise _refused(state, fact, str(error)) from None


def decide_command(state: RunState, graph: Graph, fact: facts.CommandFact) -> list[Decision]:
    """What follows from a command that was recorded."""
    match fact:
        case facts.CancelRun():
            return cancel(state, fact.reason, compensate=fact.compensate)
        case facts.SignalRun():
            return _deliver(state, graph, _newest(state))
        case facts.AnswerGate():
            token = _gate_of(state, graph, fact)
            return [] if token is None else answer(graph.nodes[token.node_id], token, _newest(state))
        case facts.UpdateState():
            writes = [Write(parse_target(target).text, value) for target, value in fact.changes.items()]
            return [SetContext(token_id=None, scope_id=ROOT_SCOPE, write=write) for write in writes]
        case facts.AddMembers():
            return _add_members(state, graph, fact)
        case _:
            return []


def _newest(state: RunState) -> Kept:
    return state.kept[next(reversed(state.kept))]


def reply_to(state: RunState, fact: facts.CommandFact, decisions: Sequence[Decision]) -> dict[str, Any]:
    """What the caller of a command is told."""
    told: dict[str, Any] = {"ok": True, "run_id": state.run.run_id}
    match fact:
        case facts.SignalRun():
            told["delivered"] = any(isinstance(decision, ConsumeSignal) for decision in decisions)
            told["kept"] = not decisions
        case facts.AnswerGate():
            refused = [decision for decision in decisions if isinstance(decision, RefuseAnswer)]
            told["accepted"] = bool(decisions) and not refused
            told["kept"] = not decisions
            told["problems"] = [problem for decision in refused for problem in decision.problems]
        case _:
            pass
    return told


# --- signals and gates -----------------------------------------------------------------------------------------------


def _check_signal(state: RunState, graph: Graph, fact: facts.SignalRun) -> None:
    listeners = graph.listeners.get(fact.name)
    if listeners is None:
        known = ", ".join(sorted(map(repr, graph.listeners))) or "none"
        raise _refused(state, fact, f"no node waits for a signal {fact.name!r}; its signals are {known}")
    for node_id in listeners:
        signal = graph.nodes[node_id].signal
        problems = problems_of(None if signal is None else signal.payload, fact.payload)
        if problems:
            raise _refused(state, fact, f"the payload breaks the schema of node {node_id!r}: {'; '.join(problems)}")


def _deliver(state: RunState, graph: Graph, kept: Kept) -> list[Decision]:
    token = waiter_for(state, graph, kept.name)
    if token is not None:
        return [ConsumeSignal(token_id=token.id, signal_id=kept.id)]
    return [] if graph.retains(kept.name) else [DropSignal(signal_id=kept.id)]


def _gate_of(state: RunState, graph: Graph, fact: facts.AnswerGate) -> Token | None:
    """The open gate that is meant; None when it is yet to open. Raises where none, or more than one, can be meant."""
    token = state.tokens.get(fact.gate)
    if token is not None:
        if graph.nodes[token.node_id].gate is None or token.status in TERMINAL_TOKEN:
            raise _refused(state, fact, f"token {token.id} at node {token.node_id!r} is no open gate (it is {token.status})")
        return token if token.status is TokenStatus.WAITING_FOR_GATE else None
    node = graph.nodes.get(fact.gate)
    if node is None or node.gate is None:
        gates = ", ".join(sorted(repr(node.id) for node in graph.nodes.values() if node.gate is not None)) or "none"
        raise _refused(state, fact, f"there is no gate {fact.gate[:80]!r}; its gates are {gates}")
    waiting = list(state.index.waits.get(node.id, ()))
    if len(waiting) > 1:
        some = ", ".join(waiting[:5])
        raise _refused(state, fact, f"{len(waiting)} gates are open at node {node.id!r}; name one by its token: {some}")
    if not waiting and not _may_come_to(state, graph, node.id):
        raise _refused(state, fact, f"the gate {node.id!r} is not open, and can open no more: nothing in the run leads to it")
    return state.tokens[waiting[0]] if waiting else None


def _may_come_to(state: RunState, graph: Graph, node: str) -> bool:
    """Whether anything that lives can still lead to a node (conditions free)."""
    before = graph.leading_to((node,))
    live = (place for (place, status), count in state.index.counts.items() if count and status not in TERMINAL_TOKEN)
    held = (state.tokens[state.groups[group].opener_id].node_id for each in state.index.instances.values() for group in each)
    return not before.isdisjoint(chain(live, held))


# --- updates ---------------------------------------------------------------------------------------------------------


def _check_update(state: RunState, graph: Graph, fact: facts.UpdateState) -> None:
    if not fact.changes:
        raise _refused(state, fact, "it changes nothing; give at least one target, such as state.limit")
    problem = problem_with(state, graph.state_schema, fact.changes, roots=("state",))
    if problem is not None:
        raise _refused(state, fact, problem)


# --- groups ----------------------------------------------------------------------------------------------------------


def group_of(state: RunState, reference: str) -> list[Group]:
    """The open groups that a name, or an id, can mean."""
    group = state.groups.get(reference)
    if group is not None:
        return [group] if group.status is GroupStatus.OPEN else []
    return [
        state.groups[group_id]
        for (name, _), instances in state.index.instances.items()
        if name == reference
        for group_id in instances
        if state.groups[group_id].status is GroupStatus.OPEN
    ]


def _check_group(state: RunState, graph: Graph, fact: facts.CompleteGroup | facts.SealGroup | facts.AddMembers) -> None:
    found = group_of(state, fact.group)
    if not found:
        known = sorted({group.name for group in state.groups.values() if group.status is GroupStatus.OPEN})
        raise _refused(state, fact, f"no group {fact.group[:80]!r} is open; open now: {', '.join(known) or 'none'}")
    if len(found) > 1:
        some = ", ".join(group.id for group in found[:5])
        raise _refused(state, fact, f"{len(found)} groups {fact.group!r} are open; name one by its id: {some}")
    if isinstance(fact, facts.CompleteGroup):
        return
    if not found[0].open:
        raise _refused(state, fact, f"group {fact.group!r} is not open to members from outside, or was closed")
    if isinstance(fact, facts.AddMembers):
        _check_value(state, fact, fact.items)
        opener = state.tokens[found[0].opener_id]
        if not fact.items or graph.opening_edge(opener.node_id, found[0].name) is None:
            raise _refused(state, fact, "there is nothing to add; give at least one item")


def _add_members(state: RunState, graph: Graph, fact: facts.AddMembers) -> list[Decision]:
    group = group_of(state, fact.group)[0]
    opener = state.tokens[group.opener_id]
    edge = graph.opening_edge(opener.node_id, group.name)
    assert edge is not None, "checked before"
    split = Split(state, graph, opener, base=derive_id("g", group.id, "added", group.added))
    return split.add_members(edge, group, fact.items)
