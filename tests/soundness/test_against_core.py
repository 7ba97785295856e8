"""Verdicts against the production core: what is unsound can be played, and what is sound never goes wrong.

Every example of an unsound verdict is played move by move, and must show what it is said to show. Definitions that are sound are
run many times, with all that is not fixed left to chance, and nothing may go wrong; what never happens must not.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.cases.definitions import all_cases
from tests.patterns.catalogue import modules
from tests.planning.graphs import nested
from tests.simulation.chance import Chance
from tests.simulation.graphs import draw_definition, is_valid
from tests.soundness.graphs import conditional, counted, restless
from tests.soundness.playing import UNMET, by_chance, play, wrongs
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.soundness.checking import Check

if TYPE_CHECKING:
    from wonder_ray.soundness import Soundness

SLOW = list(HealthCheck)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # what fails is told as it was drawn: to shrink it takes minutes
KNOWN = {case.name: case.definition for case in all_cases()} | {
    f"{name}:{place}": found
    for name, module in modules().items()
    for place, found in vars(module).items()
    if isinstance(found, WorkflowDefinition)
}


def judged(definition: WorkflowDefinition, states_max: int, runs: int, seed: int = 0) -> Soundness:
    """The verdict, once it has stood up to the core."""
    check = Check(definition, states_max)
    verdict = check.run()
    for shown in (shown for look in check.looks() for shown in check.evidence(look)):
        finding = shown.finding
        if finding.sure and "smaller counts" not in finding.message:
            run, answers = play(definition, shown)
            where = (finding, shown.examples.told(shown.moves))
            if finding.kind in {"waits_for_ever", "mutex_deadlock"}:
                failed = run.error is not None and run.error.type in UNMET
                assert failed or not (run.flying or run.step()), where
            else:
                assert (finding.kind, finding.place) in wrongs(run, answers), where
    stand(definition, verdict, runs, seed)
    return verdict


def stand(definition: WorkflowDefinition, verdict: Soundness, runs: int, seed: int) -> None:
    """Runs by chance show nothing that the verdict denies."""
    never = {problem.place for problem in verdict.problems if problem.kind == "never_runs"}
    completes = "never_completes" not in {problem.kind for problem in verdict.problems}
    told = {(problem.kind, problem.place) for problem in (*verdict.problems, *verdict.undecided)}
    for at in range(seed, seed + runs):
        fails = 0.15 if at % 3 == 0 else 0.0
        run, answers = by_chance(definition, at, fails=fails)
        assert never.isdisjoint(run.completed), (at, never & set(run.completed))
        assert completes or run.status != "completed", at
        if not fails and not run.failed_attempts:
            found = wrongs(run, answers)
            kinds = {kind for kind, _ in found}
            assert verdict.verdict != "sound" or not found, (at, found)
            if verdict.complete and verdict.verdict != "unknown":
                assert kinds <= {kind for kind, _ in told}, (at, found, told)


@pytest.mark.parametrize("name", KNOWN)
def test_cases_and_patterns_are_judged_rightly(name: str) -> None:
    judged(KNOWN[name], 3_000, 9)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW, phases=PHASES)
@given(definition=counted())
def test_fan_outs_that_joins_count_are_judged_rightly(definition: WorkflowDefinition) -> None:
    if is_valid(definition):
        judged(definition, 400, 4)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW, phases=PHASES)
@given(definition=conditional() | restless() | nested(2))
def test_any_definition_is_judged_rightly(definition: WorkflowDefinition) -> None:
    if is_valid(definition):
        judged(definition, 400, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=500, deadline=None, suppress_health_check=SLOW, phases=PHASES)
@given(definition=counted() | conditional() | restless() | nested(2), seed=st.integers(0, 2**20))
def test_many_definitions_are_judged_rightly(definition: WorkflowDefinition, seed: int) -> None:
    if is_valid(definition):
        judged(definition, 1_000, 9, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_simulator_draws_is_judged_rightly() -> None:
    verdicts = Counter(judged(draw_definition(Chance(seed)), 1_500, 6).verdict for seed in range(60))
    assert set(verdicts) == {"sound", "unsound", "unknown"}, verdicts
