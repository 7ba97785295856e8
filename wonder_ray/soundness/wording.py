"""Moves told as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wonder_ray import workflow_events as ev
from wonder_ray.soundness.choosing import FreeCondition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.soundness.stepping import Move, Stepped


CONDITIONS_MAX: Final = 4
"""So many conditions of one step are told."""


def told(graph: Graph, stepped: Stepped) -> str:
    """One step in one sentence: what ended, where that led, and what followed from it."""
    move = stepped.move
    parts = [_begun(move)]
    created = _created(stepped)
    moved = move.token_id in created
    if moved:
        parts[0] += f" and goes on to {created.pop(move.token_id)}"
    parts[0] += _because(graph, stepped, move.node_id, move.token_id)
    for event in stepped.events:
        parts.extend(_told(graph, stepped, event, created))
    ends = (ev.TokenCompleted, ev.TokenFailed, ev.TokenTimedOut)
    alone = not moved and any(isinstance(event, ends) and event.token_id == move.token_id for event in stepped.events)
    if alone and len(parts) == 1:
        parts[0] += ", and nothing follows"
    return "; ".join(parts)


def _begun(move: Move) -> str:
    if move.outcome is None:
        return "the run starts"
    return f"{move.outcome.subject}{move.node_id!r} {move.outcome.label}"


def _created(stepped: Stepped) -> dict[str, str]:
    """Token -> what its transitions led to, in words."""
    found: dict[str, list[str]] = {}
    for event in stepped.events:
        if isinstance(event, ev.FanOutStarted):
            branches = "1 branch" if event.count == 1 else f"{event.count} branches"
            found.setdefault(event.token_id, []).append(f"{event.node_id!r} ({branches})")
        elif isinstance(event, ev.TokenCreated) and event.parent_id is not None and event.transition_id is not None:
            found.setdefault(event.parent_id, []).append(repr(event.node_id))
    return {token_id: _listed(places) for token_id, places in found.items()}


def _because(graph: Graph, stepped: Stepped, node_id: str, token_id: str) -> str:
    """How the conditions came out that were asked of a token."""
    decided = stepped.decided.get(token_id, {})
    found: dict[str, None] = {}
    for edge in graph.outgoing[node_id] if decided else ():
        when = edge.when
        if isinstance(when, FreeCondition) and when.condition.atom in decided:
            truth = decided[when.condition.atom] is when.condition.holds
            found[f"{when.text} is {'true' if truth else 'false'}"] = None
    return f" ({', '.join(list(found)[:CONDITIONS_MAX])})" if found else ""


def _told(graph: Graph, stepped: Stepped, event: ev.WorkflowEvent, created: dict[str, str]) -> Iterable[str]:
    match event:
        case ev.TokenCompleted() if event.token_id in created:
            because = _because(graph, stepped, event.node_id, event.token_id)
            yield f"{event.node_id!r} goes on to {created.pop(event.token_id)}{because}"
        case ev.TokenWaiting():
            yield f"a token waits at the join at {event.node_id!r}"
        case ev.FanInCompleted():
            yield f"the join at {event.node_id!r} fires"
        case ev.GroupFailed():
            group = stepped.state.groups[event.group_id]
            opener = stepped.state.tokens[group.opener_id]
            handled = f", and is handled by {created.pop(opener.id)}" if opener.id in created else ""
            yield f"group {group.name!r} fails ({event.error.type}){handled}"
        case ev.GroupClosed():
            yield f"group {stepped.state.groups[event.group_id].name!r} ends without its join"
        case ev.TokenCancelled():
            yield f"{event.node_id!r} is cancelled"
        case ev.WorkflowFailed():
            yield f"the run fails ({event.error.type})"
        case ev.WorkflowCompleted():
            yield "the run completes"


def _listed(places: list[str]) -> str:
    counted = [place if places.count(place) == 1 else f"{place} ({places.count(place)} times)" for place in dict.fromkeys(places)]
    return counted[0] if len(counted) == 1 else f"{', '.join(counted[:-1])} and {counted[-1]}"
