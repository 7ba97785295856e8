"""In which order branches merge, how, and into which scope (rules R7 to R9)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cases.words import all_of, append, edge, node, workflow
from tests.core import CoreRun, every_order, random_order
from wonder_ray.definitions.models import ComputeNode, Merge, WorkflowDefinition


def three(join: Any, **last: Any) -> WorkflowDefinition:
    """a -> {b, c, d} -> join -> end."""
    return workflow(
        [*(node(n, input={"value": f"'{n}'"}) for n in "abcd"), node("join"), node("end")],
        *(edge("a", n, group="g") for n in "bcd"),
        *(edge(n, "join", join=join) for n in "bcd"),
        edge("join", "end"),
        **last,
    )


def test_branch_ten_comes_after_branch_two_whatever_the_arrival() -> None:
    flow = workflow(
        [node("a"), node("b", input={"value": "index"}), node("join")],
        edge("a", "b", spawn_count=12, group="g"),
        edge("b", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )
    run = CoreRun(flow, order=lambda flying: len(flying) - 1).run()
    assert run.output == {"all": list(range(12))}


def test_branches_with_the_same_path_merge_in_the_order_of_the_definition() -> None:
    """Both inner joins go on at the path of the token that opened their groups."""
    flow = workflow(
        [*(node(n) for n in "amxyk"), *(node(f"j{n}", input={"value": f"'{n}'"}) for n in "xy")],
        edge("a", "m", group="o"),
        *(edge("m", n, group=n) for n in "xy"),
        *(edge(n, f"j{n}", join=all_of(n)) for n in "xy"),
        *(edge(f"j{n}", "k", join=all_of("o", append("state.all"))) for n in "xy"),
        output={"all": "state.all"},
    )
    for order in every_order():
        assert CoreRun(flow, order=order).run().output == {"all": ["x", "y"]}


def test_branches_with_the_same_path_and_way_merge_in_the_order_in_which_they_began() -> None:
    """A join that fires twice in one branch makes two tokens at one path."""
    flow = workflow(
        [*(node(n) for n in "ampqk"), node("n", input={"value": "token.id"})],
        edge("a", "m", group="o"),
        *(edge("m", n, spawn_count=2) for n in "pq"),
        *(edge(n, "n", join=all_of("incoming")) for n in "pq"),
        edge("n", "k", join=all_of("o", append("state.all"))),
        output={"all": "state.all"},
    )
    for seed in range(40):
        run = CoreRun(flow, order=random_order(seed)).run()
        began = [token.id for token in run.state.tokens.values() if token.node_id == "n" and token.attempt]
        assert len(began) == 2
        assert run.output == {"all": began}


def test_joins_of_two_groups_at_one_node_merge_in_the_order_in_which_they_fired() -> None:
    """Both go on at one path and over one transition: what is left to tell them apart is when they began."""
    flow = workflow(
        [*(node(n) for n in "ampqk"), node("n", input={"value": "token.id"})],
        edge("a", "m", group="o"),
        *(edge("m", n, group=f"g{n}") for n in "pq"),
        *(edge(n, "n", join=all_of(f"g{n}")) for n in "pq"),
        edge("n", "k", join=all_of("o", append("state.all"))),
        output={"all": "state.all"},
    )
    for order in every_order():
        run = CoreRun(flow, order=order).run()
        began = [token.id for token in run.state.tokens.values() if token.node_id == "n" and token.attempt]
        assert len(began) == 2
        assert run.output == {"all": began}


def test_objects_are_merged_key_by_key_and_the_last_branch_wins() -> None:
    source = "{result: index, 'last': index}"
    flow = workflow(
        [node("a"), node("b", input={"value": "['x', 'y', 'x'][index]"}), node("join")],
        edge("a", "b", spawn_count=3, group="g"),
        edge("b", "join", join=all_of("g", Merge(target="state.all", source=source, strategy="merge_object"))),
        output={"all": "state.all"},
    )
    for order in every_order():
        assert CoreRun(flow, order=order).run().output == {"all": {"x": 2, "y": 1, "last": 2}}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("append", [["b"], ["c"], ["d"]]),
        ("concat", ["b", "c", "d"]),
        ("keyed_by_branch", {"0": ["b"], "1": ["c"], "2": ["d"]}),
        ("last_wins", ["d"]),
    ],
)
def test_merges_do_not_depend_on_arrival(strategy: Any, expected: Any) -> None:
    flow = three(
        all_of("g", Merge(target="state.all", source="[result]", strategy=strategy)),
        output={"all": "state.all"},
    )
    for order in every_order():
        assert CoreRun(flow, order=order).run().output == {"all": expected}


def test_a_branch_that_brings_more_than_one_value_loses_none_of_them() -> None:
    """A join over `incoming` that fires twice in a branch gives two threads with the path of the branch."""
    flow = workflow(
        "a m p q n k",
        edge("a", "m", spawn_count=2, group="o"),
        *(edge("m", n, spawn_count=2) for n in "pq"),
        *(edge(n, "n", join=all_of("incoming")) for n in "pq"),
        edge("n", "k", join=all_of("o", Merge(target="state.all", source="1", strategy="keyed_by_branch"))),
        output={"all": "state.all"},
    )
    for seed in range(20):
        assert sorted(CoreRun(flow, order=random_order(seed)).run().output["all"]) == ["0", "0#2", "1", "1#2"]


@pytest.mark.parametrize(("strategy", "source"), [("concat", "result"), ("merge_object", "[result]")])
def test_a_merge_of_the_wrong_type_fails_the_group(strategy: Any, source: str) -> None:
    flow = three(all_of("g", Merge(target="state.all", source=source, strategy=strategy)))
    run = CoreRun(flow).run()
    assert run.error is not None
    assert (run.error.type, run.error.node_id) == ("ExpressionError", "join")


def test_a_branch_reads_around_itself_and_writes_to_its_own_scope_only() -> None:
    seen = {"value": "state.shared"}
    flow = workflow(
        [
            node("a", output={"state.shared": "1"}),
            node("b", input=seen, output={"state.shared": "result + 1"}),
            node("c", input=seen),
            node("join", input=seen),
        ],
        edge("a", "b", spawn_count=3, group="g"),
        edge("b", "c"),
        edge("c", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all", "shared": "state.shared"},
    )
    assert CoreRun(flow).run().output == {"all": [2, 2, 2], "shared": 1}


def test_threads_without_a_group_share_their_scope() -> None:
    flow = workflow(
        [node("a", output={"state.n": "0"}), node("b", output={"state.n": "state.n + 1"})],
        edge("a", "b", spawn_count=3),
        output={"n": "state.n"},
    )
    assert CoreRun(flow).run().output == {"n": 3}


def test_an_inner_join_merges_into_the_branch_around_it() -> None:
    flow = workflow(
        [node("a"), node("b"), node("c", input={"value": "index"}), node("inner"), node("join")],
        edge("a", "b", spawn_count=2, group="g"),
        edge("b", "c", spawn_count=2, group="h"),
        edge("c", "inner", join=all_of("h", append("state.mine"))),
        edge("inner", "join", join=all_of("g", append("state.all", "state.mine"))),
        output={"all": "state.all", "mine": "has(state.mine)"},
    )
    assert CoreRun(flow).run().output == {"all": [[0, 1], [0, 1]], "mine": False}


def test_a_nested_write_of_a_branch_takes_over_what_lies_around_the_place() -> None:
    flow = workflow(
        [node("a", output={"state.x.one": "1"}), node("b", output={"state.x.two": "index"}), node("join")],
        edge("a", "b", spawn_count=2, group="g"),
        edge("b", "join", join=all_of("g", append("state.all", "state.x"))),
        output={"all": "state.all", "x": "state.x"},
    )
    assert CoreRun(flow).run().output == {"all": [{"one": 1, "two": 0}, {"one": 1, "two": 1}], "x": {"one": 1}}


CONFLICT = {"state.x": "1", "state.x.y": "2"}


@pytest.mark.parametrize("kind", ["action", "compute", "merge"])
def test_assignments_that_stand_in_each_others_way_are_a_failure_and_not_a_crash(kind: str) -> None:
    merges = [Merge(target=target, source=source) for target, source in (("state.x", "1"), ("state.x.y", "2"))]
    flow = workflow(
        [
            node("a"),
            ComputeNode(id="b", output=CONFLICT) if kind == "compute" else node("b", output=CONFLICT if kind == "action" else {}),
            node("c"),
        ],
        edge("a", "b", group="g"),
        edge("b", "c", join=all_of("g", *(merges if kind == "merge" else ()))),
    )
    run = CoreRun(flow).run()
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "ExpressionError")


def test_assignments_of_one_mapping_see_what_those_before_have_made() -> None:
    output = {"state.list": "{}", "state.list.one": "1", "state.list.two.three": "3", "state.other.one": "1"}
    flow = workflow(
        [node("a", output={"state.list": "[1]"}), ComputeNode(id="b", output=output)],
        edge("a", "b"),
        output={"list": "state.list", "other": "state.other"},
    )
    assert CoreRun(flow).run().output == {"list": {"one": 1, "two": {"three": 3}}, "other": {"one": 1}}
