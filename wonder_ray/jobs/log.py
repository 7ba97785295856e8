r"""The log of a job, read as it grows.

>>> watcher = Watcher(print)
>>> watcher.take("loading\nrun run_1")
loading
>>> watcher.take("2\n"); watcher.run_id
run run_12
'run_12'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.errors import PayloadError
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable


class Watcher:
    """Reads a log as it grows: passes lines on, and keeps what `wonder run --json` says of the run."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._rest = ""
        self.chars = 0
        self.run_id: str | None = None
        self.result: dict[str, Any] | None = None

    def take(self, text: str) -> None:
        """More of the log."""
        self.chars += len(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._note(line)

    def finish(self) -> None:
        """There is no more."""
        rest, self._rest = self._rest, ""
        if rest:
            self._note(rest)

    def _note(self, line: str) -> None:
        words = line.split()
        if len(words) == 2 and words[0] == "run" and words[1].startswith("run_"):  # noqa: PLR2004 - "run", and its id
            self.run_id = words[1]
        found = _result(line)
        if found is None:
            self._write(line)
        else:
            self.result, self.run_id = found, found["run_id"]


def _result(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"run_id"'):
        return None
    try:
        found = decode(line)
    except PayloadError:
        return None
    return found if isinstance(found, dict) and {"run_id", "status", "output", "error"} <= set(found) else None
