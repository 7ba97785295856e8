"""What a failure does: handlers, tolerance, the failure of groups, loops that are used up (rule R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import CoreRun, every_order, random_order
from wonder_ray.definitions.models import ComputeNode, Retry
from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.models import Transition, WorkflowDefinition


def failing(*values: Any, error: str = "Broken") -> Callable[..., Any]:
    """An action that fails for some inputs, or (where none is given) for all."""

    def act(value: Any = None) -> Any:
        if not values or value in values:
            raise ActionError(error, f"{value!r} is broken")
        return value

    return act


def each(items: str, join: Any, *more: Transition, **fan_out: Any) -> WorkflowDefinition:
    """a -> b for each item, joined at `join`; then `end`."""
    return workflow(
        [
            node("a"),
            node("b", input={"value": "item"}),
            node("join"),
            node("end"),
            node("handler", input={"value": "error.type"}),
        ],
        edge("a", "b", foreach=items, group="g", **fan_out),
        edge("b", "join", join=join),
        edge("join", "end"),
        *more,
        start=("a",),
        output={"all": "has(state.all) ? state.all : []"},
    )


def failed_with(run: CoreRun) -> tuple[str, str]:
    assert run.error is not None
    return run.status, run.error.type


# --- handlers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "handler"),
    [("A", "by_type"), ("B", "by_other_type"), ("C", "by_any")],
)
def test_an_error_takes_the_first_tier_that_matches_its_type(error: str, handler: str) -> None:
    flow = workflow(
        "a next by_type by_other_type by_any",
        edge("a", "next"),
        edge("a", "by_type", on="failed[A]"),
        edge("a", "by_other_type", on="failed[B]", priority=1),
        edge("a", "by_any", on="failed", priority=2),
        start=("a",),
    )
    run = CoreRun(flow, {"a": failing(error=error)}).run()
    assert (run.status, run.completed) == ("completed", {handler: 1})


def test_handlers_of_one_tier_all_fire() -> None:
    flow = workflow("a b c", edge("a", "b", on="failed[A]"), edge("a", "c", on="failed"), start=("a",))
    assert CoreRun(flow, {"a": failing(error="A")}).run().completed == {"b": 1, "c": 1}


def test_a_handler_whose_condition_does_not_hold_is_none() -> None:
    flow = workflow("a b", edge("a", "b", on="failed", when="error.type == 'Other'"), start=("a",))
    assert failed_with(CoreRun(flow, {"a": failing()}).run()) == ("failed", "Broken")


def test_a_handler_sees_the_error_and_may_go_back() -> None:
    flow = workflow(
        [node("a"), node("repair", input={"value": "error.message"}, output={"state.said": "result"}), node("end")],
        edge("a", "end"),
        edge("a", "repair", on="failed"),
        edge("repair", "a"),
        start=("a",),
        output={"said": "state.said"},
    )
    calls = iter([failing(error="Once"), lambda: 1])
    run = CoreRun(flow, {"a": lambda: next(calls)()}).run()  # noqa: PLW0108 - each attempt takes the next
    assert (run.completed, run.output) == ({"a": 1, "repair": 1, "end": 1}, {"said": "None is broken"})


def test_a_handled_member_stays_in_its_group() -> None:
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("fix", input={"value": "item * 10"}), node("join")],
        edge("a", "b", foreach="[1, 2, 3]", group="g"),
        edge("b", "join", join=all_of("g", append("state.all"))),
        edge("b", "fix", on="failed"),
        edge("fix", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )
    for order in every_order():
        run = CoreRun(flow, {"b": failing(2)}, order=order).run()
        assert run.output == {"all": [1, 20, 3]}


# --- tolerance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerated", "broken", "status"),
    [(None, 1, "failed"), (1, 1, "completed"), (1, 2, "failed"), (0.5, 2, "completed"), (0.5, 3, "failed"), (0.2, 1, "failed")],
)
def test_a_group_takes_as_many_failures_as_it_says(tolerated: Any, broken: int, status: str) -> None:
    flow = each("[1, 2, 3, 4]", all_of("g", append("state.all")), tolerated_failures=tolerated)
    for seed in range(12):
        run = CoreRun(flow, {"b": failing(*range(1, broken + 1))}, order=random_order(seed), crash_at=seed).run()
        assert run.status == status
        if status == "completed":
            assert run.output == {"all": list(range(broken + 1, 5))}


def test_a_fraction_counts_what_arithmetic_says() -> None:
    flow = each("input", all_of("g"), tolerated_failures=0.29)
    run = CoreRun(flow, {"b": failing(*range(29))}, checked=False).run(list(range(100)))
    assert run.status == "completed"


def test_a_group_whose_members_all_failed_within_its_tolerance_fires() -> None:
    flow = each("[1, 2]", all_of("g", append("state.all")), tolerated_failures=2)
    run = CoreRun(flow, {"b": failing()}).run()
    assert (run.status, run.output, run.completed["end"]) == ("completed", {"all": []}, 1)


def test_partial_joins_take_the_failures_that_leave_enough() -> None:
    for join, broken, status in (
        (any_of("g"), (1, 2), "completed"),
        (any_of("g"), (1, 2, 3), "failed"),
        (m_of(2, "g"), (1,), "completed"),
        (m_of(2, "g"), (1, 2), "failed"),
    ):
        for order in every_order():
            run = CoreRun(each("[1, 2, 3]", join), {"b": failing(*broken)}, order=order).run()
            assert run.status == status
            if status == "failed":
                assert failed_with(run) == ("failed", "Broken")


def test_failures_after_the_join_has_fired_are_recorded_and_not_fatal() -> None:
    run = CoreRun(each("[1, 2, 3]", any_of("g")), {"b": failing(2, 3)}).run()
    assert (run.status, run.completed["end"]) == ("completed", 1)
    assert len(run.events("token.failed")) == 2


def test_a_tolerance_that_leaves_too_few_fails_at_once() -> None:
    flow = each("[1, 2, 3]", m_of(2, "g"), tolerated_failures=3)
    run = CoreRun(flow, {"b": failing(1, 2)})
    run.start()
    for name in "abb":
        run.finish(name)
    assert failed_with(run) == ("failed", "JoinUnsatisfied")


# --- groups --------------------------------------------------------------------------------------------------------


def test_a_failed_group_cancels_its_members_and_all_inside() -> None:
    flow = workflow(
        "a b c d inner join other",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("a", "other"),
        edge("b", "d", group="h", spawn_count=3),
        edge("d", "inner", join=all_of("h")),
        edge("inner", "join", join=all_of("g")),
        edge("c", "join", join=all_of("g")),
        edge("a", "join", on="group_failed(g)"),
        start=("a",),
    )
    run = CoreRun(flow, {"c": failing()})
    run.start()
    for name in "abdc":
        run.finish(name)
    assert sorted(row["node_id"] for row in run.events("token.cancelled")) == ["d", "d", "inner"]
    assert [str(found.status) for found in run.state.groups.values()] == ["failed", "cancelled"]
    assert sorted(token.node_id for token in run.flying) == ["join", "other"]


def test_an_inner_failure_rises_until_something_takes_it() -> None:
    def flow(*handlers: Transition, **outer: Any) -> WorkflowDefinition:
        return workflow(
            [node("a"), node("b"), node("c", input={"value": "item"}), node("inner"), node("join"), node("handler")],
            edge("a", "b", spawn_count=2, group="g", **outer),
            edge("b", "c", foreach="[1, 2]", group="h"),
            edge("c", "inner", join=all_of("h")),
            edge("inner", "join", join=all_of("g")),
            *handlers,
            start=("a",),
        )

    act = {"c": failing(1)}
    assert failed_with(CoreRun(flow(), act).run()) == ("failed", "Broken")
    run = CoreRun(flow(tolerated_failures=2), act).run()
    assert run.completed["join"] == 1
    assert run.completed["inner"] == 0
    run = CoreRun(flow(edge("b", "inner", on="group_failed(h)")), act).run()
    assert (run.completed["inner"], run.completed["join"]) == (2, 1)
    run = CoreRun(flow(edge("a", "handler", on="group_failed(g)[Broken]")), act).run()
    assert (run.status, run.completed["handler"], run.completed["join"]) == ("completed", 1, 0)
    run = CoreRun(flow(edge("a", "handler", on="group_failed(g)[Other]")), act).run()
    assert failed_with(run) == ("failed", "Broken")


def test_a_group_is_made_again_until_it_holds() -> None:
    again = edge("a", "b", foreach="[1, 2]", group="g", on="group_failed(g)", max_iterations=3)
    flow = each("[1, 2]", all_of("g", append("state.all")), again)
    tries = iter([failing(1), failing(2), *[failing("none")] * 10])
    rounds: list[Any] = []

    def act(value: Any) -> Any:
        if value == 1:
            rounds.append(next(tries))
        return rounds[-1](value)

    run = CoreRun(flow, {"b": act}).run()
    assert (run.status, run.output) == ("completed", {"all": [1, 2]})
    assert [str(found.status) for found in run.state.groups.values()] == ["failed", "failed", "fired"]


def test_a_group_made_again_takes_the_place_of_the_one_that_failed() -> None:
    flow = workflow(
        "a b c join outer",
        edge("a", "b", spawn_count=2, group="o"),
        edge("b", "c", group="g"),
        edge("b", "c", group="g", on="group_failed(g)", max_iterations=2),
        edge("c", "join", join=all_of("g")),
        edge("join", "outer", join=all_of("o")),
        start=("a",),
    )
    calls = iter(range(100))

    def act() -> None:
        if next(calls) < 3:
            raise ActionError("Broken")

    run = CoreRun(flow, {"c": act}).run()
    assert run.completed == {"a": 1, "b": 2, "c": 2, "join": 2, "outer": 1}
    assert next(found for found in run.state.groups.values() if found.name == "o").size == 2


def test_a_handler_of_a_group_may_split_within_the_group_around() -> None:
    flow = workflow(
        "a b c d e outer",
        edge("a", "b", group="o"),
        edge("b", "c", group="g"),
        edge("b", "d", on="group_failed(g)"),
        edge("b", "e", on="group_failed(g)"),
        *(edge(n, "outer", join=all_of("o", append("state.all", "1"))) for n in "de"),
        start=("a",),
        output={"all": "state.all"},
    )
    run = CoreRun(flow, {"c": failing()}).run()
    assert (run.output, run.completed["outer"]) == ({"all": [1, 1]}, 1)
    assert next(found for found in run.state.groups.values() if found.name == "o").size == 2


# --- loops ---------------------------------------------------------------------------------------------------------


def test_a_bound_is_counted_per_branch() -> None:
    flow = workflow(
        "a b join",
        edge("a", "b", spawn_count=3, group="g"),
        edge("b", "b", max_iterations=2),
        edge("b", "join", priority=1, join=all_of("g")),
    )
    assert CoreRun(flow).run().completed == {"a": 1, "b": 9, "join": 1}


def test_a_bound_that_is_used_up_is_a_failure_of_the_node_that_it_may_handle() -> None:
    flow = workflow("a end", edge("a", "a", max_iterations=2), edge("a", "end", on="failed[LoopBoundExceeded]"), start=("a",))
    assert CoreRun(flow).run().completed == {"a": 3, "end": 1}
    flow = workflow("a", edge("a", "a", max_iterations=0), start=("a",))
    assert failed_with(CoreRun(flow).run()) == ("failed", "LoopBoundExceeded")


def test_a_bound_does_not_count_where_something_else_matches() -> None:
    flow = workflow("a b", edge("a", "a", max_iterations=1), edge("a", "b"), start=("a",))
    assert CoreRun(flow).run().completed == {"a": 2, "b": 2}


# --- expressions that fail -----------------------------------------------------------------------------------------


def one(**of_node: Any) -> WorkflowDefinition:
    return workflow(
        [node("a", **of_node), node("b"), node("handler")], edge("a", "b"), edge("a", "handler", on="failed"), start=("a",)
    )


BAD = "state.missing"
ROUTES: list[dict[str, Any]] = [
    {"when": BAD},
    {"when": "1 + 1"},
    {"foreach": BAD},
    {"foreach": "{'a': 1}"},
    {"spawn_count": "'two'"},
    {"spawn_count": "0 - 1"},
    {"spawn_count": "10000001"},
]


@pytest.mark.parametrize("broken", [{"input": {"value": BAD}}, {"output": {"state.x": BAD}}, {"output": {"state.n.x": "1"}}])
def test_a_mapping_that_fails_is_a_failure_of_its_node(broken: dict[str, Any]) -> None:
    flow = one(**broken)
    first = node("first", output={"state.n": "1"})
    flow = flow.model_copy(
        update={"nodes": (first, *flow.nodes), "transitions": (edge("first", "a"), *flow.transitions), "start": ("first",)}
    )
    run = CoreRun(flow).run()
    assert run.completed == {"first": 1, "handler": 1}
    assert run.events("token.failed")[0]["error"]["type"] == "ExpressionError"


@pytest.mark.parametrize("rest", ROUTES, ids=str)
def test_a_transition_that_cannot_be_evaluated_is_a_failure_of_its_source(rest: dict[str, Any]) -> None:
    flow = workflow("a b handler", edge("a", "b", **rest), edge("a", "handler", on="failed[ExpressionError]"), start=("a",))
    assert CoreRun(flow).run().completed == {"a": 1, "handler": 1}
    run = CoreRun(workflow("a b", edge("a", "b", **rest))).run()
    assert failed_with(run) == ("failed", "ExpressionError")
    assert run.error is not None
    assert run.error.node_id == "a"


def test_a_computed_node_that_cannot_be_evaluated_fails() -> None:
    flow = workflow([node("a"), ComputeNode(id="b", output={"state.x": BAD})], edge("a", "b"))
    assert failed_with(CoreRun(flow).run()) == ("failed", "ExpressionError")


def test_an_output_of_the_run_that_cannot_be_evaluated_fails_it() -> None:
    assert failed_with(CoreRun(workflow("a", output={"x": BAD})).run()) == ("failed", "ExpressionError")


def test_a_handler_that_cannot_be_evaluated_replaces_the_error() -> None:
    flow = workflow("a b", edge("a", "b", on="failed", when=BAD), start=("a",))
    assert failed_with(CoreRun(flow, {"a": failing()}).run()) == ("failed", "ExpressionError")


@pytest.mark.parametrize(
    "join", [m_of(BAD, "g"), m_of("'x'", "g"), all_of("g", append("state.x", BAD)), any_of("g", "cancel", append("state.n.x"))]
)
def test_a_join_that_cannot_be_evaluated_fails_its_group(join: Any) -> None:
    handler = edge("a", "handler", on="group_failed(g)[ExpressionError]")
    flow = each("[1, 2]", join, handler)
    flow = flow.model_copy(update={"nodes": (node("a", output={"state.n": "1"}), *flow.nodes[1:])})
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert (run.status, run.completed["handler"], run.completed["join"]) == ("completed", 1, 0)


def test_a_late_arrival_that_cannot_be_merged_is_a_failure_of_its_member() -> None:
    join = any_of("g", "pass", append("state.x", "result == 2 ? state.missing : result"))
    run = CoreRun(each("[1, 2]", join)).run()
    assert (run.status, run.completed["join"]) == ("completed", 1)


def test_a_retry_of_a_group_whose_split_fails_gives_that_error() -> None:
    again = edge("a", "b", foreach="state.missing", group="g", on="group_failed(g)", max_iterations=3)
    run = CoreRun(each("[1, 2]", all_of("g"), again), {"b": failing()}).run()
    assert failed_with(run) == ("failed", "ExpressionError")


def test_what_is_retried_is_not_routed_until_no_attempt_is_left() -> None:
    flow = workflow([node("a", retry=(Retry(max_attempts=3),)), node("b")], edge("a", "b", on="failed"), start=("a",))
    run = CoreRun(flow, {"a": failing()}).run()
    assert run.failed_attempts == {"a": 3}
    assert run.completed == {"b": 1}
