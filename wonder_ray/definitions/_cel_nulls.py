"""Keeps `None` alive: the CEL library takes one reference to it too few for each null that it converts to Python.

Where a thousand rows with a null field were filtered ten times, the interpreter ended with "none_dealloc: deallocating None"; a
coordinator would have been killed by its data, again at each start. From Python 3.12 on `None` is never freed, whatever its count
(PEP 683); before, a count that nothing wears down does the same.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_IMMORTAL_SINCE: Final = (3, 12)
_REFERENCES: Final = 1 << 60
_ENOUGH: Final = 1 << 59


def keep_none() -> None:
    """Give `None` more references than a process can lose; once is enough, and again does no harm.

    >>> keep_none()
    """
    if sys.version_info < _IMMORTAL_SINCE and sys.getrefcount(None) < _ENOUGH:
        # The count is the first word of every object.
        ctypes.c_ssize_t.from_address(id(None)).value += _REFERENCES
