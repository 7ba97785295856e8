"""Actions that do nothing, for measuring what everything around them costs."""

from __future__ import annotations


def noop(n: int) -> int:
    """Return the number."""
    return n


def nothing() -> None:
    """Do nothing."""
