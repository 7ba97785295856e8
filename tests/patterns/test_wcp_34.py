"""WCP-34, Static Partial Join for Multiple Instances: m of n instances suffice to go on; the others run on without effect.

Carried by `foreach` (or `spawn_count`) with an `m_of_n` join that absorbs the rest.
"""

from __future__ import annotations

from tests.cases.words import append, edge, m_of, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(34, "Static Partial Join for Multiple Instances", "`foreach` with `m_of_n`, the rest absorbed")
DEFINITION = workflow(
    ["a", node("each", input={"value": "item"}), "join", "end"],
    edge("a", "each", foreach="input", group="g"),
    edge("each", "join", join=m_of(2, "g", "absorb", append("state.came"))),
    edge("join", "end"),
    output={"came": "state.came"},
)


def test_the_second_of_three_instances_fires_and_the_last_runs_on() -> None:
    late = 0
    for run in courses(DEFINITION, ["x", "y", "z"]):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "each": 3, "join": 1, "end": 1}
        (begin,) = run.starts("join")
        before = [token for token in run.tokens("each") if run.end(token) < begin]
        assert run.output == {"came": [token.result for token in before]}
        assert len(before) == 2
        late += max(run.ends("each")) > max(run.ends("end"))
    assert late


def test_instances_of_the_same_moment_fire_once() -> None:
    for run in courses(DEFINITION, ["x", "y", "z"], batched=True):
        assert run.counts == {"a": 1, "each": 3, "join": 1, "end": 1}
        assert len(run.output["came"]) == 2


def test_fewer_instances_than_are_needed_are_a_failure() -> None:
    for items in ([], ["x"]):
        for run in courses(DEFINITION, items):
            assert run.status == "failed"
            assert run.error is not None
            assert run.error.type == "JoinUnsatisfied"
            assert run.starts("join") == []


def test_what_each_instance_does_in_several_tasks_counts_once() -> None:
    definition = workflow(
        "a first second join",
        edge("a", "first", spawn_count=3, group="g"),
        edge("first", "second"),
        edge("second", "join", join=m_of(2, "g")),
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "first": 3, "second": 3, "join": 1}
        assert sum(end < run.starts("join")[0] for end in run.ends("second")) == 2
