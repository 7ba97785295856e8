"""WCP-33, Generalized AND-Join: each input may hold several pending arrivals; every firing takes one from each.

Carried by a join over `incoming`, which has one queue per incoming transition (rule R5). Where an input can bring nothing more,
`all` goes on without it, for nothing waits for what cannot come; `m_of_n` over all inputs fails instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.words import all_of, append, edge, m_of, node, workflow
from tests.patterns.harness import Pattern, courses

if TYPE_CHECKING:
    from wonder_ray.definitions.models import Join, WorkflowDefinition

PATTERN = Pattern(33, "Generalized AND-Join", "join over `incoming`: a queue per transition")
JOIN = all_of("incoming", append("state.taken"))


def streams(xs: int, ys: int, join: Join = JOIN) -> WorkflowDefinition:
    """Some tokens arrive over one transition, some over another."""
    return workflow(
        ["a", node("x", input={"value": "'x' + string(index)"}), node("y", input={"value": "'y'"}), "join"],
        edge("a", "x", spawn_count=xs),
        edge("a", "y", spawn_count=ys),
        edge("x", "join", join=join),
        edge("y", "join", join=join),
    )


DEFINITION = streams(2, 2)


def test_every_firing_takes_one_from_each_input_first_come_first_served() -> None:
    held = 0
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "x": 2, "y": 2, "join": 2}
        assert run.keeps_step("x", "join")
        assert run.keeps_step("y", "join")
        came = [token.result for token in sorted(run.tokens("x"), key=run.end)]
        assert run.merged("state.taken") == [[came[0], "y"], [came[1], "y"]]
        held += max(run.ends("x")) < min(run.ends("y")) or max(run.ends("y")) < min(run.ends("x"))
    assert held, "in some order both arrivals of one input wait for the first of the other"


def test_arrivals_of_the_same_moment_are_paired_as_well() -> None:
    for run in courses(DEFINITION, batched=True):
        assert run.counts == {"a": 1, "x": 2, "y": 2, "join": 2}
        assert all(len(taken) == 2 for taken in run.merged("state.taken"))


@pytest.mark.parametrize(("xs", "ys"), [(3, 1), (1, 2), (2, 0)])
def test_all_goes_on_without_an_input_that_can_bring_nothing_more(xs: int, ys: int) -> None:
    for run in courses(streams(xs, ys)):
        assert run.status == "completed"
        assert run.completed["join"] == max(xs, ys)
        sizes = [len(taken) for taken in run.merged("state.taken")]
        assert sizes == [2] * min(xs, ys) + [1] * (max(xs, ys) - min(xs, ys))


def test_a_join_that_insists_on_every_input_fails_when_one_is_exhausted() -> None:
    for run in courses(streams(2, 1, m_of(2, "incoming"))):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("JoinUnsatisfied", "join")
        assert len(run.events("fan_in.completed")) == 1
