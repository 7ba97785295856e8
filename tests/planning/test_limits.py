"""`max_concurrency`: never more branches under way than a fan-out allows, and all of them in the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.words import all_of, any_of, append, edge, node, workflow
from tests.core import CoreRun, random_order
from wonder_ray.definitions.models import ComputeNode, Retry, WorkflowDefinition
from wonder_ray.errors import ActionError


def limited(most: int, join: Any, *, first: Any = None) -> WorkflowDefinition:
    """a -> (b -> c) for each item, at most `most` at once -> join."""
    return workflow(
        [node("a"), first or node("b", input={"value": "item"}), node("c", input={"value": "item"}), node("join")],
        edge("a", "b", foreach="input", group="g", max_concurrency=most),
        edge("b", "c"),
        edge("c", "join", join=join),
        output={"all": "has(state.all) ? state.all : []"},
    )


def under_way(run: CoreRun) -> int:
    """Branches that have begun and not ended."""
    return len({token.index for token in run.flying if token.node_id in {"b", "c"}})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(0, 8), most=st.integers(1, 4), seed=st.integers(0, 999), crash=st.booleans())
def test_no_more_branches_than_allowed_are_under_way(count: int, most: int, seed: int, crash: bool) -> None:
    run = CoreRun(limited(most, all_of("g", append("state.all"))), order=random_order(seed), crash_every_turn=crash)
    run.start(list(range(count)))
    assert under_way(run) <= most
    while run.step():
        assert under_way(run) <= most
    assert run.output == {"all": list(range(count))}


def test_branches_start_in_their_order() -> None:
    run = CoreRun(limited(2, all_of("g")), order=random_order(3)).run(list(range(6)))
    first = [row for row in run.events("task.dispatched") if row["node_id"] == "b"]
    assert [row["input"]["value"] for row in first] == list(range(6))


def test_a_branch_that_waits_for_its_retry_is_under_way() -> None:
    flow = limited(1, all_of("g"), first=node("b", input={"value": "item"}, retry=(Retry(max_attempts=2),)))
    tries = iter([True])

    def act(value: Any) -> Any:
        if next(tries, False):
            raise ActionError("Once")
        return value

    run = CoreRun(flow, {"b": act}).run([1, 2])
    order = [(row["event_type"], row["path_id"]) for row in run.rows if row.get("node_id") == "b" and "task" in row["event_type"]]
    assert [path for _, path in order] == ["root.a.0"] * 5 + ["root.a.1"] * 2


def test_branches_that_begin_with_computed_nodes_are_limited_too() -> None:
    flow = limited(1, all_of("g", append("state.all")), first=ComputeNode(id="b", output={"state.x": "item"}))
    run = CoreRun(flow, order=random_order(1)).run([1, 2, 3])
    assert (run.output, run.most_flying["c"], run.completed["b"]) == ({"all": [1, 2, 3]}, 1, 3)
    flow = workflow(
        [node("a"), ComputeNode(id="b", output={"state.x": "item"}), node("join")],
        edge("a", "b", foreach="input", group="g", max_concurrency=2),
        edge("b", "join", join=all_of("g", append("state.all", "state.x"))),
        output={"all": "state.all"},
    )
    assert CoreRun(flow).run(list(range(7))).output == {"all": list(range(7))}


def test_limits_in_limits_both_hold() -> None:
    flow = workflow(
        [node("a"), node("b"), node("c", input={"value": "cell"}), node("inner"), node("join")],
        edge("a", "b", foreach="[1, 2, 3, 4]", group="g", max_concurrency=2),
        edge("b", "c", foreach="[1, 2, 3, 4, 5]", item="cell", group="h", max_concurrency=3),
        edge("c", "inner", join=all_of("h")),
        edge("inner", "join", join=all_of("g")),
    )
    for seed in range(10):
        run = CoreRun(flow, order=random_order(seed), crash_at=seed * 3)
        run.start()
        while run.step():
            cells = run.of("c")
            assert len({run.state.frames(token.fanout_id, token.index).__next__()[0].id for token in cells}) <= 2
            assert len(cells) <= 6
        assert run.completed == {"a": 1, "b": 4, "c": 20, "inner": 4, "join": 1}
        assert not run.state.index.limits


@pytest.mark.parametrize("crash", [False, True])
def test_a_limit_within_branches_that_have_none_holds_in_each(crash: bool) -> None:
    flow = workflow(
        [node("a"), node("b"), node("c", input={"value": "cell"}), node("inner"), node("join")],
        edge("a", "b", foreach="[1, 2, 3]", group="g"),
        edge("b", "c", foreach="[1, 2, 3, 4]", item="cell", group="h", max_concurrency=1),
        edge("c", "inner", join=all_of("h")),
        edge("inner", "join", join=all_of("g")),
    )
    run = CoreRun(flow, crash_every_turn=crash).run()
    assert run.completed == {"a": 1, "b": 3, "c": 12, "inner": 3, "join": 1}
    assert run.most_flying["c"] == 3


def test_branches_cancelled_before_they_start_leave_nothing_behind() -> None:
    flow = limited(2, any_of("g", "cancel"))
    run = CoreRun(flow).run(list(range(5)))
    assert run.completed["join"] == 1
    assert run.completed["b"] <= 2


def test_limited_threads_without_a_group() -> None:
    flow = workflow([node("a"), node("b")], edge("a", "b", spawn_count=5, max_concurrency=2))
    run = CoreRun(flow, order=random_order(5)).run()
    assert (run.completed["b"], run.most_flying["b"]) == (5, 2)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_room_at_the_executors_and_limits_go_together(room: int) -> None:
    for crash_at in range(1, 12):
        run = CoreRun(limited(2, all_of("g", append("state.all"))), room=room, crash_at=crash_at).run([1, 2, 3, 4])
        assert run.output == {"all": [1, 2, 3, 4]}
