"""How much there is at a place of an expression: upper bounds in place of values, and what they would cost to copy or convert."""

from __future__ import annotations

from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STEPS_MAX: Final = 10_000
"""The library gives up at this many, whatever the expression."""
SCALAR: Final = 150
"""To convert a number or text; a container, and one of its entries, cost more."""
CONTAINER: Final = 600
PAIR: Final = 200
CHARACTER: Final = 4
"""Of a text, in a process that may need four bytes for each."""
ELEMENT: Final = 16
"""Of a list that is copied."""
_encode: Final = msgspec.json.Encoder().encode


class Measure(NamedTuple):
    """Of one value, or of several together."""

    weight: float
    """What it costs to convert: everything in it."""
    copy: float
    """What it costs as an operand of `+`."""
    length: float
    """How many elements or entries it has itself."""

    def times(self, count: float) -> Measure:
        """So many of them."""
        return Measure(self.weight * count, self.copy * count, self.length * count)

    def opened(self) -> Measure:
        """Something in it, of which nothing else is known."""
        return Measure(self.weight, self.weight, self.weight / SCALAR)


ZERO: Final = Measure(0, 0, 0)
ONE: Final = Measure(SCALAR, 0, 0)


class Amount:
    """The values that a place of an expression takes over a whole evaluation, which are as many as `times`.

    `total` is of all together, `most` of the largest, and `member` of the largest thing in them where that is known.
    """

    def __init__(
        self, times: float, total: Callable[[], Measure], most: Callable[[], Measure], member: Callable[[], Measure] | None = None
    ) -> None:
        self.times = times
        self._total, self._most, self._member = total, most, member

    @cached_property
    def total(self) -> Measure:
        """Of all values together."""
        return self._total()

    @cached_property
    def most(self) -> Measure:
        """Of the largest value."""
        return self._most()

    def repeated(self, times: float) -> Amount:
        """The same, for who is evaluated so many times."""
        return Amount(times, lambda: self.most.times(times), lambda: self.most, self._member)

    def below(self, key: object) -> Amount:  # noqa: ARG002 - among parts it can be looked up
        """A member by its key or index."""
        return self.any_member()

    def any_member(self) -> Amount:
        """A member that is chosen anew each time."""
        return self.walked(self.times, each_once=False)

    def walked(self, steps: float, *, each_once: bool = True) -> Amount:
        """The members, as a comprehension takes them in so many steps."""
        most = self._member or self._opened

        def total() -> Measure:
            several = most().times(steps)
            return Measure(min(self.total.weight, several.weight), 0, 0).opened() if each_once else several

        return Amount(steps, total, most)

    def _opened(self) -> Measure:
        return self.most.opened()

    def holds_only(self, *kinds: type) -> bool:  # noqa: ARG002 - as `below`
        """Whether every value is surely of one of these types."""
        return False

    def texts(self) -> list[str] | None:
        """The values, where they are known and texts."""
        return None


class Parts(Amount):
    """Parts of the scope, which are weighed themselves; `exact` when each is taken once, else any of them at any time."""

    def __init__(self, times: float, parts: list[Any], *, exact: bool) -> None:
        super().__init__(times, self._of_all, self._of_largest)
        self._parts, self._exact = parts, exact

    def _of_all(self) -> Measure:
        return _measured(self._parts) if self._exact else self.most.times(self.times)

    def _of_largest(self) -> Measure:
        if len(self._parts) == 1:
            return _measured(self._parts)
        return largest(_measured([part]) for part in self._parts)

    def repeated(self, times: float) -> Amount:
        """The same, for who is evaluated so many times."""
        return Parts(times, self._parts, exact=False)

    def below(self, key: object) -> Amount:
        """The members by that key or index; who has none gives an error."""
        return Parts(self.times, [part[key] for part in self._parts if _has(part, key)], exact=self._exact)

    def any_member(self) -> Amount:
        """Any of the members; of very many their lists tell."""
        groups = (part.values() if isinstance(part, dict) else part for part in self._parts if isinstance(part, (list, dict)))
        found = list(islice(chain.from_iterable(groups), STEPS_MAX + 1))
        return Parts(self.times, found, exact=False) if len(found) <= STEPS_MAX else super().any_member()

    def walked(self, steps: float, *, each_once: bool = True) -> Amount:
        """The elements, and the keys of maps."""
        found = list(islice(chain.from_iterable(part for part in self._parts if isinstance(part, (list, dict))), STEPS_MAX + 1))
        if self._exact and each_once:
            return Parts(steps, found[: int(steps)], exact=True)
        return Parts(steps, found, exact=False) if len(found) <= STEPS_MAX else super().walked(steps, each_once=False)

    def holds_only(self, *kinds: type) -> bool:
        """Whether every value is of one of these types."""
        return all(isinstance(part, kinds) for part in self._parts)

    def texts(self) -> list[str] | None:
        """The values, where all are texts."""
        return self._parts if self.holds_only(str) else None


def fixed(times: float, each: Measure) -> Amount:
    """As many values that are alike."""
    return Amount(times, lambda: each.times(times), lambda: each)


def joined(args: list[Amount], times: float) -> Amount:
    """As large as all of them together."""
    if not args:
        return fixed(times, ONE)
    return Amount(times, lambda: added(arg.total for arg in args), lambda: added(arg.most for arg in args))


def added(measures: Iterable[Measure]) -> Measure:
    """All of them."""
    return Measure(*(sum(column) for column in zip(ZERO, *measures, strict=True)))


def largest(measures: Iterable[Measure]) -> Measure:
    """No smaller than any, in each way."""
    return Measure(*(max(column) for column in zip(ZERO, *measures, strict=True)))


def _measured(parts: list[Any]) -> Measure:
    copy = length = 0
    for part in parts:
        kind = type(part)
        if kind is list or kind is dict:
            length += len(part)
        elif kind is str:
            copy += CHARACTER * len(part)
    return Measure(weighed(_encode(parts)) - CONTAINER, copy + ELEMENT * length, length)


def weighed(text: bytes, letters: int = 0) -> float:
    """What it costs to convert the values that are written as this JSON; no walk in Python would tell as fast."""
    containers = text.count(b"[") + text.count(b"{")
    return SCALAR * (text.count(b",") + 1) + PAIR * text.count(b":") + CONTAINER * containers + CHARACTER * (len(text) + letters)


def _has(value: Any, key: object) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value)
