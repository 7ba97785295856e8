"""One walk over a definition: what all checks look up, and the list they add their findings to."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.checks.problems import Place, Problem, Severity, did_you_mean, list_some
from wonder_ray.definitions.triggers import Trigger, parse_trigger
from wonder_ray.errors import DefinitionError
from wonder_ray.ids import check_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from wonder_ray.definitions.models import Transition, WorkflowDefinition

INCOMING: Final = "incoming"
COMPLETED: Final = Trigger("completed")
_HINTS_MAX: Final = 100
_FINDINGS_MAX: Final = 10_000
"""Of errors, and of warnings: nobody reads more, and a generated definition may have a million."""
_NODES_SHOWN: Final = 3


class Survey:
    """A definition with its look-up tables.

    Attributes:
        positions: Node id -> its (first) position.
        leaving, entering: Node id -> positions of the transitions that leave or enter it; unknown nodes left out.
        labels: Per transition its id: `a->b`, the second between the two `a->b#2`.
        triggers: Per transition what its `on` means, None where it means nothing.
        openers: Group -> positions of the transitions that open it.
        joiners: Group (or `incoming`) -> positions of the transitions that join over it.
        start: The nodes a run starts at.
        items: Names that `foreach` gives its items.
    """

    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        self.problems: list[Problem] = []
        self._hints = 0
        self._found: Counter[Severity] = Counter()
        self._opened_at: dict[str, str] = {}
        self.positions: dict[str, int] = {}
        for i, node in enumerate(definition.nodes):
            self.positions.setdefault(node.id, i)
        self.leaving: dict[str, list[int]] = {node: [] for node in self.positions}
        self.entering: dict[str, list[int]] = {node: [] for node in self.positions}
        self.openers: dict[str, list[int]] = {}
        self.joiners: dict[str, list[int]] = {}
        self.labels: list[str] = []
        self.triggers: list[Trigger | None] = []
        seen: Counter[tuple[str, str]] = Counter()
        for i, transition in enumerate(definition.transitions):
            self._add(i, transition, seen)
        self.start = definition.start or tuple(node for node, found in self.entering.items() if not found)
        self.items = frozenset(t.item for t in definition.transitions if t.foreach is not None)

    def _add(self, i: int, transition: Transition, seen: Counter[tuple[str, str]]) -> None:
        ends = (transition.source, transition.target)
        seen[ends] += 1
        nth = f"#{seen[ends]}" if seen[ends] > 1 else ""
        self.labels.append(f"{transition.source}->{transition.target}{nth}")
        self.triggers.append(_trigger(transition.on))
        if transition.source in self.leaving:
            self.leaving[transition.source].append(i)
        if transition.target in self.entering:
            self.entering[transition.target].append(i)
        if transition.group is not None:
            self.openers.setdefault(transition.group, []).append(i)
        if transition.join is not None:
            self.joiners.setdefault(transition.join.over, []).append(i)

    def add(self, place: Place, message: str, mend: str, severity: Severity = "error") -> None:
        """Note a finding, one of the first ten thousand; the node or transition it is about is told by its place."""
        self._found[severity] += 1
        if self._found[severity] > _FINDINGS_MAX:
            return
        node = transition = None
        if len(place) > 1 and isinstance(place[1], int):
            if place[0] == "nodes":
                node = self.definition.nodes[place[1]].id
            elif place[0] == "transitions":
                transition = self.labels[place[1]]
        problem = Problem(severity=severity, message=message, mend=mend, node=node, transition=transition, place=place)
        self.problems.append(problem)

    def warn(self, place: Place, message: str, mend: str) -> None:
        """Note what is probably not meant."""
        self.add(place, message, mend, "warning")

    def name(self, name: str, what: str, place: Place) -> None:
        """Note a name that is none."""
        try:
            check_name(name, what)
        except DefinitionError:
            mend = "use 1 to 128 letters, digits, '_', '.' or '-', beginning with a letter or digit"
            self.add(place, f"{what} {name[:80]!r} is not a name", mend)

    def hint(self, name: str, known: Collection[str]) -> str:
        """`did_you_mean`, for the first hundred mistakes: comparing takes milliseconds, and there may be thousands."""
        self._hints += 1
        return did_you_mean(name, known) if self._hints <= _HINTS_MAX else list_some(known)

    def opened_at(self, group: str) -> str:
        """The first few nodes that open a group, for messages."""
        if group not in self._opened_at:
            nodes = dict.fromkeys(self.definition.transitions[i].source for i in self.openers[group])
            some = [repr(node) for node in islice(nodes, _NODES_SHOWN)]
            self._opened_at[group] = ", ".join(some) + (", ..." if len(nodes) > len(some) else "")
        return self._opened_at[group]

    def known_ends(self, i: int) -> bool:
        """Whether both nodes of a transition exist."""
        transition = self.definition.transitions[i]
        return transition.source in self.positions and transition.target in self.positions


def _trigger(on: str) -> Trigger | None:
    if on == "completed":
        return COMPLETED
    try:
        return parse_trigger(on)
    except DefinitionError:
        return None
