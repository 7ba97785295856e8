"""The check as a whole: explore, look at what never happened, make the examples short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wonder_ray.soundness.abstraction import Abstract
from wonder_ray.soundness.examples import Examples
from wonder_ray.soundness.exploring import Exploration
from wonder_ray.soundness.findings import KINDS, Finding
from wonder_ray.soundness.outcomes import OpenGroups, outcomes_of
from wonder_ray.soundness.reduction import Reduction
from wonder_ray.soundness.report import Problem, Soundness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.soundness.exploring import Found
    from wonder_ray.soundness.stepping import Move

STATES_MAX: Final = 5_000
EXACT_SHARE: Final = 4
"""For the shortest examples, a quarter of the bound is spent on looking at every order of steps."""
LARGE: Final = 1_000
HOPELESS_SHARE: Final = 5
"""Of a large definition with more nodes than states may be seen, a fifth of those states is looked at."""


def check_soundness(definition: WorkflowDefinition, *, states_max: int = STATES_MAX) -> Soundness:
    """Explore what can happen in runs of a definition, whatever its conditions say, and report what can go wrong.

    Args:
        definition: One that `validate` finds no errors in.
        states_max: Gives up after so many states.

    Example:
        >>> from wonder_ray.definitions.models import ComputeNode, WorkflowDefinition
        >>> check_soundness(WorkflowDefinition(name="one", nodes=(ComputeNode(id="a"),))).verdict
        'sound'
    """
    check = _Check(definition, states_max)
    try:
        return check.run()
    except RecursionError:
        reason = "its groups are nested too deep to be explored"
        return Soundness(workflow=definition.name, verdict="unknown", states=0, bound=states_max, complete=False, reason=reason)


class _Check:
    def __init__(self, definition: WorkflowDefinition, states_max: int) -> None:
        self._definition = definition
        self._states_max = states_max
        self._abstract = Abstract(definition)
        self._open = OpenGroups(definition)
        self._outcomes = outcomes_of(definition, self._abstract.graph, self._open)

    def run(self) -> Soundness:
        """The verdict."""
        states_max = self._states_max
        if len(self._definition.nodes) > max(states_max, LARGE):
            states_max //= HOPELESS_SHARE  # every node needs a state
        seen = self._explore(states_max, reduction=Reduction(self._abstract.graph, self._outcomes, self._open))
        found = list(self._with_examples(seen)) + [Problem(**f._asdict()) for f in self._never(seen)]
        found.sort(key=lambda problem: KINDS.index(problem.kind))
        reason = None if seen.complete else f"gave up after {seen.states:,} states"
        return Soundness(
            workflow=self._definition.name,
            verdict="unsound" if found else "sound" if seen.complete else "unknown",
            states=seen.states,
            bound=self._states_max,
            complete=seen.complete,
            reason=reason,
            problems=tuple(found),
        )

    def _explore(self, states_max: int, *, reduction: Reduction | None = None, depth_max: int | None = None) -> Exploration:
        seen = Exploration(self._abstract, self._outcomes, reduction=reduction, states_max=states_max, depth_max=depth_max)
        seen.explore()
        return seen

    def _never(self, seen: Exploration) -> Iterator[Finding]:
        """What did not happen, where all that can happen was seen."""
        if not seen.complete:
            return
        if not seen.completes:
            yield Finding("never_completes", self._definition.name, "no run of it can complete")
        for node in self._definition.nodes:
            if node.id not in seen.reached:
                yield Finding("never_runs", node.id, f"{node.id!r} can never run")

    def _with_examples(self, seen: Exploration) -> Iterator[Problem]:
        if not seen.found:
            return
        examples = Examples(self._abstract, self._states_max)
        ways = {key: examples.shortened(key, found.moves) for key, found in seen.found.items()}
        longest = max(map(len, ways.values()))
        exact = self._explore(self._states_max // EXACT_SHARE, depth_max=longest - 2)
        for key, found in seen.found.items():
            yield _problem(found, examples, ways[key], exact.found.get(key))


def _problem(found: Found, examples: Examples, moves: Sequence[Move], exact: Found | None) -> Problem:
    if exact is not None and len(exact.moves) < len(moves):
        moves = exact.moves
    finding = found.finding
    return Problem(kind=finding.kind, place=finding.place, message=finding.message, example=examples.told(moves))
