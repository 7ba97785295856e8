"""How files of a day are replaced, or removed, under the eyes of readers that know nothing of us.

pandas, polars, DuckDB and pyarrow list a folder and open its files later, in any order; while they list, they look at each name
again, and silently leave out what has gone. So no rename, not even one that exchanges two folders, is right for all of them:
measured with such an exchange, 2 of 12,497 reads lacked a whole day. So a day goes through these states, each step atomic:

1. `old` files                  who has them open reads them to the end
2. a barrier under each name    a file of zeros, as large as the old one: whoever opens it gets an error
3. barriers, and the new files  still an error for whoever opens the day
4. after `GRACE_S`: new files   the barriers are removed

Nobody can read a part: while a name of `old` can be found, it leads to its rows or to an error; and once none can be found, the
new files are there. Nobody can read anything twice: the new files appear when no old row can be opened any more. The barriers
stay for a while because a reader that has read the names of `old`, and has not looked at them again yet, would find nothing at
all behind them: only one that stalls there for `GRACE_S` could miss the day.
The barrier is as large as what it stands for because polars panics when a file has shrunk between two looks at it.
Who holds names from before (a dataset, a scan half-way, a session with a cache) gets the old rows, where it has opened their file
by then or asks for nothing in it, or an error, at every step and ever after: no name comes twice.

A journal (`<storage>/eventlog/swaps/<id>.json`) says what is under way before the first step; the new files wait beside it, and
whoever finds it carries the swap to its end. Readers of our own look into the journal, and need no barrier.

>>> swap = Swap("a1", "events", old=["date=2026-11-18/a.parquet"], new=[])  # doctest: +SKIP
>>> begin(layout, swap); carry_out(layout, [swap])  # doctest: +SKIP
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import date_of, no_failpoint, sync_dir
from wonder_ray.events.log_keeping import KeptFile, Replacement
from wonder_ray.events.wire import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wonder_ray.events.layout import EventLayout

GRACE_S: Final = 5.0
SWAP_FAILPOINTS: Final = (
    "swap.noted",
    "swap.covered_one",
    "swap.covered",
    "swap.moved_in",
    "swap.waited",
    "swap.uncovered_one",
    "swap.uncovered",
    "swap.logs_told",
    "swap.done",
)
"""Every place between two steps, in order."""
_NAMES_AT_ONCE: Final = 500
"""Of old files, in one transaction: a live service commits its events in between."""


class NewFile(msgspec.Struct, frozen=True):
    """A file that is to replace others; `name` is `date=<day>/<file>`."""

    name: str
    rows: int
    sha256: str
    size: int
    first_run: str
    last_run: str

    def as_known(self) -> Replacement:
        """As commit logs know it."""
        return Replacement(KeptFile(self.name, self.rows, self.sha256, self.size), self.first_run, self.last_run)


class Swap(msgspec.Struct, frozen=True):
    """What is under way: the files `old` of one day become `new` (none: the day is removed)."""

    id: str
    stream: Stream
    old: list[str]
    new: list[NewFile]


def folder_of(layout: EventLayout, swap_id: str) -> Path:
    """Where the new files of a swap wait."""
    return layout.swap_dir / swap_id


def pending(layout: EventLayout) -> list[Swap]:
    """The swaps that are under way, or were left by a crash."""
    try:
        names = [name for name in os.listdir(layout.swap_dir) if name.endswith(".json")]  # noqa: PTH208 - every read asks this: no Path per name
    except FileNotFoundError:
        return []
    found = []
    for name in sorted(names):
        with suppress(FileNotFoundError):  # it has just come to its end
            found.append(_decode(layout.swap_dir / name))
    return found


def under_way(layout: EventLayout, stream: Stream) -> set[str]:
    """The names of files that are being replaced, or replace others: what lies under them may be no file of the dataset yet."""
    swaps = [swap for swap in pending(layout) if swap.stream == stream]
    return {name for swap in swaps for name in (*swap.old, *(new.name for new in swap.new))}


def paths_of_new(layout: EventLayout, swap: Swap) -> list[Path]:
    """Where the new files of a swap lie at this moment."""
    found = []
    for new in swap.new:
        path = layout.dataset(swap.stream) / new.name
        aside = folder_of(layout, swap.id) / path.name
        found.append(aside if aside.exists() else path)
    return found


def settled(layout: EventLayout, stream: Stream, swaps: Sequence[Swap]) -> list[tuple[str, Path]]:
    """Every file of a stream (its date, where it lies now) as if these swaps were done: no barrier, and no row twice.

    A file may be moved, or replaced by a later swap, before it is opened: then it is missing, and another look finds the rest.
    """
    mine = [swap for swap in swaps if swap.stream == stream]
    touched = {name for swap in mine for name in (*swap.old, *(new.name for new in swap.new))}
    dataset = layout.dataset(stream)
    found = [(date_of(name), dataset / name) for name in layout.files(stream) if name not in touched]
    for swap in mine:
        dates = [date_of(new.name) for new in swap.new]
        found += zip(dates, paths_of_new(layout, swap), strict=True)
    return found


def begin(layout: EventLayout, swap: Swap, failpoint: Callable[[str], None] = no_failpoint) -> None:
    """Decide it, durably: from here on it can only go forward. The new files must lie, durable, in `folder_of`."""
    folder = folder_of(layout, swap.id)
    folder.mkdir(parents=True, exist_ok=True)
    sync_dir(folder)
    aside = folder / "journal"
    with open(aside, "wb") as journal:  # noqa: PTH123 - fsync wants its descriptor
        journal.write(msgspec.json.encode(swap))
        journal.flush()
        os.fsync(journal.fileno())
    aside.replace(layout.swap_dir / f"{swap.id}.json")
    for changed in (layout.swap_dir, layout.log_dir):
        sync_dir(changed)
    failpoint("swap.noted")


def carry_out(
    layout: EventLayout,
    swaps: Sequence[Swap],
    *,
    grace_s: float = GRACE_S,
    failpoint: Callable[[str], None] = no_failpoint,
) -> None:
    """Carry swaps that have begun to their end, also ones that a crash has left anywhere; they share one wait."""
    if not swaps:
        return
    for swap in swaps:
        _cover(layout, swap, failpoint)
    time.sleep(grace_s)
    failpoint("swap.waited")
    for swap in swaps:
        _uncover(layout, swap, failpoint)
        _tell_logs(layout, swap)
        failpoint("swap.logs_told")
        _forget(layout, swap)
        failpoint("swap.done")


def drop_unfinished(layout: EventLayout) -> None:
    """Remove new files whose swap was never decided; only for who holds the maintenance lock."""
    known = {swap.id for swap in pending(layout)}
    with suppress(FileNotFoundError):
        for folder in layout.swap_dir.iterdir():
            if folder.is_dir() and folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def _cover(layout: EventLayout, swap: Swap, failpoint: Callable[[str], None]) -> None:
    """Steps 2 and 3."""
    dataset, folder = layout.dataset(swap.stream), folder_of(layout, swap.id)
    barrier = folder / "barrier"
    for name in swap.old:
        target = dataset / name
        with suppress(FileNotFoundError):  # removed already, before a crash
            size = target.stat().st_size
            with open(barrier, "wb") as file:  # noqa: PTH123 - truncate makes a hole: it takes no room
                file.truncate(size)
            barrier.replace(target)
        failpoint("swap.covered_one")
    failpoint("swap.covered")
    for new in swap.new:
        target = dataset / new.name
        target.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # moved already
            (folder / target.name).rename(target)
    _sync_days(layout, swap)
    failpoint("swap.moved_in")


def _uncover(layout: EventLayout, swap: Swap, failpoint: Callable[[str], None]) -> None:
    """Step 4."""
    dataset = layout.dataset(swap.stream)
    for name in swap.old:
        (dataset / name).unlink(missing_ok=True)
        failpoint("swap.uncovered_one")
    _sync_days(layout, swap)
    if not swap.new:
        for day in _days(layout, swap):
            with suppress(OSError):  # rows have come late, and stay until the next time
                day.rmdir()
        sync_dir(dataset)
    failpoint("swap.uncovered")


def _days(layout: EventLayout, swap: Swap) -> set[Path]:
    return {(layout.dataset(swap.stream) / name).parent for name in (*swap.old, *(new.name for new in swap.new))}


def _sync_days(layout: EventLayout, swap: Swap) -> None:
    for day in _days(layout, swap):
        with suppress(FileNotFoundError):
            sync_dir(day)


def _tell_logs(layout: EventLayout, swap: Swap) -> None:
    """Every log that knows some of the old files knows the new ones instead; all again when one was adopted meanwhile."""
    new = [each.as_known() for each in swap.new]
    parts = [swap.old[start : start + _NAMES_AT_ONCE] for start in range(0, len(swap.old), _NAMES_AT_ONCE)]
    looks = [partial(CommitLog.replace_files, stream=swap.stream, old=part, new=new) for part in parts]
    while not all(CommitLog.visit(path, look, "neighbour") for path in layout.logs() for look in looks):
        pass


def _forget(layout: EventLayout, swap: Swap) -> None:
    (layout.swap_dir / f"{swap.id}.json").unlink(missing_ok=True)
    sync_dir(layout.swap_dir)
    shutil.rmtree(folder_of(layout, swap.id), ignore_errors=True)


def _decode(path: Path) -> Swap:
    content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=Swap)
    except msgspec.DecodeError as error:
        msg = f"{path} is damaged ({error}): a day of events may be half replaced; restore it, or see `wonder doctor`"
        raise StorageError(msg) from error
