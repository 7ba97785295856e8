"""Rounds of `any` and `m_of_n` joins over `incoming`: what comes after one has fired (rule R5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import CoreRun, every_order, random_order, replay
from wonder_ray.definitions.models import Merge

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition


def finish_all(run: CoreRun, *names: str) -> CoreRun:
    for name in names:
        run.finish(name)
    return run


def drain(run: CoreRun) -> CoreRun:
    while run.step():
        pass
    return run


def _started(flow: WorkflowDefinition, *names: str) -> CoreRun:
    run = CoreRun(flow)
    run.start()
    return finish_all(run, *names)


def fork(join: Any, *, threads: int = 1) -> WorkflowDefinition:
    """a -> {b, c, d} -> n -> end, n joining over incoming; `threads` of each."""
    count = None if threads == 1 else threads
    return workflow(
        [node("a"), *(node(n, input={"value": f"'{n}'"}) for n in "bcd"), node("n"), node("end")],
        *(edge("a", n, spawn_count=count) for n in "bcd"),
        *(edge(n, "n", join=join) for n in "bcd"),
        edge("n", "end"),
    )


def test_any_fires_once_a_round_and_absorbs_the_rest() -> None:
    for order in every_order():
        run = CoreRun(fork(any_of("incoming")), order=order).run()
        assert run.completed == {"a": 1, "b": 1, "c": 1, "d": 1, "n": 1, "end": 1}
        assert not run.state.rounds


@pytest.mark.parametrize("remaining", ["absorb", "pass"])
def test_a_round_survives_a_crash_after_any_turn(remaining: str) -> None:
    for seed in range(30):
        run = CoreRun(fork(any_of("incoming", remaining)), order=random_order(seed), crash_at=seed % 8).run()
        fired = 1 if remaining == "absorb" else 3
        assert run.completed == {"a": 1, "b": 1, "c": 1, "d": 1, "n": fired, "end": fired}
        assert replay(run) == run.lines


def test_any_cancels_the_rest() -> None:
    for order in every_order():
        run = CoreRun(fork(any_of("incoming", "cancel")), order=order).run()
        assert sum(run.completed[n] for n in "bcd") == 1
        assert run.completed["n"] == run.completed["end"] == 1
        assert len(run.events("token.cancelled")) == 2


def test_any_lets_the_rest_pass() -> None:
    for seed in range(40):
        run = CoreRun(fork(any_of("incoming", "pass", append("state.last"))), order=random_order(seed)).run()
        assert run.completed == {"a": 1, "b": 1, "c": 1, "d": 1, "n": 3, "end": 3}
        assert [len(row["writes"][0]["value"]) for row in run.events("branches.merged")] == [1, 1, 1]


def test_m_of_n_fires_at_the_mth_queue_and_takes_one_of_each() -> None:
    flow = fork(m_of(2, "incoming", "absorb", append("state.all")))
    run = _started(flow, "a", "d")
    assert not run.of("n")
    run.finish("b")
    assert len(run.of("n")) == 1
    assert run.events("branches.merged")[0]["writes"][0]["value"] == ["b", "d"]
    assert drain(run).completed == {"a": 1, "b": 1, "c": 1, "d": 1, "n": 1, "end": 1}


def test_a_second_arrival_over_a_taken_transition_waits_for_the_next_round() -> None:
    """What pattern 28, the blocking discriminator, asks for."""
    run = _started(fork(any_of("incoming"), threads=2), "a", "b", "b")
    assert len(run.of("n")) == 1, "the second b waits"
    finish_all(run, "c")
    assert len(run.of("n")) == 1, "c is absorbed"
    finish_all(run, "d")
    assert len(run.of("n")) == 2, "the round is over: the second b begins the next"
    assert drain(run).completed == {"a": 1, "b": 2, "c": 2, "d": 2, "n": 2, "end": 2}


@pytest.mark.parametrize("on_timeout", ["fail", "proceed_with_available"])
def test_what_waits_for_the_next_round_waits_no_longer_than_it_may(on_timeout: Any) -> None:
    join = any_of("incoming").model_copy(update={"timeout_s": 10, "on_timeout": on_timeout})
    run = _started(fork(join, threads=2), "a", "b", "b")
    run.crash()
    run.pass_time(9)
    assert len(run.of("n")) == 1, "the second b waits for the end of the round"
    run.pass_time(1)
    if on_timeout == "fail":
        assert run.error is not None
        assert (run.status, run.error.type) == ("failed", "JoinTimeout")
        return
    assert len(run.of("n")) == 2
    finish_all(run, "c", "d")
    assert len(run.of("n")) == 2, "the first round is still open, and absorbs what is late"
    assert drain(run).completed == {"a": 1, "b": 2, "c": 2, "d": 2, "n": 3, "end": 3}


def test_a_round_is_over_when_the_rest_can_bring_nothing_more() -> None:
    flow = workflow(
        "a b c d n",
        edge("a", "b", spawn_count=2),
        edge("a", "c"),
        edge("b", "n", join=any_of("incoming")),
        edge("c", "n", join=any_of("incoming"), when="1 == 2"),
        edge("c", "d", priority=1),
    )
    run = _started(flow, "a", "b", "b")
    assert len(run.of("n")) == 1
    run.crash()
    run.finish("c")
    assert len(run.of("n")) == 2


def test_m_of_n_that_can_no_longer_be_met_fails_at_once() -> None:
    flow = workflow(
        "a b c d n",
        *(edge("a", n) for n in "bcd"),
        edge("b", "n", join=m_of(2, "incoming")),
        edge("c", "n", join=m_of(2, "incoming"), when="1 == 2"),
    )
    run = _started(flow, "a", "b")
    assert run.status == "running"
    run.finish("c")
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "JoinUnsatisfied")


def test_a_branch_whose_join_cannot_be_met_is_a_tolerated_failure() -> None:
    flow = workflow(
        "a x b n join",
        edge("a", "x", spawn_count=2, group="g", tolerated_failures=1),
        edge("x", "b"),
        edge("x", "n", join=m_of(2, "incoming")),
        edge("b", "n", join=m_of(2, "incoming"), when="index == 0"),
        edge("n", "join", join=all_of("g")),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert (run.status, run.completed["n"], run.completed["join"]) == ("completed", 1, 1)


def test_rounds_in_a_loop_stay_apart() -> None:
    flow = workflow(
        "first f1 f2 f3 n last",
        *(edge("first", f) for f in ("f1", "f2", "f3")),
        *(edge(f, "n", join=any_of("incoming")) for f in ("f1", "f2", "f3")),
        edge("n", "first", max_iterations=1),
        edge("n", "last", priority=1),
        start=("first",),
    )
    expected = {"first": 2, "f1": 2, "f2": 2, "f3": 2, "n": 2, "last": 1}
    for seed in range(60):
        run = CoreRun(flow, order=random_order(seed), crash_at=seed % 12).run()
        assert run.completed == expected


def test_a_cancelled_rest_takes_groups_and_waiting_tokens_with_it() -> None:
    flow = workflow(
        "a b c d e j n end",
        edge("a", "b"),
        edge("a", "c"),
        edge("c", "d", spawn_count=3, group="g"),
        edge("d", "j", join=all_of("g")),
        edge("b", "n", join=any_of("incoming", "cancel")),
        edge("j", "n", join=any_of("incoming", "cancel")),
        edge("a", "e"),
        edge("n", "end"),
    )
    run = _started(flow, "a", "c", "d", "b")
    assert {token.node_id for token in run.flying} == {"e", "n"}, "what cannot reach the join goes on"
    assert drain(run).completed == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "n": 1, "end": 1}


@pytest.mark.parametrize("m", ["'two'", "state.missing", "0 - 1"])
def test_an_m_that_is_no_count_fails_the_branch(m: str) -> None:
    run = CoreRun(fork(m_of(m, "incoming"))).run()
    assert run.error is not None
    assert (run.error.type, run.error.node_id) == ("ExpressionError", "n")


def test_m_of_n_that_only_joins_which_wait_for_it_could_meet_fails() -> None:
    two = m_of(2, "incoming")
    flow = workflow(
        "s p q m n end",
        edge("s", "p"),
        edge("s", "q"),
        edge("p", "m", join=two),
        edge("n", "m", join=two, max_iterations=1),
        edge("q", "n", join=all_of("incoming")),
        edge("m", "n", join=all_of("incoming"), max_iterations=1),
        *(edge(each, "end", priority=1) for each in "mn"),
    )
    run = _started(flow, "s", "p")
    assert run.status == "running"
    run.finish("q")
    assert run.error is not None
    assert (run.error.type, run.error.node_id) == ("JoinUnsatisfied", "m")
    assert run.error.message == "the join over incoming at node 'm' needs 2 arrivals, and only 1 can come"


def test_a_late_arrival_that_cannot_be_merged_is_a_failure_of_its_branch_and_ends_at_the_join() -> None:
    join = any_of("incoming", "pass", Merge(target="state.all", strategy="concat"))
    flow = workflow(
        [node("a"), node("x"), node("b", input={"value": "[1]"}), node("c"), node("d", input={"value": "[2]"}), node("n")],
        edge("a", "x", spawn_count=1, group="g", tolerated_failures=1),
        *(edge("x", each) for each in "bcd"),
        *(edge(each, "n", join=join) for each in "bcd"),
    )
    run = _started(flow, "a", "x", "b", "c")
    (tolerated,) = run.events("group.failure_tolerated")
    assert tolerated["error"]["type"] == "ExpressionError"
    assert tolerated["error"]["message"].startswith("join over incoming: merge concat into state.all")
    assert len(run.events("fan_in.absorbed")) == 1
    assert drain(run).completed == {"a": 1, "x": 1, "b": 1, "c": 1, "d": 1, "n": 2}
    assert run.status == "completed"
