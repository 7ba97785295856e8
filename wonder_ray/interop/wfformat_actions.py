"""What the tasks of an imported workflow run: they stand in for the recorded programs, and prove the order they ran in.

A task's digest depends on its id and on the digests of all its parents, so the last digest of a run is right only if every
task ran once after its parents, with exactly their results.

>>> root = run_task("a", [])
>>> finish([run_task("b", [root])], tasks=2)["tasks"]
2
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable


class Outcome(TypedDict):
    """What a run of an imported workflow gives."""

    digest: str
    """Of the digests of all tasks without children."""
    tasks: int


def run_task(task: str, parents: list[str], seconds: float = 0.0) -> str:
    """Sleep as long as the recorded task took (scaled), and give the digest of the task.

    Args:
        task: Its id in the recording.
        parents: The digests of its parents, in any order.
        seconds: How long to sleep.

    >>> run_task("a", [])[:12]
    'c683fc436ca8'
    """
    if seconds > 0:
        time.sleep(seconds)
    return _sha256(f"{task}|{_joined(parents)}")


def finish(leaves: list[str], tasks: int) -> Outcome:
    """The digest of the whole run, from the digests of the tasks without children in any order."""
    return {"digest": _sha256(_joined(leaves)), "tasks": tasks}


def _joined(digests: Iterable[str]) -> str:
    return "|".join(sorted(digests))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
