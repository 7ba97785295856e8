"""Planted bugs in failures, cancels, attempts and ends (R10, R11, I5 to I7, I10): as in `planted_in_groups`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.coordinator import machine
from wonder_ray.decisions import CancelGroup, CancelTokens, CompleteWorkflow, RequeueToken
from wonder_ray.planning import cancelling, dispatching, ending, failing, lifecycle, retrying, router
from wonder_ray.state import GroupStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrong = Callable[..., Any]

replace = msgspec.structs.replace

# --- R10 -----------------------------------------------------------------------------------------------------------


def a_group_tolerates_one_more(right: Wrong) -> Wrong:
    return lambda state, graph, group: right(state, graph, group) + 1


def a_failure_after_the_join_has_fired_is_fatal(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, group_id: str | None, error: Any, *, token_id: str | None = None) -> Any:
        while group_id is not None and state.groups[group_id].status is GroupStatus.FIRED:
            group_id = state.groups[group_id].parent_id
        return right(state, graph, group_id, error, token_id=token_id)

    return wrong


def the_members_of_a_failed_group_go_on(_right: Wrong) -> Wrong:
    return lambda *_args, **_kept: []


def a_failure_takes_the_first_handler_of_any_type(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, source: Any, outcome: str, *, error: Any = None, group: str | None = None) -> Any:
        other = None if error is None else replace(error, type="Overload")
        return right(state, graph, source, outcome, error=other, group=group)

    return wrong


def a_failed_group_fails_the_run(right: Wrong) -> Wrong:
    def wrong(state: Any, graph: Any, group: Any, error: Any, decisions: Any) -> Any:
        right(state, graph, group, error, [])
        return False, error

    return wrong


def a_failure_is_retried_once_too_often(right: Wrong) -> Wrong:
    def wrong(node: Any, token: Any, error: Any, now_us: int) -> Any:
        rules = tuple(replace(rule, max_attempts=rule.max_attempts + 1) for rule in node.retry)
        return right(replace(node, retry=rules), token, error, now_us)

    return wrong


# --- R11, I10 ------------------------------------------------------------------------------------------------------


def a_cancel_forgets_inner_groups(_right: Wrong) -> Wrong:
    return lambda _state, _group_id: iter(())


def a_cancel_forgets_what_waits_for_a_retry(right: Wrong) -> Wrong:
    def wrong(state: Any, token_ids: Any, group_ids: Any, reason: str) -> Any:
        kept = [t for t in token_ids if state.tokens[t].status is not TokenStatus.WAITING_FOR_RETRY]
        return right(state, kept, group_ids, reason)

    return wrong


def a_cancel_forgets_the_last_token(right: Wrong) -> Wrong:
    def wrong(state: Any, reason: str) -> Any:
        decisions = right(state, reason)
        return [replace(d, token_ids=d.token_ids[:-1]) if isinstance(d, CancelTokens) else d for d in decisions]

    return wrong


def a_cancelled_run_leaves_groups_open(right: Wrong) -> Wrong:
    return lambda state, reason: [d for d in right(state, reason) if not isinstance(d, CancelGroup)]


def a_run_completes_before_its_last_token(right: Wrong) -> Wrong:
    def wrong(self: Any, state: Any) -> Any:
        early = state.index.live == 1 and len(state.tokens) > 5
        return [CompleteWorkflow(output={})] if early else right(self, state)

    return wrong


# --- what is applied, and how often (I5, I6, I7) -------------------------------------------------------------------


def a_result_of_any_attempt_is_believed(_right: Wrong) -> Wrong:
    return lambda token, fact: token is not None and token.status is TokenStatus.DISPATCHED and token.epoch == fact.epoch


def a_result_of_any_epoch_is_believed(_right: Wrong) -> Wrong:
    return lambda token, fact: token is not None and token.status is TokenStatus.DISPATCHED and token.attempt == fact.attempt


def a_result_is_believed_after_the_token_has_ended(_right: Wrong) -> Wrong:
    return lambda token, fact: token is not None and token.attempt == fact.attempt and token.epoch == fact.epoch


def tasks_of_a_dead_coordinator_are_forgotten(_right: Wrong) -> Wrong:
    return lambda _state: []


def a_lost_batch_is_not_split(right: Wrong) -> Wrong:
    def wrong(self: Any, state: Any, fact: Any) -> Any:
        decisions = right(self, state, fact)
        return [replace(d, solo=False) if isinstance(d, RequeueToken) else d for d in decisions]

    return wrong


def a_planner_counts_its_calls(right: Wrong) -> Wrong:
    calls = itertools.count()
    return lambda rule, failures, token_id: right(rule, failures, token_id) + next(calls) % 2


def a_planner_depends_on_where_things_lie_in_memory(right: Wrong) -> Wrong:
    def wrong(self: Any, state: Any, *, room: Any, now_us: int) -> Any:
        return sorted(right(self, state, room=room, now_us=now_us), key=id)

    return wrong


BUGS: Final = (
    ("R10", failing, "_tolerance", a_group_tolerates_one_more),
    ("R10", failing, "escalate", a_failure_after_the_join_has_fired_is_fatal),
    ("R10", failing, "cancel_members", the_members_of_a_failed_group_go_on),
    ("R10", failing, "select_edges", a_failure_takes_the_first_handler_of_any_type),
    ("R10", failing, "_fail_group", a_failed_group_fails_the_run),
    ("R10", lifecycle, "retry", a_failure_is_retried_once_too_often),
    ("R11", cancelling, "_inner_groups", a_cancel_forgets_inner_groups),
    ("R11", cancelling, "_cancel", a_cancel_forgets_what_waits_for_a_retry),
    ("R11", ending, "cancel_everything", a_cancel_forgets_the_last_token),
    ("I10", ending, "cancel_everything", a_cancelled_run_leaves_groups_open),
    ("I10", router.Router, "_end", a_run_completes_before_its_last_token),
    ("I7", machine, "is_open_attempt", a_result_of_any_attempt_is_believed),
    ("I7", machine, "is_open_attempt", a_result_of_any_epoch_is_believed),
    ("I7", machine, "is_open_attempt", a_result_is_believed_after_the_token_has_ended),
    ("I7", router, "void_dispatches", tasks_of_a_dead_coordinator_are_forgotten),
    ("I7", router.Router, "_lost", a_lost_batch_is_not_split),
    ("I5", retrying, "backoff_us", a_planner_counts_its_calls),
    ("I6", dispatching.TaskManager, "prepare", a_planner_depends_on_where_things_lie_in_memory),
)
