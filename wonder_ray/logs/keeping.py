"""How long log lines are kept: where they are, then in the archive, then not at all.

>>> keep("storage", Retention()).lines  # doctest: +SKIP
80211
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.clock_guard import DAY_US, consult
from wonder_ray.logs.archive import archive_old, list_archived, remove_archived
from wonder_ray.logs.files import list_files, utc_date

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.clock import Clock
    from wonder_ray.settings import Retention


class Kept(msgspec.Struct):
    """What was done, or (of `plan`) would be.

    Attributes:
        files: Files that went into the archive.
        lines: How many lines they had.
        removed: Dates of the archive that went.
        problems: What could not be done, and why.
        busy: Whether another process is at it.
    """

    files: list[str] = []
    lines: int = 0
    removed: list[str] = []
    problems: list[str] = []
    busy: bool = False


def keep(
    storage: Path | str,
    retention: Retention,
    *,
    clock: Clock | None = None,
    trust_clock: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Kept:
    """Archive what is old, and remove what is too old for the archive, if the clock can be believed."""
    kept, now_us = Kept(), (clock or SystemClock()).now_us()
    judgement = consult(Path(storage), now_us, trust=trust_clock)
    if not judgement.trusted:
        kept.problems.append(f"no log was archived, since the clock is not believed: {judgement.why}")
        return kept
    if retention.logs_days is not None:
        done = archive_old(storage, before=_before(now_us, retention.logs_days), stopping=stopping)
        kept.files, kept.lines, kept.problems, kept.busy = done.files, done.lines, done.problems, done.busy
    if retention.log_archive_days is not None and not kept.busy:
        kept.removed = remove_archived(storage, before=_before(now_us, retention.log_archive_days))
    return kept


def plan(storage: Path | str, retention: Retention, *, clock: Clock | None = None) -> Kept:
    """What `keep` would do now; how many lines that are is not looked at."""
    kept, now_us = Kept(), (clock or SystemClock()).now_us()
    if retention.logs_days is not None:
        before = _before(now_us, retention.logs_days)
        kept.files = [Path(file.path).name for file in list_files(Path(storage) / "logs") if file.date < before]
    if retention.log_archive_days is not None:
        before = _before(now_us, retention.log_archive_days)
        kept.removed = sorted({file.date for file in list_archived(storage) if file.date < before})
    return kept


def sizes(storage: Path | str) -> dict[str, dict[str, object]]:
    """`logs` and `log_archive`: their files, bytes, and oldest and newest day."""
    folder = Path(storage) / "logs"
    found = {"logs": list_files(folder), "log_archive": list_archived(storage)}
    return {
        name: {
            "files": len(files),
            "bytes": sum(_size(Path(file.path)) for file in files),
            "oldest": files[0].date if files else None,
            "newest": files[-1].date if files else None,
        }
        for name, files in found.items()
    }


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def _before(now_us: int, days: int) -> str:
    return utc_date(now_us - days * DAY_US)
