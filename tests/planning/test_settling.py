"""What a join still waits for, where groups lie in each other (rule R4)."""

from __future__ import annotations

from tests.cases.words import any_of, edge, m_of, workflow
from tests.core import CoreRun


def test_a_partial_join_fails_when_the_last_of_a_fired_inner_group_has_ended_elsewhere() -> None:
    """What a fired inner group has left could still have arrived at the outer join."""
    flow = workflow(
        "a b c x y inner join",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "x", group="h"),
        edge("b", "y", group="h"),
        edge("x", "inner", join=any_of("h")),
        edge("y", "join", join=m_of(2, "g"), when="1 == 2"),
        edge("c", "join", join=m_of(2, "g")),
    )
    run = CoreRun(flow)
    run.start()
    for name in ("a", "b", "x", "inner"):
        run.finish(name)
    assert run.status == "running"
    run.finish("y")
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "JoinUnsatisfied")
