"""A command in a process of its own, so that a signal ends it at any moment with all that it has started.

Ray handles signals in its own ways while it starts: it aborts, or leaves processes behind. So it is started by a child, and who
is told to end is this process, which has no Ray. It adopts what the child's processes leave, and is the last to end.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

READY: Final = "WONDER_READY_FD"
"""Where the child tells that it ends by itself when it gets a SIGTERM."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
LOOK_SECONDS: Final = 0.2
LEAVE_SECONDS: Final = 60.0
"""For a child that ends by itself, with its Ray."""
REST_SECONDS: Final = 10.0
"""For what the child has started, after it."""
KILLED_SECONDS: Final = 30.0
_SET_PDEATHSIG: Final = 1
_SET_CHILD_SUBREAPER: Final = 36


def supervise(command: Sequence[str]) -> int:
    """Run `wonder` with these words; its exit code, or 128 and the number of the signal that ended it before it was ready."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    theirs, ours = os.pipe()
    with _told() as told:
        words = [sys.executable, "-m", "wonder_ray.cli", *command]
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            words, env=os.environ | {READY: str(ours)}, pass_fds=(ours,), start_new_session=True
        )
        os.close(ours)
        while child.poll() is None and not told:
            time.sleep(LOOK_SECONDS)
        ready = bool(select.select([theirs], [], [], 0)[0]) and os.read(theirs, 1) != b""
        os.close(theirs)
        if told and ready:
            child.terminate()
            _wait(lambda: child.poll() is not None, LEAVE_SECONDS, told)
        if child.poll() is None:
            child.kill()
            child.wait()
        else:
            _wait(lambda: not _left(), REST_SECONDS, told)
        _kill_rest()
    if told and not ready:
        return 128 + told[0]
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def taken_over() -> int | None:
    """In the child: where to tell the supervisor that it is ready; it ends when the supervisor is killed. Else None."""
    number = os.environ.pop(READY, None)
    if number is None:
        return None
    _prctl(_SET_PDEATHSIG, signal.SIGTERM)
    os.set_inheritable(int(number), False)
    return int(number)


def tell_ready(number: int) -> None:
    """Tell the supervisor that a SIGTERM ends this process, and its Ray, by its own means."""
    with suppress(OSError):  # the supervisor has gone
        os.write(number, b"1")
        os.close(number)


@contextmanager
def _told() -> Iterator[list[int]]:
    """The signals that have come."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda found, _: came.append(found)) for number in SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(done: Callable[[], bool], seconds: float, told: list[int]) -> None:
    """Until it is done, or somebody loses patience."""
    until, before = time.monotonic() + seconds, len(told)
    while not done() and time.monotonic() < until and len(told) == before:
        time.sleep(LOOK_SECONDS / 10)


def _kill_rest() -> None:
    until = time.monotonic() + KILLED_SECONDS
    while (left := _left()) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS / 10)


def _left() -> list[int]:
    """What the child has started and is still there, once the child itself has ended."""
    _reap()
    return _descendants()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants() -> list[int]:
    """The processes that this one, or one of them, has started or adopted."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.name))
    found, left = [], [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere orphans are not adopted."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
