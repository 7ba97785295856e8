"""Free choices in the place of expressions: a turn is run once for every way in which its conditions and counts may come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.soundness.conditions import excludes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.soundness.conditions import Atom, Condition


class Chooser:
    """Answers what a turn asks, from a script of answers and then always the first, and notes what else there was."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        """(answer, how many there were), in order."""
        self.learned: dict[Atom, bool] = {}
        """What was assumed of the run's input."""
        self._script: Sequence[int] = ()
        self._known: Mapping[Atom, bool] = {}
        self.decided: dict[str, dict[Atom, bool]] = {}
        """Token -> what was decided when it was routed."""

    def begin(self, script: Sequence[int], known: Mapping[Atom, bool]) -> None:
        """A turn begins; `known` is what has been assumed of the input before."""
        self._script, self._known = script, known
        self.taken, self.learned, self.decided = [], {}, {}

    def pick(self, options: int) -> int:
        """One of so many."""
        if options == 1:
            return 0
        at = len(self.taken)
        answer = self._script[at] if at < len(self._script) else 0
        self.taken.append((answer, options))
        return answer

    def next_script(self) -> list[int] | None:
        """The script of the next way in which the turn may go; None after the last."""
        taken = self.taken
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return None
        script = [answer for answer, _ in taken]
        script[-1] += 1
        return script

    def holds(self, condition: Condition, token_id: str, *, kept: bool) -> bool:
        """Whether a condition is met, for a token that is routed: what is decided once, stands for all its transitions.

        Args:
            condition: What is asked.
            token_id: For whom.
            kept: Whether the answer is kept for the whole run: it is about the input, and is asked elsewhere, too.
        """
        decided = self.decided.setdefault(token_id, {})
        atom = condition.atom
        value = decided.get(atom)
        if value is None and kept:
            value = self.learned.get(atom, self._known.get(atom))
        if value is None:
            others = (*decided.items(), *((*self._known.items(), *self.learned.items()) if kept else ()))
            excluded = any(truth and excludes(atom, other) for other, truth in others)
            value = False if excluded else self.pick(2) == 0
            if kept:
                self.learned[atom] = value
        decided[atom] = value
        return value is condition.holds


class FreeCondition:
    """In the place of a condition."""

    names: Final = frozenset[str]()

    def __init__(self, text: str, condition: Condition, chooser: Chooser, *, kept: bool) -> None:
        self.text = text
        self.condition = condition
        self.kept = kept
        self._chooser = chooser

    def evaluate_bool(self, scope: Mapping[str, Any]) -> bool:
        """True or false."""
        if self.condition.constant is not None:
            return self.condition.constant
        return self._chooser.holds(self.condition, scope["token"]["id"], kept=self.kept)


class FreeCount:
    """In the place of a number of branches, or of a list that they are made of."""

    names: Final = frozenset[str]()

    def __init__(self, text: str, sizes: Sequence[int], chooser: Chooser, *, as_list: bool) -> None:
        self.text = text
        self.sizes = sizes
        self._as_list = as_list
        self._chooser = chooser

    def evaluate(self, _scope: Mapping[str, Any]) -> Any:
        """One of the sizes."""
        size = self.sizes[self._chooser.pick(len(self.sizes))]
        return [None] * size if self._as_list else size


class FreeThreshold:
    """In the place of an `m`: it may be met by what has arrived, or by more, as long as more can come."""

    names: Final = frozenset({"state"})

    def __init__(self, text: str, chooser: Chooser) -> None:
        self.text = text
        self._chooser = chooser

    def evaluate(self, scope: Mapping[str, Any]) -> int:
        """So many arrivals are needed."""
        group = scope.get("group", {"arrived": 1, "active": 0})
        if group["arrived"] == 0 and group["active"]:
            return 1
        return int(group["arrived"]) + (1 if group["active"] and self._chooser.pick(2) else 0)
