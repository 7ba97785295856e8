"""WCP-13, Multiple Instances with a priori Design-Time Knowledge: the model says how many instances; what follows waits for all.

Carried by a constant `spawn_count` with an `all` join.
"""

from __future__ import annotations

from tests.cases.words import all_of, append, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(13, "Multiple Instances with a priori Design-Time Knowledge", "constant `spawn_count` with `all`")
DEFINITION = workflow(
    ["a", node("each", input={"value": "index"}), "join", "end"],
    edge("a", "each", spawn_count=3, group="g"),
    edge("each", "join", join=all_of("g", append("state.all"))),
    edge("join", "end"),
    output={"all": "state.all"},
)


def test_what_follows_waits_for_all_instances() -> None:
    for run in courses(DEFINITION, batched=True):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "each": 3, "join": 1, "end": 1}
        assert run.in_order("each", "join")
        assert run.output == {"all": [0, 1, 2]}, "in the order of the instances, not of their ends"


def test_an_instance_of_several_tasks_counts_when_it_is_through() -> None:
    definition = workflow(
        "a first second join",
        edge("a", "first", spawn_count=2, group="g"),
        edge("first", "second"),
        edge("second", "join", join=all_of("g")),
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "first": 2, "second": 2, "join": 1}
        assert run.in_order("second", "join")


def test_no_more_instances_run_at_a_time_than_allowed() -> None:
    definition = workflow(
        "a each join",
        edge("a", "each", spawn_count=4, group="g", max_concurrency=2),
        edge("each", "join", join=all_of("g")),
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "each": 4, "join": 1}
        assert run.at_a_time("each") == 2
