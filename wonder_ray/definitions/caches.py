"""What is dear to make, kept by how much there is of it: a thousand small values, or a few large ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class SizedCache(Generic[T]):
    """The values that were asked for last, of as much as may be kept together; thread-safe.

    Args:
        size_max: Of all of them, in whatever unit; the latest stays even where it is larger.

    >>> cache = SizedCache[int](size_max=5)
    >>> cache.get("abc", 3, lambda: 1), cache.get("abc", 3, lambda: 2)
    (1, 1)
    >>> cache.get("de", 3, lambda: 3), cache.find("abc")
    (3, None)
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Of all that is kept."""
        return self._size

    def __len__(self) -> int:
        return len(self._values)

    def find(self, key: Hashable) -> T | None:
        """What is kept for this key; None when nothing is."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def keep(self, key: Hashable, value: T, size: int) -> T:
        """Keep a value; what another thread has kept for this key meanwhile stays, and is the one to use."""
        with self._lock:
            if key in self._values:
                return self._values[key][0]
            self._values[key] = value, size
            self._size += size
            while self._size > self._size_max and len(self._values) > 1:
                _, (_, gone) = self._values.popitem(last=False)
                self._size -= gone
        return value

    def get(self, key: Hashable, size: int, make: Callable[[], T]) -> T:
        """What is kept for this key, else what is made now; an error is not kept."""
        found = self.find(key)
        return self.keep(key, make(), size) if found is None else found
