"""Joins over `incoming`: acyclic graphs, cycles, and rounds of `any` and `m_of_n` (rule R5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.words import all_of, any_of, append, edge, node, workflow
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


def test_a_transition_that_opens_a_group_brings_nothing_to_the_join_of_the_branch_around() -> None:
    """Its token begins a branch of its own, and so joins there."""
    flow = workflow("s t j", edge("s", "j", group="g", join=IN), edge("t", "j", join=IN))
    run = _started(flow, "t")
    assert len(run.of("j")) == 1, "`s` is still at work"
    run.finish("s")
    assert len(run.of("j")) == 2
    assert drain(run).completed == {"s": 1, "t": 1, "j": 2}


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


def test_a_group_in_a_loop_is_waited_for_by_the_join_that_it_leads_back_to() -> None:
    flow = workflow(
        "s n b k end",
        edge("s", "n", spawn_count=2, join=IN),
        edge("n", "b", spawn_count=2, group="g", max_iterations=1),
        edge("b", "k", join=all_of("g")),
        edge("k", "n", join=IN),
        edge("n", "end", priority=1),
    )
    run = _started(flow, "s", "n")
    assert [token.node_id for token in run.flying] == ["b", "b"], "the second waits for what comes of the group"
    finish_all(run, "b", "b", "k")
    assert drain(run).completed == {"s": 1, "n": 2, "b": 2, "k": 1, "end": 1}


def test_of_several_ways_round_a_loop_the_one_that_is_gone_is_waited_for() -> None:
    flow = workflow(
        "s n x y end",
        edge("s", "n", spawn_count=2, join=IN),
        edge("x", "n", join=IN),
        edge("y", "n", join=IN),
        edge("n", "x", when="input == 'x'", max_iterations=1),
        edge("n", "y", when="input == 'y'", max_iterations=1),
        edge("n", "end", priority=1),
    )
    for way in "xy":
        run = CoreRun(flow)
        run.start(way)
        finish_all(run, "s", "n")
        assert [token.node_id for token in run.flying] == [way], "the second waits for who may come back"
        finish_all(run, way)
        assert drain(run).completed == {"s": 1, "n": 2, way: 1, "end": 1}


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


@pytest.mark.parametrize("between", [(), ("x",), ("x", "y")])
def test_within_a_loop_the_inner_of_two_joins_fires_before_the_outer(between: tuple[str, ...]) -> None:
    """Each waits for the other, the inner one by way of the loop: the order of arrival must not decide."""
    flow = workflow(
        ["a", "b", "c", "d", "outer", "inner", "end", *between],
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "inner", join=IN),
        edge("b", "d", when="1 == 2"),
        edge("d", "inner", join=IN),
        *(edge(one, other) for one, other in pairwise(("inner", *between))),
        edge(("inner", *between)[-1], "outer", join=IN),
        edge("c", "outer", join=IN),
        edge("outer", "a", max_iterations=1),
        edge("outer", "end", priority=1),
        start=("a",),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.completed == {"a": 2, "b": 2, "c": 2, "inner": 2, "outer": 2, "end": 1} | dict.fromkeys(between, 2)


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
