"""Time behind an interface: the system's clock in production, a simulated twin in tests.

All times are integers in microseconds since the Unix epoch, UTC.

>>> clock = SimulatedClock(start_us=1_000_000)
>>> clock.advance(seconds=2)
>>> clock.now_us()
3000000
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell takes its time from; planners are handed `now_us` and never see a clock."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1000


class SimulatedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        return self._now_us

    def advance(self, *, seconds: float) -> None:
        """Move the time; negative seconds move it back, as real clocks do."""
        self._now_us += round(seconds * 1_000_000)
