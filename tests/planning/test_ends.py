"""How runs and attempts end: cancels, timeouts, lost tasks, late results (rules R10, R11; invariants 7 and 10)."""

from __future__ import annotations

import heapq
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases.words import all_of, edge, node, workflow
from tests.core import CoreRun, attempt_of
from wonder_ray.definitions.models import Retry, WorkflowDefinition
from wonder_ray.planning import facts
from wonder_ray.run_places import passed
from wonder_ray.state import TERMINAL_TOKEN, ErrorRecord, TokenStatus

LOST = ErrorRecord("WorkerDied", "the worker died", kind="lost")


def busy() -> WorkflowDefinition:
    """Something of everything: open groups, arrivals, a retry that waits, tasks in flight."""
    return workflow(
        [*map(node, "abcd"), node("e", retry=(Retry(max_attempts=3, backoff_s=60),)), node("inner"), node("join"), node("last")],
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "d", group="h", spawn_count=3),
        edge("d", "inner", join=all_of("h")),
        edge("a", "e"),
        edge("c", "join", join=all_of("g")),
        edge("inner", "join", join=all_of("g")),
        edge("e", "last", join=all_of("incoming")),
        edge("join", "last", join=all_of("incoming")),
        timeout_s=3600,
    )


def halfway() -> CoreRun:
    def broken() -> None:
        msg = "no"
        raise ValueError(msg)

    run = CoreRun(busy(), {"e": broken})
    run.start()
    for name in "abdce":
        run.finish(name)
    assert {str(token.status) for token in run.state.tokens.values()} >= {
        "waiting_for_retry",
        "waiting_for_siblings",
        "dispatched",
    }
    return run


def test_a_cancel_ends_everything_at_once() -> None:
    run = halfway()
    flying = {token.id for token in run.flying}
    turn = run.turn(facts.CancelRun(reason="enough", key="k"))
    assert {token_id for token_id, _ in turn.withdrawn} == flying
    assert run.status == "cancelled"
    assert all(token.status in TERMINAL_TOKEN for token in run.state.tokens.values())
    assert [str(found.status) for found in run.state.groups.values()] == ["cancelled", "cancelled"]
    assert [row["event_type"] for row in run.rows if row["event_type"].startswith("workflow.cancel")] == [
        "workflow.cancel_requested",
        "workflow.cancelled",
    ]


def test_after_the_end_nothing_is_believed() -> None:
    run = halfway()
    late = run.flying[:]
    run.turn(facts.CancelRun(reason="enough"))
    before = run.state.durable()
    late_facts = [facts.TaskSucceeded(**attempt_of(token), result=1) for token in late]
    turn = run.turn(*late_facts, facts.CancelRun(reason="again"), facts.Alarm(), facts.Reopened(previous_epoch=1))
    assert turn.refused == late_facts
    assert run.state.durable() == before
    assert not turn.record.events


def test_a_cancel_of_a_run_that_waits_for_a_retry_only() -> None:
    flow = workflow([node("a", retry=(Retry(max_attempts=2, backoff_s=60),))])
    run = CoreRun(flow, {"a": _broken})
    run.start()
    run.finish("a")
    run.turn(facts.CancelRun(reason="enough"))
    assert (run.status, run.state.next_due_us()) == ("cancelled", None)


def _broken() -> None:
    msg = "no"
    raise ValueError(msg)


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_run_times_out_whatever_it_is_doing() -> None:
    run = halfway()
    run.clock.advance(seconds=4000)
    run.turn(facts.Alarm())
    assert run.status == "timed_out"
    assert run.error is not None
    assert run.error.type == "RunTimeout"


def test_the_timeout_that_comes_first_counts_however_late_the_alarm() -> None:
    def ended(step: float, whole: float) -> str:
        run = CoreRun(workflow([node("a", timeout_s=step)], timeout_s=whole))
        run.start()
        run.clock.advance(seconds=100)
        run.turn(facts.Alarm())
        return run.status

    assert ended(5, 10) == "failed"
    assert ended(10, 5) == "timed_out"
    assert ended(5, 5) == "timed_out"


