"""WCP-12, Multiple Instances without Synchronization: n instances of a task run, and nobody waits for them.

Carried by `spawn_count` or `foreach` without a join.
"""

from __future__ import annotations

import pytest

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(12, "Multiple Instances without Synchronization", "`spawn_count` or `foreach` without a join")
DEFINITION = workflow(
    ["a", node("each", input={"value": "item"}), "after", "on"],
    edge("a", "each", foreach="input"),
    edge("a", "on"),
    edge("each", "after"),
)


@pytest.mark.parametrize("items", [[], ["x"], ["x", "y", "z"]])
def test_every_instance_goes_its_own_way_and_nobody_waits(items: list[str]) -> None:
    ahead = 0
    for run in courses(DEFINITION, items):
        assert run.status == "completed"
        count = {"each": len(items), "after": len(items)} if items else {}
        assert run.counts == {"a": 1, "on": 1} | count
        assert sorted(token.result for token in run.tokens("each")) == items
        ahead += max(run.ends("on")) < min(run.ends("each"), default=0)
    assert bool(ahead) is bool(items), "in some order the main branch is through before any instance"


def test_a_counted_number_of_instances_is_as_independent() -> None:
    definition = workflow("a each after", edge("a", "each", spawn_count="input + 1"), edge("each", "after"))
    for run in courses(definition, 2):
        assert run.counts == {"a": 1, "each": 3, "after": 3}
        for each in run.tokens("each"):
            (after,) = run.tokens("after", parent=each)
            assert run.end(each) < run.begin(after)
