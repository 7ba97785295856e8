"""The check as a whole: explore, look at what never happened, make the examples short, and tell what is sure from what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from wonder_ray.soundness.abstraction import Abstract
from wonder_ray.soundness.counting import SIZES
from wonder_ray.soundness.examples import Examples, is_consistent
from wonder_ray.soundness.exploring import Exploration
from wonder_ray.soundness.findings import KINDS
from wonder_ray.soundness.never import never_happens
from wonder_ray.soundness.outcomes import OpenGroups, outcomes_of
from wonder_ray.soundness.reduction import Reduction
from wonder_ray.soundness.report import Problem, Soundness
from wonder_ray.soundness.timing import durations, schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.soundness.findings import Finding
    from wonder_ray.soundness.stepping import Move

STATES_MAX: Final = 5_000
EXACT_SHARE: Final = 4
"""For the shortest examples, a quarter of the bound is spent on looking at every order of steps."""
LARGE: Final = 1_000
HOPELESS_SHARE: Final = 5
"""Of a large definition with more nodes than states may be seen, a fifth of those states is looked at."""
EXACT: Final = 100
"""Counts of up to this are explored as they stand, where that does not take too many states."""
SHOWN_MAX: Final = 3_000
"""What was found with smaller counts is tried with the true ones up to this."""


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
    try:
        return Check(definition, states_max).run()
    except RecursionError:
        reason = "its groups are nested too deep to be explored"
        return Soundness(workflow=definition.name, verdict="unknown", states=0, bound=states_max, complete=False, reason=reason)


class Look(NamedTuple):
    """One exploration, and what was found in it, each with the moves of its example."""

    abstract: Abstract
    seen: Exploration
    examples: Examples
    found: list[tuple[Finding, list[Move]]]

    @property
    def is_true(self) -> bool:
        """Whether all counts are as they stand in the definition."""
        return not self.abstract.counts.is_cut


class Evidence(NamedTuple):
    """A finding and the moves that show it."""

    finding: Finding
    examples: Examples
    moves: list[Move]


class Check:
    """Looks at a definition with the counts that it has, and where that is too much, with smaller ones, too."""

    def __init__(self, definition: WorkflowDefinition, states_max: int) -> None:
        self._definition = definition
        self._bound = states_max
        self._durations = durations(definition)
        self.open_groups = OpenGroups(definition)

    def run(self) -> Soundness:
        """The verdict."""
        looks = self.looks()
        last = looks[-1]
        sure: dict[tuple[str, str], Problem] = {}
        undecided: dict[tuple[str, str], Problem] = {}
        for look in looks:
            for shown in self.evidence(look):
                problems = sure if shown.finding.sure else undecided
                problems.setdefault(shown.finding.key[:2], _problem(shown.finding, shown.examples.told(shown.moves)))
        if last.seen.complete:
            for finding in never_happens(self._definition, last.abstract, last.seen, self.open_groups):
                (sure if finding.sure else undecided)[finding.key[:2]] = _problem(finding)
        return self._told(last, _ordered(sure), _ordered({key: p for key, p in undecided.items() if key not in sure}))

    def looks(self) -> list[Look]:
        """The explorations: the last one saw all, if one did."""
        first = self._look(EXACT)
        if first.seen.complete:
            return [first]
        smaller = Abstract(self._definition, self.open_groups, exact=SIZES)
        return [first] if smaller.counts.same_as(first.abstract.counts) else [first, self._look(SIZES)]

    def evidence(self, look: Look) -> Iterator[Evidence]:
        """What was found, as it can be shown with the true counts: what cannot, is not sure."""
        true = None
        for finding, moves in look.found:
            shown = Evidence(finding, look.examples, moves)
            if finding.sure and not look.is_true:
                true = true or Abstract(self._definition, self.open_groups, exact=SHOWN_MAX, keeps_all=look.abstract.keeps_all)
                shown = self._with_true(shown, look, true)
            if shown.finding.sure and schedule(self._durations, shown.examples.play(shown.moves)) is None:
                shown = shown._replace(finding=finding._replace(sure=False))
            yield shown

    def _with_true(self, shown: Evidence, look: Look, true: Abstract) -> Evidence:
        """The same with the true counts, if they can be played; if not, what nothing counts is as good with less."""
        finding = shown.finding
        if true.counts.is_cut:
            sure = not look.abstract.counts.doubtful
            return shown._replace(finding=finding._replace(sure=sure, message=f"{finding.message} (seen with smaller counts)"))
        examples = Examples(true, self._bound)
        moves = examples.completed(finding.key, shown.moves)
        return shown._replace(finding=finding._replace(sure=False)) if moves is None else Evidence(finding, examples, moves)

    def _look(self, exact: int) -> Look:
        look = self._look_with(exact, keeps_all=False)
        if all(is_consistent(look.examples.play(moves)) for _, moves in look.found):
            return look
        return self._look_with(exact, keeps_all=True)

    def _look_with(self, exact: int, *, keeps_all: bool) -> Look:
        abstract = Abstract(self._definition, self.open_groups, exact=exact, keeps_all=keeps_all)
        outcomes = outcomes_of(self._definition, abstract.graph, self.open_groups)
        states_max = self._bound
        if len(self._definition.nodes) > max(states_max, LARGE):
            states_max //= HOPELESS_SHARE  # every node needs a state
        reduction = Reduction(abstract.graph, outcomes, self.open_groups)
        seen = Exploration(abstract, outcomes, reduction=reduction, states_max=states_max)
        seen.explore()
        examples = Examples(abstract, self._bound)
        ways = {key: examples.shortened(key, found.moves) for key, found in seen.found.items()}
        if ways:
            depth_max = max(map(len, ways.values())) - 2
            shorter = Exploration(abstract, outcomes, reduction=None, states_max=self._bound // EXACT_SHARE, depth_max=depth_max)
            shorter.explore()
            for key, found in shorter.found.items():
                if key in ways and len(found.moves) < len(ways[key]):
                    ways[key] = found.moves
        return Look(abstract, seen, examples, [(seen.found[key].finding, moves) for key, moves in ways.items()])

    def _told(self, last: Look, problems: tuple[Problem, ...], undecided: tuple[Problem, ...]) -> Soundness:
        doubts = last.abstract.counts.doubtful
        reasons = [
            *([] if last.seen.complete else [f"gave up after {last.seen.states:,} states"]),
            *doubts,
            *(problem.message for problem in undecided),
        ]
        return Soundness(
            workflow=self._definition.name,
            verdict="unsound" if problems else "unknown" if reasons else "sound",
            states=last.seen.states,
            bound=self._bound,
            complete=last.seen.complete,
            reason=reasons[0] if reasons else None,
            problems=problems,
            undecided=undecided,
        )


def _ordered(problems: dict[tuple[str, str], Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems.values(), key=lambda problem: KINDS.index(problem.kind)))


def _problem(finding: Finding, example: tuple[str, ...] = ()) -> Problem:
    return Problem(kind=finding.kind, place=finding.place, message=finding.message, example=example)
