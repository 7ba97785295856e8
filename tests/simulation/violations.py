"""What is raised when a rule or an invariant is broken."""

from __future__ import annotations

from typing import Any


class Violation(BaseException):
    """A rule or an invariant is broken. Not an `Exception`: what is under test must not be able to swallow it.

    Args:
        broken: `R1` to `R11`, `I1` to `I11`, or `turn`, `ends`, `limits`: what is broken.
        message: How.
    """

    def __init__(self, broken: str, message: str) -> None:
        super().__init__(f"{broken}: {message}")
        self.broken = broken
        self.message = message


class Crash(BaseException):
    """The process of a coordinator is killed here."""


def require(holds: Any, broken: str, message: str) -> None:
    """Raise a `Violation` unless it holds."""
    if not holds:
        raise Violation(broken, message)
