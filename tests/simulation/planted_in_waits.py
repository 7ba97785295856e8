"""Planted bugs in what waits for the world, locks, guards, races, child runs and ends: as in `planted_in_groups`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.coordinator import machine, observe
from wonder_ray.decisions import CancelTokens, CompleteUndo, DropSignal
from wonder_ray.fold import changes
from wonder_ray.planning import admission, cancelling, commands, ending, router, routing, synchronization, waiting
from wonder_ray.planning.router import Router
from wonder_ray.run_index import Index
from wonder_ray.run_places import Locks
from wonder_ray.run_state import RunState
from wonder_ray.state import RunStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrong = Callable[..., Any]

replace = msgspec.structs.replace

# --- signals, gates, timers ------------------------------------------------------------------------------------------


def a_signal_goes_to_who_came_last(_right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, name: str) -> Any:
        found = [state.tokens[t] for node in graph.listeners.get(name, ()) for t in state.index.waits.get(node, ())]
        return max(found, key=lambda token: token.wait.at, default=None)

    return wrong


def a_kept_signal_is_consumed_again(_right: Wrong) -> Wrong:
    return lambda self, kept_id: self.kept[kept_id]


def an_answer_that_breaks_its_schema_is_taken(_right: Wrong) -> Wrong:
    return lambda _schema, _value: ()


def what_is_due_in_a_second_is_due(right: Wrong) -> Wrong:
    def wrong(self: RunState, now_us: int) -> Any:
        self.now_us = now_us + 1_000_000
        return right(self, now_us + 1_000_000)

    return wrong


def nothing_is_ever_due(_right: Wrong) -> Wrong:
    return lambda _self, _state: []


def a_signal_that_nobody_awaits_is_lost(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, kept: Any) -> Any:
        return right(state, graph, kept) or [DropSignal(signal_id=kept.id)]

    return wrong


# --- locks, guards, races --------------------------------------------------------------------------------------------


def a_lock_admits_everybody(_right: Wrong) -> Wrong:
    return lambda _self, _name, _most: True


def who_comes_last_gets_the_lock(_right: Wrong) -> Wrong:
    return lambda _self, _token_id, _name: True


def a_successor_lets_go_of_the_mutex(_right: Wrong) -> Wrong:
    return lambda _graph, _holds, _target: ()


def guards_are_not_looked_at(_right: Wrong) -> Wrong:
    return lambda _state, _node, _token: True


def what_waits_is_not_withdrawn_by_its_guard(_right: Wrong) -> Wrong:
    return lambda _state, _graph: []


def the_losers_of_a_race_go_on(right: Wrong) -> Wrong:
    return lambda self, state, token: right(self, state, replace(token, race_id=None))


# --- groups ----------------------------------------------------------------------------------------------------------


def a_blocking_join_does_not_wait_for_earlier_ones(_right: Wrong) -> Wrong:
    return lambda _self, _group: True


def an_open_group_is_joined_before_it_is_closed(right: Wrong) -> Wrong:
    return lambda group, join: right(replace(group, open=False), join)


def added_members_are_not_counted(right: Wrong) -> Wrong:
    def wrong(self: Any, edge: Any, group: Any, items: Any) -> Any:
        return [replace(d, members=0) if hasattr(d, "members") else d for d in right(self, edge, group, items)]

    return wrong


# --- ends ------------------------------------------------------------------------------------------------------------


def a_run_does_not_wait_for_its_children(_right: Wrong) -> Wrong:
    def wrong(state: Any, end: Any, reason: str) -> Any:
        return [*cancelling.cancel_everything(state, reason), ending._terminal(end)]

    return wrong


def a_cancelled_token_leaves_its_child_alone(_right: Wrong) -> Wrong:
    return lambda _self, _token: None


def the_first_work_is_taken_back_first(right: Wrong) -> Wrong:
    def wrong(state: Any) -> Any:
        decision = right(state)
        first = next(iter(state.undos.values()))
        return replace(decision, node_id=first.node_id, undo_of=first.id, token_id=f"t_undo_{first.id}")

    return wrong


def a_failed_run_takes_nothing_back(right: Wrong) -> Wrong:
    return lambda state, end, reason: right(state, replace(end, compensate=False), reason)


def an_undo_that_fails_is_said_to_have_worked(right: Wrong) -> Wrong:
    def wrong(state: Any, token: Any) -> Any:
        decision: CompleteUndo = right(state, token)
        return replace(decision, error=None)

    return wrong


def every_cancel_fires_the_handlers_of_cancels(right: Wrong) -> Wrong:
    def wrong(state: Any, token_ids: Any, group_ids: Any, reason: str) -> Any:
        decisions = right(state, token_ids, group_ids, reason)
        return [replace(d, routed=True) if isinstance(d, CancelTokens) else d for d in decisions]

    return wrong


def a_paused_run_starts_tasks(right: Any) -> Any:
    return frozenset({*right, RunStatus.PAUSED})


def a_child_that_failed_is_said_to_have_completed(right: Wrong) -> Wrong:
    def wrong(state: Any, fact: Any) -> Any:
        return right(state, replace(fact, status=RunStatus.COMPLETED))

    return wrong


def a_child_that_is_late_is_not_told_to_end(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, token: Any) -> Any:
        decisions = right(state, graph, token)
        return decisions[1:] if token.status is TokenStatus.WAITING_FOR_CHILD and len(decisions) > 1 else decisions

    return wrong


BUGS: Final = (
    ("I7", commands, "waiter_for", a_signal_goes_to_who_came_last),
    ("I7", changes.Folding, "unkeep", a_kept_signal_is_consumed_again),
    ("I9", waiting, "problems_of", an_answer_that_breaks_its_schema_is_taken),
    ("R11", RunState, "due_items", what_is_due_in_a_second_is_due),
    ("R4", Router, "due", nothing_is_ever_due),
    ("I9", commands, "_deliver", a_signal_that_nobody_awaits_is_lost),
    ("R11", Locks, "free", a_lock_admits_everybody),
    ("R11", Locks, "is_next", who_comes_last_gets_the_lock),
    ("R11", routing, "inherited", a_successor_lets_go_of_the_mutex),
    ("R9", admission, "guard_holds", guards_are_not_looked_at),
    ("R9", router, "withdrawn_waits", what_waits_is_not_withdrawn_by_its_guard),
    ("R11", Router, "_route", the_losers_of_a_race_go_on),
    ("R4", Index, "is_first_instance", a_blocking_join_does_not_wait_for_earlier_ones),
    ("R4", synchronization, "_must_wait", an_open_group_is_joined_before_it_is_closed),
    ("R1", routing.Split, "add_members", added_members_are_not_counted),
    ("R11", ending, "end_run", a_run_does_not_wait_for_its_children),
    ("R11", RunState, "child_of", a_cancelled_token_leaves_its_child_alone),
    ("R11", ending, "_next_undo", the_first_work_is_taken_back_first),
    ("R11", ending, "end_run", a_failed_run_takes_nothing_back),
    ("R11", ending, "_undone", an_undo_that_fails_is_said_to_have_worked),
    ("R11", cancelling, "_cancel", every_cancel_fires_the_handlers_of_cancels),
    ("R11", machine, "_DISPATCHING", a_paused_run_starts_tasks),
    ("I10", observe, "_child_ended", a_child_that_failed_is_said_to_have_completed),
    ("R11", router, "wait_is_due", a_child_that_is_late_is_not_told_to_end),
)
