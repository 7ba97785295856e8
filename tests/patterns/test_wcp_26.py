"""WCP-26, Cancel Multiple Instance Task: the instances that have not completed are withdrawn, and what follows them does not run.

Carried by `cancel_groups` on a transition: the group's remaining members end, and its join does not fire.
"""

from __future__ import annotations

from tests.cases.words import all_of, any_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(26, "Cancel Multiple Instance Task", "`cancel_groups`: the members left are withdrawn")
DEFINITION = workflow(
    ["a", node("each", input={"value": "item"}), "join", "stop", "end"],
    edge("a", "each", foreach="input", group="g"),
    edge("each", "join", join=all_of("g")),
    edge("a", "stop"),
    edge("stop", "end", cancel_groups=("g",)),
)


def test_the_instances_left_are_withdrawn_and_their_join_does_not_fire() -> None:
    numbers = set()
    for run in courses(DEFINITION, ["x", "y", "z"], late=True):
        before = run.moves[: run.moves.index("stop")].count("each")
        assert run.status == "completed"
        assert run.completed["each"] == before
        assert run.cancelled.count("each") == 3 - before
        assert run.completed["join"] == int(before == 3)
        assert run.completed["end"] == 1
        numbers.add(before)
    assert numbers == {0, 1, 2, 3}


def test_an_instance_that_ends_in_the_moment_of_the_withdrawal_counts_if_it_was_first() -> None:
    for run in courses(DEFINITION, ["x", "y"], batched=True, late=True):
        before = run.moves[: run.moves.index("stop")].count("each")
        assert run.completed["each"] == before
        assert run.completed["join"] == int(before == 2)


def test_what_instances_have_split_into_is_withdrawn_with_them() -> None:
    definition = workflow(
        "a each part part_end join stop end",
        edge("a", "each", spawn_count=2, group="g"),
        edge("each", "part", spawn_count=2, group="parts"),
        edge("part", "part_end", join=any_of("parts")),
        edge("part_end", "join", join=all_of("g")),
        edge("a", "stop"),
        edge("stop", "end", cancel_groups=("g",)),
    )
    for run in courses(definition, late=True, most=300):
        assert run.status == "completed"
        stopped = run.ends("stop")[0]
        in_time = run.completed["join"] and run.starts("join")[0] < stopped
        assert run.completed["join"] == int(in_time)
        if not in_time:
            assert all(end < stopped for end in run.ends("each", "part", "part_end"))


def test_instances_of_another_round_are_not_touched() -> None:
    definition = workflow(
        "a each join stop end",
        edge("a", "stop"),
        edge("stop", "each", spawn_count=2, group="g", cancel_groups=("g",)),
        edge("each", "join", join=all_of("g")),
        edge("join", "stop", max_iterations=1),
        edge("join", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "stop": 2, "each": 4, "join": 2, "end": 1}
