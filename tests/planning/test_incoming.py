"""Joins over `incoming`: acyclic graphs, cycles, and rounds of `any` and `m_of_n` (rule R5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import CoreRun, every_order, random_order
from tests.planning.graphs import acyclic
from wonder_ray.definitions.models import ComputeNode, Merge, WorkflowDefinition

IN = all_of("incoming")


def finish_all(run: CoreRun, *names: str) -> CoreRun:
    for name in names:
        run.finish(name)
    return run


def drain(run: CoreRun) -> CoreRun:
    while run.step():
        pass
    return run


# --- acyclic -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=acyclic(), seed=st.integers(0, 2**32), crash=st.booleans())
def test_in_any_acyclic_graph_what_is_reached_completes_once(
    drawn: tuple[WorkflowDefinition, dict[str, int]], seed: int, crash: bool
) -> None:
    definition, expected = drawn
    run = CoreRun(definition, order=random_order(seed), crash_every_turn=crash).run()
    assert run.status == "completed"
    assert run.completed == expected


def test_a_small_graph_in_every_order() -> None:
    flow = workflow(
        "a b c d e",
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "d", join=IN),
        edge("c", "d", join=IN),
        edge("a", "d", join=IN),
        edge("c", "e", join=IN),
        edge("d", "e", join=IN),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.completed == dict.fromkeys("abcde", 1)
        assert run.position("token.completed", "d") < run.position("task.dispatched", "e")


def test_a_dead_path_is_not_waited_for() -> None:
    flow = workflow(
        "a b c d e",
        edge("a", "b", when="1 == 2"),
        edge("a", "c"),
        edge("b", "d"),
        edge("d", "e", join=IN),
        edge("c", "e", join=IN),
    )
    assert CoreRun(flow).run().completed == {"a": 1, "c": 1, "e": 1}


def test_a_branch_that_ends_elsewhere_releases_the_join() -> None:
    flow = workflow(
        "a b c d e",
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "e", join=IN),
        edge("c", "e", join=IN, when="1 == 2"),
        edge("c", "d", priority=1),
    )
    run = CoreRun(flow)
    run.start()
    finish_all(run, "a", "b")
    assert not run.of("e")
    run.finish("c")
    assert len(run.of("e")) == 1


def test_several_starts_meet() -> None:
    flow = workflow("a b c", edge("a", "c", join=IN), edge("b", "c", join=IN))
    for order in every_order():
        assert CoreRun(flow, order=order).run().completed == {"a": 1, "b": 1, "c": 1}


def test_queues_are_first_in_first_out_and_one_is_taken_from_each() -> None:
    join = all_of("incoming", append("state.pair"))
    flow = workflow(
        [node("a"), node("b", input={"value": "index"}), node("c", input={"value": "index + 10"}), node("d")],
        edge("a", "b", spawn_count=3),
        edge("a", "c", spawn_count=2),
        edge("b", "d", join=join),
        edge("c", "d", join=join),
    )
    run = drain(_started(flow, "a"))
    merged = [row["writes"][0]["value"] for row in run.events("branches.merged")]
    assert merged == [[0, 10], [1, 11], [2]]
    assert run.completed["d"] == 3


def _started(flow: WorkflowDefinition, *names: str) -> CoreRun:
    run = CoreRun(flow)
    run.start()
    return finish_all(run, *names)


@pytest.mark.parametrize(("strategy", "expected"), [("append", ["b", "c"]), ("keyed_by_branch", {"b": "b", "c": "c"})])
def test_merges_come_in_the_order_of_the_transitions_and_are_named_by_their_source(strategy: Any, expected: Any) -> None:
    join = all_of("incoming", Merge(target="state.all", strategy=strategy))
    flow = workflow(
        [node("a"), *(node(n, input={"value": f"'{n}'"}) for n in "bc"), node("d")],
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "d", join=join),
        edge("c", "d", join=join),
        output={"all": "state.all"},
    )
    for order in every_order():
        assert CoreRun(flow, order=order).run().output == {"all": expected}


def test_each_branch_has_an_instance_of_its_own() -> None:
    flow = workflow(
        "a b c d e join",
        edge("a", "b", spawn_count=3, group="g"),
        edge("b", "c"),
        edge("b", "d"),
        edge("c", "e", join=IN),
        edge("d", "e", join=IN),
        edge("e", "join", join=all_of("g")),
    )
    for seed in range(20):
        run = CoreRun(flow, order=random_order(seed), crash_at=seed).run()
        assert run.completed == {"a": 1, "b": 3, "c": 3, "d": 3, "e": 3, "join": 1}
        assert run.state.index.places is not None
        assert not run.state.index.places.at
        assert not run.state.index.places.busy


def test_what_a_group_will_still_bring_is_waited_for() -> None:
    flow = workflow(
        "a b c d e f",
        edge("a", "b", spawn_count=2, group="g"),
        edge("a", "c"),
        edge("b", "d", join=all_of("g")),
        edge("d", "e", join=IN),
        edge("c", "e", join=IN),
        edge("e", "f"),
    )
    for order in every_order():
        assert CoreRun(flow, order=order).run().completed == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1, "f": 1}


def test_what_will_still_pass_a_join_is_waited_for() -> None:
    flow = workflow(
        "a b c d e f",
        edge("a", "b", spawn_count=2, group="g"),
        edge("a", "c", spawn_count=2),
        edge("b", "d", join=any_of("g", "pass")),
        edge("d", "e", join=IN),
        edge("c", "e", join=IN),
        edge("e", "f"),
    )
    for seed in range(40):
        run = CoreRun(flow, order=random_order(seed)).run()
        assert run.completed["e"] == 2, "each thread of d meets one of c"


def test_the_failure_of_an_open_group_can_still_come_over_its_handler() -> None:
    flow = workflow(
        [node("a"), node("b", "fail_always"), node("c"), node("e"), node("f")],
        edge("a", "b", group="g"),
        edge("a", "c"),
        edge("a", "e", on="group_failed(g)", join=IN),
        edge("c", "e", join=IN),
        edge("e", "f"),
        start=("a",),
    )
    for order in every_order():
        run = CoreRun(flow, {"b": _fail}, order=order).run()
        assert run.completed == {"a": 1, "c": 1, "e": 1, "f": 1}


def _fail(**_given: Any) -> None:
    msg = "no"
    raise RuntimeError(msg)


def test_a_group_in_between_leads_only_to_its_join() -> None:
    """`b` works inside the group only, so the join of the enclosing branch does not wait for it."""
    flow = workflow(
        "a b c e end",
        edge("a", "b", group="g"),
        edge("a", "c"),
        edge("b", "e", join=IN, when="1 == 2"),
        edge("b", "end", join=all_of("g")),
        edge("c", "e", join=IN),
    )
    run = _started(flow, "a", "c")
    assert len(run.of("e")) == 1
    assert len(run.of("b")) == 1


# --- cycles --------------------------------------------------------------------------------------------------------


def loop(times: int) -> WorkflowDefinition:
    """s -> n; n -> x -> n, a number of times; n -> end."""
    return workflow(
        "s n x end",
        edge("s", "n", join=IN),
        edge("x", "n", join=IN),
        edge("n", "x", max_iterations=times),
        edge("n", "end", priority=1),
    )


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_loop_around_a_join_does_not_block_it(times: int) -> None:
    run = CoreRun(loop(times), crash_every_turn=True).run()
    assert run.completed == {"s": 1, "n": times + 1, "end": 1} | ({"x": times} if times else {})


def test_two_tokens_in_a_loop_meet_at_its_join() -> None:
    """The second arrival waits for what works at the join's node or behind it, wherever that is when it comes."""
    flow = workflow(
        "s n x end",
        edge("s", "n", spawn_count=2, join=IN),
        edge("x", "n", join=IN),
        edge("n", "x", max_iterations=1),
        edge("n", "end", priority=1),
    )
    run = _started(flow, "s")
    assert len(run.of("n")) == 1, "the second waits: the first may come back over x -> n"
    finish_all(run, "n", "x")
    assert len(run.of("n")) == 1, "both meet"
    assert drain(run).completed == {"s": 1, "n": 2, "x": 1, "end": 1}


def test_joins_that_wait_for_each_other_do_not_hang() -> None:
    flow = workflow(
        "s p q m n end",
        edge("s", "p"),
        edge("s", "q"),
        edge("p", "m", join=IN),
        edge("q", "n", join=IN),
        edge("m", "n", join=IN, max_iterations=3),
        edge("n", "m", join=IN, max_iterations=3),
        edge("n", "end", priority=1),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.status == "failed" or run.completed["end"] >= 1
        assert run.error is None or run.error.type == "LoopBoundExceeded"


def test_computed_nodes_take_part() -> None:
    flow = workflow(
        [node("a"), ComputeNode(id="b", output={"state.b": "1"}), ComputeNode(id="c", output={"state.c": "2"}), node("d")],
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "d", join=IN),
        edge("c", "d", join=IN),
        output={"sum": "state.b + state.c"},
    )
    run = CoreRun(flow).run()
    assert (run.output, run.completed["d"]) == ({"sum": 3}, 1)


# --- rounds --------------------------------------------------------------------------------------------------------


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
