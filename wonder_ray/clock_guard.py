"""Whether the wall clock can be believed by those who delete what is old.

A clock that leaps ten years ahead makes everything old. So the time is noted in the storage folder whenever somebody wants to
delete: it may be later than noted by a few days at most. If it is much later, nothing is deleted until the clock has gone on
from there, without going back, for a whole day: then nobody had used the storage for a while, and the clock was right.

>>> noted = Noted(believed_us=0)
>>> judge(noted, 1 * DAY_US).trusted, judge(noted, 3650 * DAY_US).trusted
(True, False)
>>> suspect = judge(noted, 3650 * DAY_US).noted
>>> judge(suspect, 3651 * DAY_US).trusted
True
>>> judge(suspect, 1 * DAY_US).noted == Noted(believed_us=1 * DAY_US)
True
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from wonder_ray.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

DAY_US: Final = 86_400_000_000
BACK_US_MAX: Final = 3_600_000_000
"""Clocks are set back a little all the time; further is a clock that was wrong, or is."""
AHEAD_US_MAX: Final = 3 * DAY_US
"""A storage that nobody has used over a weekend."""
STEADY_US: Final = DAY_US
"""How long a time that came out of nowhere has to go on before it is believed."""
FILE_NAME: Final = "clock.json"


class Noted(msgspec.Struct, frozen=True):
    """What is known of the time: the latest that was believed, and, after a leap, from when to when it went on from there."""

    believed_us: int
    suspect_since_us: int | None = None
    suspect_until_us: int | None = None


class Judgement(NamedTuple):
    """Whether to believe the clock; if not, `why` not. `noted` is what to remember."""

    trusted: bool
    noted: Noted
    why: str = ""


def judge(noted: Noted, now_us: int) -> Judgement:
    """Compare the clock with what was noted of it."""
    behind, ahead = noted.believed_us - now_us, now_us - noted.believed_us
    if behind > BACK_US_MAX:
        return Judgement(trusted=False, noted=Noted(noted.believed_us), why=f"it is {_days(behind)} behind what it was before")
    if ahead <= AHEAD_US_MAX:
        return Judgement(trusted=True, noted=Noted(max(now_us, noted.believed_us)))
    since, until = noted.suspect_since_us, noted.suspect_until_us
    if since is None or until is None or not (until - BACK_US_MAX <= now_us <= until + AHEAD_US_MAX):
        return Judgement(trusted=False, noted=Noted(noted.believed_us, now_us, now_us), why=_leap(ahead, noted.believed_us))
    if now_us - since >= STEADY_US:
        return Judgement(trusted=True, noted=Noted(now_us))
    return Judgement(
        trusted=False, noted=Noted(noted.believed_us, since, max(until, now_us)), why=_leap(ahead, noted.believed_us)
    )


def consult(storage: Path, now_us: int, *, trust: bool = False) -> Judgement:
    """Judge the clock by what is noted in a storage folder, and note the outcome; `trust` believes it whatever it says.

    In a folder where nothing is noted yet, any time comes out of nowhere.
    """
    path = storage / FILE_NAME
    with _locked(storage):
        found = Judgement(trusted=True, noted=Noted(now_us)) if trust else judge(_read(path), now_us)
        aside = path.with_suffix(".tmp")
        aside.write_bytes(msgspec.json.encode(found.noted))
        aside.replace(path)
    return found


class _locked:  # noqa: N801 - used like a function
    """The lock of the note: several services may want to delete at once."""

    def __init__(self, storage: Path) -> None:
        self._path = storage / "clock.lock"
        self._descriptor = -1

    def __enter__(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be used: {error.strerror or error}; is the folder writable?") from error
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _read(path: Path) -> Noted:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Noted)
    except (FileNotFoundError, msgspec.DecodeError):  # torn by a power loss: as good as none
        return Noted(0)


def _days(span_us: int) -> str:
    return f"{span_us / DAY_US:.1f} days"


def _leap(ahead_us: int, believed_us: int) -> str:
    what = f"it is {_days(ahead_us)} ahead of what was noted here" if believed_us else "no time was noted here before"
    return f"{what}; it is believed once it has gone on for a day"
