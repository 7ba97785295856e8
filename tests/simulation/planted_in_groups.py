"""Planted bugs in splits, joins and merges (R1 to R9): each function gets the right function, and gives the wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.decisions import CloseGroup, CreateToken, OpenGroup
from wonder_ray.ids import derive_id
from wonder_ray.planning import incoming, merging, passing, router, routing, scope, synchronization
from wonder_ray.run_state import RunState
from wonder_ray.state import GroupStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrong = Callable[..., Any]

replace = msgspec.structs.replace

# --- R1 ------------------------------------------------------------------------------------------------------------


def a_split_within_a_member_adds_nobody(right: Wrong) -> Wrong:
    return lambda self, group_id, count: 0 if group_id == self.source.group_id else right(self, group_id, count)


def a_group_is_sized_by_its_first_transition(right: Wrong) -> Wrong:
    def wrong(self: Any, group_id: str | None, count: int) -> int:
        return right(self, group_id, count) if self._branch == 0 else 0

    return wrong


def a_split_opens_its_own_group_again(right: Wrong) -> Wrong:
    def wrong(self: Any, edge: Any, *, is_open: bool) -> None:
        opened = dict(self._opened)
        right(self, edge, is_open=is_open)
        if len(self._opened) > len(opened) and not any(isinstance(d, OpenGroup) and d.name == edge.group for d in self.decisions):
            group_id = derive_id("g", self.base, edge.group)
            self._opened[edge.group] = group_id
            self.decisions.append(
                OpenGroup(group_id=group_id, name=edge.group, opener_id=self.source.id, parent_id=self.source.group_id)
            )

    return wrong


def a_successor_forgets_its_group(right: Wrong) -> Wrong:
    def wrong(self: Any, edge: Any) -> None:
        right(self, edge)
        last = self.decisions[-1] if self.decisions else None
        if isinstance(last, CreateToken) and edge.group is None and len(self.source.path_id) > 12:
            self.decisions[-1] = replace(last, group_id=None, member=False)

    return wrong


# --- R2 ------------------------------------------------------------------------------------------------------------


def what_may_pass_is_absorbed(_right: Wrong) -> Wrong:
    return lambda *_args: []


def the_rest_is_not_cancelled(_right: Wrong) -> Wrong:
    return lambda *_args, **_kept: []


def a_late_arrival_passes_a_join_that_absorbs(right: Wrong) -> Wrong:
    def wrong(self: Any, edge: Any, group: Any, nth: int = 0) -> None:
        if group.status is GroupStatus.PASSING:
            right(self, edge, group, nth)
        else:
            join = self.graph.group_joins[group.name]
            self.decisions.extend(passing.pass_join(self.state, group, join, self._as_arrival(edge, nth)))

    return wrong


# --- R3 ------------------------------------------------------------------------------------------------------------


def joins_mix_instances(_right: Wrong) -> Wrong:
    def wrong(self: RunState, group_id: str | None, name: str) -> Any:
        return next((group for group in self.groups.values() if group.name == name), None)

    return wrong


def a_join_binds_to_the_outermost_instance(_right: Wrong) -> Wrong:
    def wrong(self: RunState, group_id: str | None, name: str) -> Any:
        found = None
        while group_id is not None:
            group = self.groups[group_id]
            found = group if group.name == name else found
            group_id = group.parent_id
        return found

    return wrong


def a_join_leaves_the_group_around_it(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, group: Any, join: Any, needed: int) -> Any:
        decisions = right(state, graph, group, join, needed)
        return [replace(d, group_id=None) if isinstance(d, CreateToken) else d for d in decisions]

    return wrong


# --- R4 ------------------------------------------------------------------------------------------------------------


def a_join_of_all_fires_one_too_early(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, growth: Any, group: Any) -> Any:
        join = graph.group_joins.get(group.name)
        early = join is not None and join.strategy == "all" and group.active == 1 and group.arrived
        return synchronization._fire(state, graph, group, join, group.arrived) if early else right(state, graph, growth, group)

    return wrong


def a_member_that_ends_elsewhere_is_waited_for(right: Wrong) -> Wrong:
    return lambda state, graph, group, join: right(state, graph, group, join) if group.arrived == group.size else []


def a_join_that_cannot_be_met_waits(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, growth: Any, group: Any, join: Any) -> Any:
        decisions = right(state, graph, growth, group, join)
        return decisions if any(isinstance(d, CreateToken) for d in decisions) else []

    return wrong


def a_join_of_m_fires_at_m_minus_one(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, growth: Any, group: Any, join: Any) -> Any:
        if join.strategy == "m_of_n" and group.arrived and isinstance(join.m, int) and group.arrived == join.m - 1:
            return synchronization._fire(state, graph, group, join, group.arrived)
        return right(state, graph, growth, group, join)

    return wrong


# --- R5 ------------------------------------------------------------------------------------------------------------


def a_join_over_incoming_does_not_wait(_right: Wrong) -> Wrong:
    return lambda *_args: False


def the_last_in_a_queue_is_taken_first(right: Wrong) -> Wrong:
    def wrong(self: Any, state: Any, join_id: str, join: Any, queues: Any, needed: int | None = None) -> Any:
        turned = {edge: dict(reversed(list(queue.items()))) for edge, queue in queues.items()}
        return right(self, state, join_id, join, turned, needed)

    return wrong


def a_round_never_ends(_right: Wrong) -> Wrong:
    return lambda *_args, **_kept: []


def dead_transitions_are_waited_for(right: Wrong) -> Wrong:
    def wrong(self: Any, state: Any, join_id: str, scope_id: str, queues: Any) -> bool:
        return right(self, state, join_id, scope_id, queues) or (len(queues) == 1 and state.index.live > 1)

    return wrong


# --- R6 ------------------------------------------------------------------------------------------------------------


def an_empty_group_is_skipped(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, group: Any, join: Any) -> Any:
        return right(state, graph, group, join) if group.size else [CloseGroup(group_id=group.id)]

    return wrong


def a_foreach_over_no_list_is_empty(_right: Wrong) -> Wrong:
    def wrong(foreach: Any, scope: Any) -> Any:
        items = foreach.evaluate(scope)
        return items if isinstance(items, list) else []

    return wrong


# --- R7, R8, R9 ----------------------------------------------------------------------------------------------------


def merges_come_in_the_order_of_arrival(_right: Wrong) -> Wrong:
    return lambda _state, _graph, arrivals: list(arrivals)


def branches_with_one_path_come_in_the_order_of_arrival(_right: Wrong) -> Wrong:
    return lambda _state, _graph, arrivals: sorted(arrivals, key=scope.branch_order)


def paths_are_compared_as_texts(_right: Wrong) -> Wrong:
    return lambda token: token.path_id


def concat_appends(right: Wrong) -> Wrong:
    return lambda merge, values: [v for _, v in values] if merge.strategy == "concat" else right(merge, values)


def the_last_that_wins_is_the_first(right: Wrong) -> Wrong:
    return lambda merge, values: right(merge, values[:1] if merge.strategy == "last_wins" else values)


def append_leaves_out_what_is_null(right: Wrong) -> Wrong:
    def wrong(merge: Any, values: Any) -> Any:
        return right(merge, [pair for pair in values if pair[1] is not None] if merge.strategy == "append" else values)

    return wrong


def an_inner_join_merges_into_the_run(right: Wrong) -> Wrong:
    return lambda **fields: right(**fields | {"scope_id": ""})


def a_branch_does_not_read_through(right: Wrong) -> Wrong:
    def wrong(self: RunState, scope_id: str) -> Any:
        return right(self, scope_id) if not scope_id else self.contexts.get(scope_id, {"state": {}, "output": {}})

    return wrong


def a_branch_writes_to_the_run(right: Wrong) -> Wrong:
    return lambda **fields: right(**fields | {"scope_id": ""})


BUGS: Final = (
    ("R1", routing.Split, "_members", a_split_within_a_member_adds_nobody),
    ("R1", routing.Split, "_members", a_group_is_sized_by_its_first_transition),
    ("R1", routing.Split, "_open", a_split_opens_its_own_group_again),
    ("R1", routing.Split, "_single", a_successor_forgets_its_group),
    ("R2", synchronization, "pass_join", what_may_pass_is_absorbed),
    ("R2", synchronization, "cancel_members", the_rest_is_not_cancelled),
    ("R2", routing.Split, "_late", a_late_arrival_passes_a_join_that_absorbs),
    ("R3", RunState, "bound_group", joins_mix_instances),
    ("R3", RunState, "bound_group", a_join_binds_to_the_outermost_instance),
    ("R3", synchronization, "_fire", a_join_leaves_the_group_around_it),
    ("R4", router, "settle_group", a_join_of_all_fires_one_too_early),
    ("R4", synchronization, "_settle_all", a_member_that_ends_elsewhere_is_waited_for),
    ("R4", synchronization, "_settle_some", a_join_that_cannot_be_met_waits),
    ("R4", synchronization, "_settle_some", a_join_of_m_fires_at_m_minus_one),
    ("R5", incoming.IncomingJoins, "_blocked", a_join_over_incoming_does_not_wait),
    ("R5", incoming.IncomingJoins, "_blocked", dead_transitions_are_waited_for),
    ("R5", incoming.IncomingJoins, "_fire", the_last_in_a_queue_is_taken_first),
    ("R5", incoming.IncomingJoins, "_go_on", a_round_never_ends),
    ("R6", synchronization, "_settle_all", an_empty_group_is_skipped),
    ("R6", routing, "_items", a_foreach_over_no_list_is_empty),
    ("R7", synchronization, "in_branch_order", merges_come_in_the_order_of_arrival),
    ("R7", synchronization, "in_branch_order", branches_with_one_path_come_in_the_order_of_arrival),
    ("R7", scope, "branch_order", paths_are_compared_as_texts),
    ("R8", merging, "_merged", concat_appends),
    ("R8", merging, "_merged", the_last_that_wins_is_the_first),
    ("R8", merging, "_merged", append_leaves_out_what_is_null),
    ("R9", synchronization, "MergeBranches", an_inner_join_merges_into_the_run),
    ("R9", RunState, "view", a_branch_does_not_read_through),
    ("R9", router, "ApplyOutput", a_branch_writes_to_the_run),
)