def test_an_attempt_out_of_time_is_retried_and_its_late_result_refused() -> None:
    rule = Retry(max_attempts=2, backoff_s=1, jitter=0, retry_on=("Timeout",))
    run = CoreRun(workflow([node("a", timeout_s=5, retry=(rule,)), node("b")], edge("a", "b")))
    run.start()
    first = attempt_of(run.flying[0])
    assert run.state.next_due_us() == run.clock.now_us() + 5_000_000
    run.clock.advance(seconds=5)
    turn = run.turn(facts.Alarm())
    assert [attempt for _, attempt in turn.withdrawn] == [1]
    late = facts.TaskSucceeded(**first, result="late")
    assert run.turn(late).refused == [late]
    run.clock.advance(seconds=1)
    run.turn(facts.Alarm())
    assert run.turn(late).refused == [late]
    run.finish("a")
    assert run.state.tokens[first["token_id"]].attempt == 2
    assert run.state.tokens[first["token_id"]].result is None


def test_a_timeout_takes_its_own_handler_before_that_of_failures() -> None:
    flow = workflow(
        [node("a", timeout_s=5), node("slow"), node("bad")],
        edge("a", "slow", on="timed_out"),
        edge("a", "bad", on="failed"),
        start=("a",),
    )
    assert CoreRun(flow, durations=lambda token: 60.0 if token.node_id == "a" else 0.1).run().completed == {"slow": 1}
    flow = workflow([node("a", timeout_s=5), node("bad")], edge("a", "bad", on="failed[Timeout]"), start=("a",))
    assert CoreRun(flow, durations=lambda token: 60.0 if token.node_id == "a" else 0.1).run().completed == {"bad": 1}


def test_a_due_time_that_was_set_twice_is_acted_on_once() -> None:
    run = CoreRun(workflow([node("a", timeout_s=5)]))
    run.start()
    run.crash()
    run.clock.advance(seconds=5)
    turn = run.turn(facts.Alarm())
    assert (turn.refused, len(run.events("task.failed"))) == ([], 1)


def test_retries_due_at_one_time_all_go() -> None:
    rule = Retry(max_attempts=2, backoff_s=1, jitter=0)
    tries: list[int] = []

    def act(value: int) -> int:
        tries.append(value)
        if tries.count(value) == 1:
            _broken()
        return value

    flow = workflow([node("a"), node("b", input={"value": "index"}, retry=(rule,))], edge("a", "b", spawn_count=3))
    run = CoreRun(flow, {"b": act}).run()
    assert (run.completed["b"], sorted(tries)) == (3, [0, 0, 1, 1, 2, 2])


# --- loss ----------------------------------------------------------------------------------------------------------


def test_the_members_of_a_lost_batch_run_again_alone_and_uncharged() -> None:
    run = CoreRun(workflow([node("a"), node("b")], edge("a", "b", spawn_count=3)))
    run.start()
    run.finish("a")
    batch = run.flying[:]
    run.flying = []
    turn = run.turn(*(facts.TaskLost(**attempt_of(token), error=LOST, batched=True) for token in batch))
    assert len(turn.dispatched) == 3
    assert all(token.solo and not token.failures and token.attempt == 2 for token in turn.dispatched)
    assert not run.events("task.failed")


def test_a_task_lost_alone_is_charged_to_a_budget_of_its_own() -> None:
    run = CoreRun(workflow([node("a")]))
    run.start()
    for lost in (1, 2, 3):
        (token,) = run.flying
        run.flying = []
        run.turn(facts.TaskLost(**attempt_of(token), error=LOST))
        assert run.status == ("running" if lost < 3 else "failed")
        if lost < 3:
            assert token.failures == {"lost": lost}
            run.step()


def test_what_may_run_once_only_is_not_run_again_when_it_is_lost() -> None:
    run = CoreRun(workflow([node("a", retry=(Retry(max_attempts=1),))]))
    run.start()
    run.turn(facts.TaskLost(**attempt_of(run.flying[0]), error=LOST))
    assert run.status == "failed"


