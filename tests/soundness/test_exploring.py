"""The exploration against production runs: what is promised holds, and what is left out changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.core import RUN_ID, CoreRun, random_order
from tests.planning.graphs import nested
from tests.soundness.graphs import conditional, restless
from tests.test_fold import run_any
from wonder_ray.coordinator.machine import Machine
from wonder_ray.fold import new_state
from wonder_ray.soundness import check_soundness
from wonder_ray.soundness.abstraction import Abstract
from wonder_ray.soundness.checking import EXACT
from wonder_ray.soundness.copying import copy_live
from wonder_ray.soundness.exploring import Exploration
from wonder_ray.soundness.outcomes import OpenGroups, outcomes_of
from wonder_ray.soundness.reduction import Reduction
from wonder_ray.state import TERMINAL_RUN

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

SLOW = list(HealthCheck)
UNMET = {"Deadlock", "JoinUnsatisfied", "GroupNotOpen"}


def explored(definition: WorkflowDefinition, states_max: int, *, reduced: bool) -> Exploration:
    opened = OpenGroups(definition)
    abstract = Abstract(definition, opened, exact=EXACT)
    outcomes = outcomes_of(definition, abstract.graph, opened)
    reduction = Reduction(abstract.graph, outcomes, opened) if reduced else None
    seen = Exploration(abstract, outcomes, reduction=reduction, states_max=states_max)
    seen.explore()
    return seen


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(definition=conditional() | restless())
def test_one_order_of_independent_steps_shows_what_all_orders_do(definition: WorkflowDefinition) -> None:
    whole = explored(definition, 400, reduced=False)
    assume(whole.complete)
    reduced = explored(definition, 800, reduced=True)
    assert reduced.complete
    assert (reduced.completes, reduced.reached) == (whole.completes, whole.reached)
    assert set(reduced.found) == set(whole.found)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(definition=nested(2), seed=st.integers(0, 2**20))
def test_what_is_judged_sound_never_waits_for_what_cannot_come(definition: WorkflowDefinition, seed: int) -> None:
    found = check_soundness(definition, states_max=400)
    never = {problem.place for problem in found.problems if problem.kind == "never_runs"}
    kinds = {problem.kind for problem in found.problems}
    for order in range(3):
        run = run_any(definition, seed + order, checked=False)
        failures = {row["event_type"] for row in run.rows} & {"token.failed", "token.timed_out"}
        if run.error is not None and run.error.type in UNMET and not failures:
            assert found.verdict != "sound"
            assert not found.complete or "waits_for_ever" in kinds
        assert never.isdisjoint(run.completed)
        if run.status == "completed":
            assert "never_completes" not in kinds


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(definition=nested(2), seed=st.integers(0, 2**20), at=st.integers(1, 12))
def test_a_copy_of_what_is_live_goes_on_as_the_whole_does(definition: WorkflowDefinition, seed: int, at: int) -> None:
    run = CoreRun(without_merges(definition), order=random_order(seed), checked=False)
    run.start()
    for _ in range(at):
        assume(run.step())
    assume(run.flying and run.state.run.status not in TERMINAL_RUN)
    machine = Machine(run.graph, new_state(RUN_ID), epoch=1)
    machine.go_on_from(copy_live(run.state))
    while run.flying and run.state.run.status not in TERMINAL_RUN:
        fact = run.outcome(run.flying.pop())
        ours = machine.turn([fact], now_us=run.clock.now_us(), room=lambda _node: 1000)
        theirs = run.turn(fact)
        assert told(ours.record.events) == told(theirs.record.events)


def without_merges(definition: WorkflowDefinition) -> WorkflowDefinition:
    """Copies hold no results of what has ended, which merges would read."""
    transitions = tuple(
        t if t.join is None else t.model_copy(update={"join": t.join.model_copy(update={"merge": ()})})
        for t in definition.transitions
    )
    return definition.model_copy(update={"transitions": transitions})


def told(events: list[tuple[int, bytes]]) -> list[Any]:
    """Events without what is numbered; those of one turn in any order, since loaded states look at joins in another one."""
    rows = [msgspec.json.decode(line) for _, line in events]
    return sorted(msgspec.json.encode([row["event_type"], row.get("token_id"), row.get("node_id")]) for row in rows)
