"""WCP-3, Synchronization: a task runs once, after every one of the branches of a split has completed.

Carried by an `all` join over a sibling group: the group is sized over all transitions of the split (rule R1).
"""

from __future__ import annotations

from tests.cases.words import all_of, append, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(3, "Synchronization", "`all` over the group of a split")
JOIN = all_of("g")
DEFINITION = workflow(
    "a b c d join e",
    *(edge("a", branch, group="g") for branch in "bcd"),
    *(edge(branch, "join", join=JOIN) for branch in "bcd"),
    edge("join", "e"),
)


def test_the_join_runs_once_after_all_branches() -> None:
    for run in courses(DEFINITION, batched=True):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "e"], 1)
        assert all(run.in_order(branch, "join") for branch in "bcd")


def test_a_branch_that_splits_again_makes_the_group_grow() -> None:
    definition = workflow(
        "a b c c1 c2 join",
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge("c", branch) for branch in ("c1", "c2")),
        *(edge(branch, "join", join=JOIN) for branch in ("b", "c1", "c2")),
    )
    for run in courses(definition):
        assert run.counts == dict.fromkeys(["a", "b", "c", "c1", "c2", "join"], 1)
        assert all(run.in_order(branch, "join") for branch in ("b", "c1", "c2"))


def test_a_branch_that_splits_under_the_same_name_makes_the_group_grow_as_well() -> None:
    definition = workflow(
        "a b c c1 join",
        *(edge("a", branch, group="g") for branch in "bc"),
        edge("c", "c1", spawn_count=2, group="g"),
        *(edge(branch, "join", join=JOIN) for branch in ("b", "c1")),
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "b": 1, "c": 1, "c1": 2, "join": 1}
        assert run.in_order("b", "join")
        assert run.in_order("c1", "join")


def test_what_the_branches_give_is_collected_in_their_order() -> None:
    join = all_of("g", append("state.all"))
    definition = workflow(
        ["a", *(node(branch, input={"value": f"'{branch}'"}) for branch in "bcd"), "join"],
        *(edge("a", branch, group="g") for branch in "bcd"),
        *(edge(branch, "join", join=join) for branch in "bcd"),
        output={"all": "state.all"},
    )
    for run in courses(definition):
        assert run.output == {"all": ["b", "c", "d"]}


def test_branches_of_different_splits_do_not_mix() -> None:
    who = {"value": "index"}
    definition = workflow(
        ["a", "p", node("b", input=who), node("c", input=who), "join", "end"],
        edge("a", "p", spawn_count=2, group="outer"),
        *(edge("p", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=all_of("g", append("state.came"))) for branch in "bc"),
        edge("join", "end", join=all_of("outer", append("state.all", "state.came"))),
        output={"all": "state.all"},
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "p": 2, "b": 2, "c": 2, "join": 2, "end": 1}
        assert run.output == {"all": [[0, 0], [1, 1]]}


def test_each_round_of_a_loop_synchronizes_its_own_branches() -> None:
    definition = workflow(
        "a b c join end",
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=JOIN) for branch in "bc"),
        edge("join", "a", max_iterations=2),
        edge("join", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition):
        assert run.counts == {"a": 3, "b": 3, "c": 3, "join": 3, "end": 1}
        assert run.keeps_step("b", "join")
        assert run.keeps_step("c", "join")


def test_the_join_does_not_run_when_a_branch_fails() -> None:
    definition = workflow(
        ["a", "b", node("c", "fail_always"), "join"],
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=JOIN) for branch in "bc"),
    )
    for run in courses(definition):
        assert run.status == "failed"
        assert run.starts("join") == []
