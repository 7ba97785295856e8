"""Making a service fail at one named step, as a process does that is killed there."""

from __future__ import annotations

import threading


class CrashError(BaseException):
    """Not an `Exception`: no handler of the service may survive it."""


class CrashAt:
    """A failpoint that raises at the `nth` time that `name` is passed, and at everything after it."""

    def __init__(self, name: str, nth: int = 1) -> None:
        self._name = name
        self._left = nth
        self._lock = threading.Lock()
        self.happened = False

    def __call__(self, name: str) -> None:
        with self._lock:
            if name == self._name:
                self._left -= 1
            self.happened = self.happened or self._left == 0
            if self.happened:
                raise CrashError(name)
