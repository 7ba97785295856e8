"""Compiled expressions, kept by how much memory they take: a text of 4,096 letters takes up to 2 MB, one of 20 letters 1 KB."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")
LETTERS_MAX: Final = 250_000
"""About 110 MB of compiled expressions."""


class LetterCache(Generic[T]):
    """The values that were asked for last, of as many letters as may be kept; thread-safe.

    >>> cache = LetterCache[int](letters_max=5)
    >>> cache.get("abc", 3, lambda: 1), cache.get("abc", 3, lambda: 2)
    (1, 1)
    >>> cache.get("de", 3, lambda: 3), cache.get("abc", 3, lambda: 4)
    (3, 4)
    """

    def __init__(self, letters_max: int = LETTERS_MAX) -> None:
        self._letters_max = letters_max
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._letters = 0

    @property
    def letters(self) -> int:
        """How many there are of all that is kept."""
        return self._letters

    def get(self, key: Hashable, letters: int, make: Callable[[], T]) -> T:
        """What was made for this key, else what is made now; an error is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        made = make()
        with self._lock:
            if key in self._values:  # another thread was faster: equal texts share one value
                return self._values[key][0]
            self._values[key] = made, letters
            self._letters += letters
            while self._letters > self._letters_max and len(self._values) > 1:
                _, (_, gone) = self._values.popitem(last=False)
                self._letters -= gone
        return made
