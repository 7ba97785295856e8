"""Pages of ordered rows: a cursor is the ordinal of the last row that was shown, so that what comes meanwhile shifts nothing.

>>> position("12")
12
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_MAX: Final = 1000
_DIGITS_MAX: Final = 18  # surely fit 64 bits


def position(cursor: str) -> int:
    """The ordinal that a cursor stands for; a `WonderError` when it is none of ours."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _DIGITS_MAX):
        raise WonderError(f"{cursor[:40]!r} is not a cursor of such a list: pass on the one that the page before returned")
    return int(cursor)


def cut(rows: Sequence[Any], size: int) -> tuple[Sequence[Any], str | None]:
    """The rows of a page and the cursor behind it, of one row more than the page has, if there are so many."""
    return rows[:size], str(rows[size - 1].ordinal) if len(rows) > size else None