def test_losses_and_errors_do_not_use_up_each_other() -> None:
    rule = Retry(max_attempts=3, backoff_s=0)
    run = CoreRun(workflow([node("a", retry=(rule,))]), {"a": _broken})
    run.start()
    for _ in range(2):
        token = run.flying.pop()
        run.turn(facts.TaskLost(**attempt_of(token), error=LOST))
        run.step()
    run.step()
    assert run.state.tokens[token.id].failures == {"lost": 2, "0": 1}
    assert run.status == "running"


def test_an_error_that_says_so_is_not_retried() -> None:
    run = CoreRun(workflow([node("a", retry=(Retry(max_attempts=5),))]))
    run.start()
    error = ErrorRecord("Fatal", "no use", retryable=False)
    run.turn(facts.TaskErrored(**attempt_of(run.flying[0]), error=error))
    assert run.status == "failed"


# --- results that are not wanted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"attempt": 2}, {"attempt": 0}, {"epoch": 2}, {"epoch": 0}, {"token_id": "t_none"}], ids=str)
def test_only_the_open_attempt_is_believed(wrong: dict[str, Any]) -> None:
    run = CoreRun(workflow([node("a")]))
    run.start()
    before = run.state.durable()
    for fact in (
        facts.TaskSucceeded(**attempt_of(run.flying[0]) | wrong, result=1),
        facts.TaskErrored(**attempt_of(run.flying[0]) | wrong, error=LOST),
        facts.TaskLost(**attempt_of(run.flying[0]) | wrong, error=LOST, batched=True),
    ):
        turn = run.turn(fact)
        assert turn.refused == [fact]
        assert not turn.record.events
    after = run.state.durable()
    assert after == before


def test_of_two_results_in_one_turn_the_first_counts() -> None:
    run = CoreRun(workflow([node("a"), node("b")], edge("a", "b")))
    run.start()
    attempt = attempt_of(run.flying.pop())
    turn = run.turn(facts.TaskSucceeded(**attempt, result=1), facts.TaskErrored(**attempt, error=LOST))
    assert len(turn.refused) == 1
    assert run.state.tokens[attempt["token_id"]].status is TokenStatus.COMPLETED


def test_results_of_an_earlier_coordinator_are_refused() -> None:
    run = CoreRun(workflow([node("a")]))
    run.start()
    old = facts.TaskSucceeded(**attempt_of(run.flying[0]), result="old")
    run.crash()
    assert run.turn(old).refused == [old]
    assert run.status == "running"


def test_a_second_start_changes_nothing() -> None:
    run = CoreRun(workflow([node("a")]))
    run.start()
    assert not run.turn(facts.StartRun(input=2, workflow_name="w", workflow_version="v")).record.events


def test_a_result_that_ends_a_member_cancelled_in_the_same_turn_is_refused() -> None:
    flow = workflow(
        "a b c join", edge("a", "b", group="g"), edge("a", "c", group="g"), *(edge(n, "join", join=all_of("g")) for n in "bc")
    )
    run = CoreRun(flow)
    run.start()
    run.finish("a")
    b, c = run.flying
    run.flying = []
    turn = run.turn(
        facts.TaskErrored(**attempt_of(b), error=ErrorRecord("E", "x")), facts.TaskSucceeded(**attempt_of(c), result=1)
    )
    assert run.status == "failed"
    assert len(turn.refused) == 1


@given(
    entries=st.lists(st.tuples(st.integers(0, 50), st.text("abc", max_size=2)), max_size=40),
    now_us=st.integers(-1, 60),
)
def test_what_is_due_is_found_at_the_top_of_the_heap(entries: list[tuple[int, str]], now_us: int) -> None:
    heap: list[tuple[int, str]] = []
    for entry in entries:
        heapq.heappush(heap, entry)
    assert sorted(passed(heap, now_us)) == sorted(entry for entry in entries if entry[0] <= now_us)
