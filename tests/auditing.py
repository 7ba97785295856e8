"""What must hold of a run's state between turns: counters against the records they count, indexes against a rebuild."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wonder_ray.planning.admission import guard_holds
from wonder_ray.state import GOING_RUN, HELD_OPEN, TERMINAL_RUN, TERMINAL_TOKEN, GroupStatus, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState

WAITING = TokenStatus.WAITING_FOR_SIBLINGS


def audit(state: RunState, reloaded: RunState, graph: Graph) -> None:
    """Raise unless the state is consistent with itself and with what a restarted coordinator would see."""
    check_groups(state)
    check_parked(state, graph)
    reloaded.index.follow_inline(state.index.inline)
    if state.run.status not in TERMINAL_RUN:
        assert not state.index.to_route, "tokens whose transitions were not looked at"
        assert not state.index.has_result, "results that were not looked at"
        assert not state.index.has_failed, "failed children that were not looked at"
    assert picture(state) == picture(reloaded)
    if not state.index.limits and not reloaded.index.limits:
        assert ready(state) == ready(reloaded), "before `admit` a limit holds back more"
    if state.run.status in TERMINAL_RUN:
        assert state.index.live == 0, "live tokens after the terminal event"
        assert not state.children, "child runs after the terminal event"
        assert not [group for group in state.groups.values() if group.status in HELD_OPEN], "open groups after the terminal event"


def check_groups(state: RunState) -> None:
    """The counters of each group are what its tokens and inner groups say."""
    active: Counter[str] = Counter()
    arrived: Counter[str] = Counter()
    for token in state.tokens.values():
        if token.group_id is not None and token.status not in TERMINAL_TOKEN:
            if token.status is WAITING and token.join_id == token.group_id:
                arrived[token.group_id] += 1
            else:
                active[token.group_id] += 1
    passing: Counter[str] = Counter()
    for group in state.groups.values():
        if group.parent_id is not None and group.status in HELD_OPEN:
            active[group.parent_id] += 1
            passing[group.parent_id] += group.status is GroupStatus.PASSING
    for group in state.groups.values():
        assert group.active == active[group.id], group
        assert group.size >= 0
        if group.status is GroupStatus.OPEN:
            assert group.arrived == arrived[group.id], group
            assert group.active - passing[group.id] + group.arrived <= group.size, group
            assert group.active > 0 or group.open or group.arrived, f"{group} should have fired or closed"
        else:
            assert not arrived[group.id], f"arrivals wait at {group}, which is not open"


def check_parked(state: RunState, graph: Graph) -> None:
    """What was set apart because it may not start still may not: else nobody would look at it again."""
    if state.run.status not in GOING_RUN:
        return
    for token in (state.tokens[token_id] for token_id in state.index.parked):
        node, locks = graph.nodes[token.node_id], state.index.locks
        if token.id in state.index.guarded:
            held = state.index.context_changed or not guard_holds(state, node, token)
            assert held, f"the guard of {token} holds, and nobody looks"
            continue
        most = {name: node.key_limit if name.startswith("key:") else 1 for name in token.wanted}
        free = [name for name in token.wanted if locks.free(name, most[name]) and locks.is_next(token.id, name)]
        assert len(free) < len(token.wanted), f"{token} could have its locks, and nobody looks"


def picture(state: RunState) -> dict[str, Any]:
    """The indexes as plain data, without what is empty and without orders that do not matter."""
    index = state.index
    return {
        "live": index.live,
        "waiting": index.waiting,
        "counts": {key: count for key, count in index.counts.items() if count},
        "members": {key: set(found) for key, found in index.members.items() if found},
        "inner": {key: set(found) for key, found in index.inner.items() if found},
        "arrivals": {key: list(found) for key, found in index.arrivals.items() if found},
        "queues": {
            join: {edge: list(found) for edge, found in queues.items() if found}
            for join, queues in index.queues.items()
            if any(queues.values())
        },
        "unstarted, under way": (index.unstarted, index.under_way),
        "waits": {key: list(found) for key, found in index.waits.items()},
        "races": {key: set(found) for key, found in index.races.items()},
        "instances": {key: list(found) for key, found in index.instances.items()} if state.run.status in GOING_RUN else None,
        "open_groups": set(index.open_groups),
        "holders": {key: set(found) for key, found in index.locks.holders.items()},
        "queues for locks": {key: list(found) for key, found in index.locks.queues.items()},
        "next_due": state.next_due_us(),
    }


def ready(state: RunState) -> dict[str, set[str]]:
    """Node -> its pending tokens that may run, those included that are held back only by guards or locks."""
    queues: dict[str, set[str]] = {
        node: {token_id for _, token_id in queue if state.tokens[token_id].status is TokenStatus.PENDING}
        for node, queue in state.index.ready.items()
    }
    for token_id in (*state.index.parked, *(token_id for _, token_id in state.index.fresh)):
        if state.tokens[token_id].status is TokenStatus.PENDING:
            queues.setdefault(state.tokens[token_id].node_id, set()).add(token_id)
    return {node: found for node, found in queues.items() if found}
