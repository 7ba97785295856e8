"""The machine of one run: what becomes of a turn that fails, and of a machine that goes on from another state."""

from __future__ import annotations

import msgspec
import pytest

from tests.cases.words import all_of, edge, node, workflow
from tests.core import CoreRun
from wonder_ray.coordinator.loading import state_of
from wonder_ray.definitions.models import GateNode
from wonder_ray.planning import facts


class Odd(facts.Fact, frozen=True):
    """A fact that nobody knows."""


@pytest.mark.parametrize("trace", [False, True])
def test_a_turn_that_fails_raises_and_leaves_of_its_trace_only_that(trace: bool) -> None:
    run = CoreRun(workflow("a b", edge("a", "b")), trace=trace)
    run.start()
    traced = len(run.traces)
    with pytest.raises(TypeError, match="no planner for Odd"):
        run.turn(run.outcome(run.flying[0]), Odd())
    assert run.machine.emitted, "what the turn would have recorded can be looked at"
    rows = [] if run.tracer is None else run.tracer.take()
    assert len(rows) == trace
    for sequence, line in rows:
        row = msgspec.json.decode(line)
        assert (sequence, row["event_type"], row["turn"]) == (traced + 1, "dispatch.error", 2)
        assert "TypeError: no planner for Odd" in row["payload"]


def test_a_machine_that_goes_on_from_another_state_forgets_what_it_knew_of_the_one_before() -> None:
    """Of that it knew that `c` can still come to the join; in the other state it never was begun."""
    definition = workflow(
        "a b c d",
        edge("a", "b"),
        edge("a", "c", when="input == 1"),
        edge("b", "d", join=all_of("incoming")),
        edge("c", "d", join=all_of("incoming")),
    )
    one, other = CoreRun(definition), CoreRun(definition)
    for value, run in ((1, one), (2, other)):
        run.start(value)
        run.finish("a")
    one.finish("b")
    assert [token.node_id for token in one.flying] == ["c"]
    stored = other.store.load()
    assert stored is not None
    one.machine.go_on_from(state_of(stored))
    turn = one.machine.turn([other.outcome(other.flying[0])], now_us=other.clock.now_us(), room=lambda _node: 1)
    assert [token.node_id for token in turn.dispatched] == ["d"]


def test_a_machine_starts_what_needs_no_task_in_the_state_that_it_goes_on_from() -> None:
    definition = workflow([node("a"), GateNode(id="g")], edge("a", "g"))
    run = CoreRun(definition)
    run.start()
    run.say(facts.PauseRun())
    run.finish("a")
    stored = run.store.load()
    assert stored is not None
    run.machine.go_on_from(state_of(stored))
    turn = run.machine.turn([facts.ContinueRun()], now_us=run.clock.now_us(), room=lambda _node: 1)
    assert [token.status for token in turn.record.tokens] == ["waiting_for_gate"]
