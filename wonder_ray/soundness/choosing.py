"""Free choices in the place of expressions: a turn is run once for every way in which its conditions and counts may come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.errors import ExpressionError
from wonder_ray.soundness.conditions import are_possible, names_in, parts_of, subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.soundness.conditions import Atom, Condition

NEVER: Final = 1_000_000_000
"""More than can ever arrive."""


class Chooser:
    """Answers what a turn asks, from a script of answers and then always the first, and notes what else there was."""

    def __init__(self) -> None:
        self.kept: set[Atom] = set()
        """What is asked of the input and answered once for the whole run."""
        self.taken: list[tuple[int, int]] = []
        """(answer, how many there were), in order."""
        self.learned: dict[Atom, bool] = {}
        """What was assumed of the run's input."""
        self._script: Sequence[int] = ()
        self._known: Mapping[Atom, bool] = {}
        self.decided: dict[str, dict[Atom, bool]] = {}
        """Token -> what was decided when it was routed."""
        self.said: list[tuple[Atom, bool]] = []
        """What was answered of the run's input, kept or not."""
        self.sizes: dict[tuple[str, str], int] = {}
        """(Text, token) -> how many branches were made."""
        self.broken: set[str] = set()
        """The tokens whose expressions could not be evaluated."""
        self.needed: list[int] = []
        """What was answered where an `m` depends on data, in order."""

    def begin(self, script: Sequence[int], known: Mapping[Atom, bool]) -> None:
        """A turn begins; `known` is what has been assumed of the input before."""
        self._script, self._known = script, known
        self.taken, self.learned, self.decided, self.said = [], {}, {}, []
        self.sizes, self.broken, self.needed = {}, set(), []

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

    def holds(self, condition: Condition, token_id: str) -> bool:
        """Whether a condition is met, for a token that is routed: what is decided once, stands for all its transitions."""
        if condition.constant is not None:
            return condition.constant
        decided = self.decided.setdefault(token_id, {})
        atom = condition.atom
        if atom not in decided:
            parts = None if atom[0] else parts_of(atom[1])
            if parts is None:
                decided[atom] = self._decide(condition, decided)
            else:
                together = any if parts[0] == "||" else all
                decided[atom] = together(self.holds(part, token_id) for part in parts[1])
        return decided[atom] is condition.holds

    def _decide(self, condition: Condition, decided: Mapping[Atom, bool]) -> bool:
        """One of the answers that are possible beside all that was answered before."""
        atom = condition.atom
        about = subject(atom)
        is_kept = condition.of_input and about in self.kept
        before = [*decided.items(), *((*self._known.items(), *self.learned.items()) if is_kept else ())]
        related = [(other, value) for other, value in before if subject(other) == about]
        answers = [value for value in (True, False) if are_possible([*related, (atom, value)])]
        value = answers[self.pick(len(answers))]
        if is_kept:
            self.learned[atom] = value
        if condition.of_input:
            self.said.append((atom, value))
        return value

    def asks_more(self, text: str, arrivals: int) -> bool:
        """Whether an `m` that depends on the input only asks for more than so many arrivals; once for the whole run."""
        atom = ("<", str(arrivals), text)
        related = [(a, v) for a, v in (*self._known.items(), *self.learned.items()) if subject(a) == subject(atom)]
        answers = [value for value in (False, True) if are_possible([*related, (atom, value)])]
        self.learned[atom] = value = answers[self.pick(len(answers))]
        return value

    def size(self, count: FreeCount, token_id: str) -> int:
        """How many branches there are."""
        if (count.text, token_id) in self.sizes:
            return self.sizes[count.text, token_id]
        known = (s for s in count.sizes if count.atom(s) in self._known or count.atom(s) in self.learned)
        size = next(known, None) if count.keeps else None
        if size is None:
            size = count.sizes[self.pick(len(count.sizes))]
            if count.keeps:
                self.learned[count.atom(size)] = True
        if count.of_input:
            self.said.append((count.atom(size), True))
        self.sizes[count.text, token_id] = size
        return size


class FreeCondition:
    """In the place of a condition."""

    names: Final = frozenset[str]()

    def __init__(self, text: str, condition: Condition, chooser: Chooser) -> None:
        self.text = text
        self.condition = condition
        self._chooser = chooser

    def evaluate_bool(self, scope: Mapping[str, Any]) -> bool:
        """True or false."""
        return self._chooser.holds(self.condition, scope["token"]["id"])


class FreeCount:
    """In the place of a number of branches, or of a list that they are made of."""

    names: Final = frozenset[str]()

    def __init__(self, text: str, sizes: Sequence[int], chooser: Chooser, *, as_list: bool, keeps: bool) -> None:
        """With `keeps`, what depends on the run's input only has one size in a run."""
        self.text = text
        self.sizes = sizes
        self.of_input = names_in(text) == {"input"}
        self.keeps = keeps and self.of_input
        self._as_list = as_list
        self._chooser = chooser

    def atom(self, size: int) -> Atom:
        """What is known of the input once the size is."""
        return ("size", self.text, f"{size:06}")

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """One of the sizes."""
        size = self._chooser.size(self, scope["token"]["id"])
        return [None] * size if self._as_list else size


class FreeFailure:
    """In the place of what a node computes: it can be evaluated, or not."""

    names: Final = frozenset[str]()

    def __init__(self, text: str, chooser: Chooser) -> None:
        self.text = text
        self._chooser = chooser

    def evaluate(self, scope: Mapping[str, Any]) -> None:
        """Nothing, or an `ExpressionError`."""
        if self._chooser.pick(2):
            self._chooser.broken.add(scope["token"]["id"])
            msg = "it cannot be evaluated"
            raise ExpressionError(msg)


class FreeThreshold:
    """In the place of an `m`: met by what has arrived, or asking for more, which may come or not.

    One that only looks at the group is evaluated as it stands.
    """

    def __init__(self, text: str, chooser: Chooser) -> None:
        self.text = text
        self.names = frozenset(names_in(text))
        self._chooser = chooser
        self._exact = compile_expression(text, frozenset({"group"})) if self.names <= {"group"} else None

    @property
    def is_free(self) -> bool:
        """Whether it depends on data."""
        return self._exact is None

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """So many arrivals are needed."""
        group = scope.get("group", {"arrived": 1, "active": 0, "size": 1, "failures": 0})
        if self._exact is not None:
            return self._exact.evaluate({"group": group})
        arrived, active = int(group["arrived"]), group["active"]
        if self.names <= {"input"}:
            return self._noted(self._of_input(arrived, active))
        options = [arrived] if arrived or not active else []
        options.append(arrived + 1)
        return self._noted(options[self._chooser.pick(len(options))])

    def _of_input(self, arrived: int, active: int) -> int:
        """The same for all groups and times of a run."""
        if (arrived or not active) and not self._chooser.asks_more(self.text, arrived):
            return arrived
        return NEVER if active and self._chooser.asks_more(self.text, NEVER) else arrived + 1

    def _noted(self, needed: int) -> int:
        self._chooser.needed.append(needed)
        return needed
