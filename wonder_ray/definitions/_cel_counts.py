"""Keeps count for the CEL library, which loses count of Python's references.

It takes one reference to `None` too few for each null that it converts to Python. Where a thousand rows with a null field were
filtered ten times, the interpreter ended ("none_dealloc: deallocating None"); a coordinator would have been killed by its data,
again at each start. From Python 3.12 on `None` is never freed, whatever its count (PEP 683); before, a count that nothing wears
down does the same.

And it keeps for ever what it passes to a function of ours, and what that returns: 125 KB for a comprehension over a map of a
thousand keys. So both are emptied when the evaluation is over.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMMORTAL_SINCE: Final = (3, 12)
_REFERENCES: Final = 1 << 60
_ENOUGH: Final = 1 << 59


class _Lent(threading.local):
    def __init__(self) -> None:
        self.containers: list[list[Any] | dict[Any, Any]] = []


_lent: Final = _Lent()


def keep_none() -> None:
    """Give `None` more references than a process can lose; once is enough, and again does no harm.

    >>> keep_none()
    """
    if sys.version_info < _IMMORTAL_SINCE and sys.getrefcount(None) < _ENOUGH:
        # The count is the first word of every object.
        ctypes.c_ssize_t.from_address(id(None)).value += _REFERENCES


def lend(container: list[Any] | dict[Any, Any]) -> None:
    """Note what the library will not let go."""
    _lent.containers.append(container)


@contextmanager
def taken_back() -> Iterator[None]:
    """Empties what was lent in this block, by this thread."""
    try:
        yield
    finally:
        containers = _lent.containers
        while containers:
            containers.pop().clear()
