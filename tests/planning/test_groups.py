"""Sibling groups: who is a member, what is waited for, and what becomes of the rest (rules R1 to R4, R6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import CoreRun, every_order, random_order

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.state import Group


def group(run: CoreRun, name: str, nth: int = 0) -> Group:
    return [found for found in run.state.groups.values() if found.name == name][nth]


def three(join: Any, **last: Any) -> WorkflowDefinition:
    """a -> {b, c, d} -> join -> end."""
    return workflow(
        [*(node(n, input={"value": f"'{n}'"}) for n in "abcd"), node("join"), node("end")],
        *(edge("a", n, group="g") for n in "bcd"),
        *(edge(n, "join", join=join) for n in "bcd"),
        edge("join", "end"),
        **last,
    )


# --- R1: membership ------------------------------------------------------------------------------------------------


def test_a_group_is_sized_over_all_transitions_that_fired() -> None:
    flow = workflow(
        "a b c d join",
        edge("a", "b", group="g"),
        edge("a", "c", group="g", spawn_count=2),
        edge("a", "d", group="g", when="1 == 2"),
        *(edge(n, "join", join=all_of("g")) for n in "bcd"),
    )
    run = CoreRun(flow).run()
    assert group(run, "g").size == 3
    assert run.completed == {"a": 1, "b": 1, "c": 2, "join": 1}


def test_a_split_that_names_the_open_innermost_group_enlarges_it() -> None:
    flow = workflow(
        "a b c join",
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "c", group="g", spawn_count=3),
        edge("c", "join", join=all_of("g")),
    )
    run = CoreRun(flow).run()
    assert [found.size for found in run.state.groups.values()] == [6]
    assert run.completed == {"a": 1, "b": 2, "c": 6, "join": 1}


def test_a_split_that_names_another_group_opens_it_within_the_member() -> None:
    flow = workflow(
        "a b c inner join",
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "c", group="h", spawn_count=3),
        edge("c", "inner", join=all_of("h")),
        edge("inner", "join", join=all_of("g")),
    )
    run = CoreRun(flow).run()
    assert [(found.name, found.size) for found in run.state.groups.values()] == [("g", 2), ("h", 3), ("h", 3)]
    assert run.completed == {"a": 1, "b": 2, "c": 6, "inner": 2, "join": 1}


def test_groups_and_threads_of_one_split_each_add_a_member_to_the_group_around_them() -> None:
    flow = workflow(
        "a b c d e hj ij join",
        edge("a", "b", group="g"),
        edge("b", "c", group="h"),
        edge("b", "d", group="i"),
        edge("b", "e"),
        edge("c", "hj", join=all_of("h")),
        edge("d", "ij", join=all_of("i")),
        *(edge(n, "join", join=all_of("g")) for n in ("hj", "ij", "e")),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert group(run, "g").size == 3
        assert run.completed["join"] == 1
        assert min(run.positions("task.dispatched", "join")) > max(run.positions("token.completed", "e"))


def test_a_group_of_which_every_member_was_replaced_has_the_size_it_had() -> None:
    flow = workflow(
        "a b c join",
        edge("a", "b", group="g", foreach="[1, 2, 3]"),
        edge("b", "c"),
        edge("c", "join", join=all_of("g")),
    )
    assert group(CoreRun(flow).run(), "g").size == 3


def test_an_instance_per_firing_of_a_loop_keeps_rounds_apart() -> None:
    flow = workflow(
        [node("a"), node("b", input={"value": "index"}), node("join")],
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "join", join=all_of("g", append("state.all"))),
        edge("join", "a", max_iterations=2),
        edge("join", "end", priority=1),
        start=("a",),
    )
    flow = flow.model_copy(update={"nodes": (*flow.nodes, node("end"))})
    run = CoreRun(flow).run()
    assert run.completed == {"a": 3, "b": 6, "join": 3, "end": 1}
    assert [found.size for found in run.state.groups.values()] == [2, 2, 2]
    assert len({found.parent_id for found in run.state.groups.values()}) == 1


# --- R3: binding ---------------------------------------------------------------------------------------------------


def test_a_join_over_an_outer_group_leaves_the_inner_ones() -> None:
    flow = workflow(
        "a b c d join end",
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "c", group="h"),
        edge("b", "d", group="h"),
        edge("c", "join", join=all_of("g")),
        edge("d", "join", join=all_of("g")),
        edge("join", "end"),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.completed == {"a": 1, "b": 2, "c": 2, "d": 2, "join": 1, "end": 1}
        assert [str(found.status) for found in run.state.groups.values()] == ["fired", "skipped", "skipped"]
        join = next(token for token in run.state.tokens.values() if token.node_id == "join" and token.attempt)
        assert (join.path_id, join.scope_id, join.group_id) == ("root", "", None)


def test_a_join_whose_group_is_not_open_is_a_failure_of_the_node() -> None:
    flow = workflow(
        "a b c end",
        edge("a", "c"),
        edge("a", "b", group="g"),
        edge("b", "end", join=all_of("g")),
        edge("c", "end", join=all_of("g")),
    )
    run = CoreRun(flow).run()
    assert run.error is not None
    assert (run.status, run.error.type, run.error.node_id) == ("failed", "GroupNotOpen", "c")


def test_a_join_token_goes_on_in_the_branch_of_the_opener() -> None:
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("c"), node("after", input={"value": "item"}), node("join")],
        edge("a", "b", group="g", foreach="[10, 20]"),
        edge("b", "c", group="h", foreach="[1, 2, 3]", item="inner"),
        edge("c", "after", join=all_of("h")),
        edge("after", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )
    assert CoreRun(flow).run().output == {"all": [10, 20]}


# --- R2: the rest --------------------------------------------------------------------------------------------------


def test_what_is_absorbed_ends_at_the_join_and_the_run_waits_for_it() -> None:
    for order in every_order():
        run = CoreRun(three(any_of("g")), order=order).run()
        assert run.completed == {"a": 1, "b": 1, "c": 1, "d": 1, "join": 1, "end": 1}


def test_what_is_cancelled_is_told_to_stop() -> None:
    for order in every_order():
        run = CoreRun(three(any_of("g", "cancel")), order=order).run()
        assert run.completed["join"] == run.completed["end"] == 1
        assert sum(run.completed[n] for n in "bcd") == 1
        assert len(run.events("token.cancelled")) == 2


def test_what_passes_goes_on_as_a_thread_of_its_own_and_merges_its_own_result() -> None:
    flow = three(any_of("g", "pass", append("state.last")), output={"last": "state.last"})
    for seed in range(40):
        run = CoreRun(flow, order=random_order(seed)).run()
        assert run.completed == {"a": 1, "b": 1, "c": 1, "d": 1, "join": 3, "end": 3}
        assert len(run.events("fan_in.completed")) == 1
        assert [len(row["writes"][0]["value"]) for row in run.events("branches.merged")] == [1, 1, 1]
        assert group(run, "g").status == "fired"


def test_a_group_around_waits_for_what_will_still_pass() -> None:
    flow = workflow(
        "a x b c inner join",
        edge("a", "x", group="g"),
        edge("x", "b", group="h"),
        edge("x", "c", group="h"),
        *(edge(n, "inner", join=any_of("h", "pass")) for n in "bc"),
        edge("inner", "join", join=all_of("g", append("state.all", "1"))),
        output={"threads": "size(state.all)"},
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.completed == {"a": 1, "x": 1, "b": 1, "c": 1, "inner": 2, "join": 1}
        assert run.output == {"threads": 2}


def test_arrivals_of_one_moment_count_one_after_the_other() -> None:
    for remaining, joined in (("absorb", 1), ("cancel", 1), ("pass", 3)):
        flow = workflow(
            "a join end",
            *(edge("a", "join", group="g", join=any_of("g", remaining, append("state.all", "1"))) for _ in range(3)),
            edge("join", "end"),
            output={"all": "state.all"},
        )
        run = CoreRun(flow).run()
        assert run.completed == {"a": 1, "join": joined, "end": joined}
        assert run.output == {"all": [1]}


def test_a_fan_out_into_a_join_that_has_fired_passes_it_with_every_branch() -> None:
    flow = workflow(
        "a b c join",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "join", join=any_of("g", "pass")),
        edge("c", "join", spawn_count=3, join=any_of("g", "pass")),
    )
    run = CoreRun(flow, order=lambda flying: 0).run()
    assert run.completed["join"] == 4


def test_a_partial_join_merges_its_first_arrivals_only() -> None:
    flow = three(m_of(2, "g", "absorb", append("state.all")), output={"all": "state.all"})
    run = CoreRun(flow)
    run.start()
    for name in "adcb":
        run.finish(name)
    while run.step():
        pass
    assert run.output == {"all": ["c", "d"]}


# --- R4, R6: settling and the empty --------------------------------------------------------------------------------


def test_a_member_that_ends_elsewhere_settles() -> None:
    flow = workflow("a b c join", edge("a", "b", group="g"), edge("a", "c", group="g"), edge("b", "join", join=all_of("g")))
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.completed == {"a": 1, "b": 1, "c": 1, "join": 1}


def test_all_without_arrivals_is_skipped_and_settles_the_group_around() -> None:
    flow = workflow(
        "a b c inner join",
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "c", group="h", when="index == 0"),
        edge("c", "inner", join=all_of("h"), when="1 == 2"),
        edge("b", "join", join=all_of("g"), when="index == 1"),
        edge("inner", "join", join=all_of("g")),
    )
    run = CoreRun(flow).run()
    assert run.completed == {"a": 1, "b": 2, "c": 1, "join": 1}
    assert group(run, "h").status == "skipped"


def test_a_partial_join_that_can_no_longer_be_met_fails_at_once() -> None:
    flow = workflow(
        "a b c d join",
        *(edge("a", n, group="g") for n in "bcd"),
        *(edge(n, "join", join=m_of(3, "g")) for n in "bc"),
    )
    run = CoreRun(flow)
    run.start()
    run.finish("a")
    run.finish("d")
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "JoinUnsatisfied")


def test_a_partial_join_waits_while_a_live_member_can_still_split() -> None:
    flow = workflow(
        "a b c d e join",
        *(edge("a", n, group="g") for n in "bcd"),
        edge("b", "e"),
        edge("e", "join", spawn_count=3, join=m_of(3, "g")),
        edge("c", "join", join=m_of(3, "g")),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert run.status == "completed"
        assert run.completed["join"] == 1


def test_a_partial_join_waits_for_an_inner_group() -> None:
    flow = workflow(
        "a b c d join",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "d", group="h", spawn_count=3),
        edge("d", "join", join=m_of(3, "g")),
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        assert (run.status, run.completed["join"]) == ("completed", 1)


def test_a_partial_join_waits_when_its_m_is_read_from_what_may_change() -> None:
    flow = workflow(
        [node("a", output={"state.m": "2"}), node("b", output={"state.m": "1"}), node("c"), node("d"), node("join")],
        edge("a", "b"),
        edge("a", "c", group="g"),
        edge("a", "d", group="g"),
        edge("c", "join", join=m_of("state.m", "g")),
    )
    run = CoreRun(flow)
    run.start()
    run.finish("a")
    run.finish("d")
    assert run.status == "running"
    run.finish("b")
    run.finish("c")
    run.finish("join")
    assert run.status == "completed"


def test_an_empty_group_fires_all_with_the_merge_of_nothing_and_fails_any() -> None:
    def flow(join: Any) -> WorkflowDefinition:
        return workflow(
            "a b join end",
            edge("a", "b", foreach="[]", group="g"),
            edge("b", "join", join=join),
            edge("join", "end"),
            output={"all": "state.all"},
        )

    run = CoreRun(flow(all_of("g", append("state.all")))).run()
    assert (run.status, run.output) == ("completed", {"all": []})
    for join in (any_of("g"), m_of(1, "g")):
        run = CoreRun(flow(join)).run()
        assert run.error is not None
        assert run.error.type == "JoinUnsatisfied"
    run = CoreRun(flow(m_of("0", "g", "absorb", append("state.all")))).run()
    assert (run.status, run.completed["join"]) == ("completed", 1)


def test_an_empty_fan_out_beside_a_branch_counts_for_nothing() -> None:
    flow = workflow(
        "a b c join",
        edge("a", "b", foreach="[]", group="g"),
        edge("a", "c", group="g"),
        *(edge(n, "join", join=all_of("g")) for n in "bc"),
    )
    run = CoreRun(flow).run()
    assert run.completed == {"a": 1, "c": 1, "join": 1}


# --- the index -----------------------------------------------------------------------------------------------------


def test_the_index_forgets_branches_and_groups_that_are_done() -> None:
    flow = workflow(
        "a b c d inner join",
        edge("a", "b", spawn_count=5, group="g"),
        edge("b", "c", group="h"),
        edge("b", "d", group="h"),
        *(edge(n, "inner", join=any_of("h")) for n in "cd"),
        edge("inner", "join", join=all_of("g")),
    )
    run = CoreRun(flow).run()
    index = run.state.index
    assert not any((index.members, index.inner, index.arrivals, index.queues, index.limits))


def test_a_fired_group_is_inner_as_long_as_something_in_it_is_live() -> None:
    flow = workflow(
        "a b c d inner join",
        edge("a", "b", group="g"),
        edge("b", "c", group="h"),
        edge("b", "d", group="h"),
        *(edge(n, "inner", join=any_of("h")) for n in "cd"),
        edge("inner", "join", join=all_of("g")),
    )
    run = CoreRun(flow)
    run.start()
    for name in "abc":
        run.finish(name)
    assert group(run, "g").id in run.state.index.inner
    run.finish("d")
    assert group(run, "g").id not in run.state.index.inner
