"""WCP-35, Cancelling Partial Join for Multiple Instances: m of n instances suffice, and the others are withdrawn.

Carried by `foreach` (or `spawn_count`) with an `m_of_n` join that cancels the rest.
"""

from __future__ import annotations

from tests.cases.words import append, edge, m_of, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(35, "Cancelling Partial Join for Multiple Instances", "`foreach` with `m_of_n`, the rest cancelled")
DEFINITION = workflow(
    ["a", node("each", input={"value": "item"}), "join", "end"],
    edge("a", "each", foreach="input", group="g"),
    edge("each", "join", join=m_of(2, "g", "cancel", append("state.came"))),
    edge("join", "end"),
    output={"came": "state.came"},
)


def test_the_second_of_four_instances_fires_and_the_others_are_withdrawn() -> None:
    for run in courses(DEFINITION, ["w", "x", "y", "z"], late=True, most=400):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "each": 2, "join": 1, "end": 1}
        assert run.cancelled == ["each", "each"]
        assert len(run.output["came"]) == 2
        assert run.in_order("each", "join")


def test_an_instance_that_ends_in_the_moment_of_the_firing_is_refused() -> None:
    for run in courses(DEFINITION, ["x", "y", "z"], batched=True, late=True):
        assert run.counts == {"a": 1, "each": 2, "join": 1, "end": 1}
        assert run.cancelled == ["each"]


def test_instances_that_a_limit_holds_back_never_start() -> None:
    definition = workflow(
        "a each join",
        edge("a", "each", spawn_count=5, group="g", max_concurrency=1),
        edge("each", "join", join=m_of(2, "g", "cancel")),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "each": 2, "join": 1}
        assert len(run.starts("each")) == 2
        assert run.cancelled == ["each"] * 3
