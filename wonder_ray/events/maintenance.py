"""Keeping the datasets in order: what a crash has left is finished, old days go, days that are over are compacted.

One process of a storage does it at a time, whoever comes first: the event service every hour, or somebody by hand.

>>> report = Maintenance(Path("storage")).run(live=set())  # doctest: +SKIP
>>> report.removed, report.compacted  # doctest: +SKIP
([], [Change(stream='events', date='2026-11-22', files=812, new_files=1, rows=402113, size=11904112)])
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.clock_guard import consult
from wonder_ray.errors import StorageError
from wonder_ray.events.compaction import ROWS_MAX, compact, is_worth_it
from wonder_ray.events.layout import EventLayout, LogLock, no_failpoint
from wonder_ray.events.retention import before_date, decide, entomb, removal_of
from wonder_ray.events.survey import take_survey
from wonder_ray.events.swaps import GRACE_S, begin, carry_out, drop_unfinished, pending
from wonder_ray.events.wire import STREAMS, Stream
from wonder_ray.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.clock import Clock
    from wonder_ray.events.retention import Decision
    from wonder_ray.events.survey import Day, Survey
    from wonder_ray.events.swaps import Swap

SETTLING_US: Final = 3_600_000_000
"""How long after midnight a day counts as over: its last rows have come into files by then."""
SWAPS_AT_ONCE: Final = 16
"""They share one wait for readers; their new files lie beside the old ones until then."""

_log = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True):
    """A day that was removed (`new_files` is 0) or compacted."""

    stream: Stream
    date: str
    files: int
    new_files: int
    rows: int
    size: int


class Report(msgspec.Struct):
    """What was done, or (of `Maintenance.plan`) would be.

    Attributes:
        removed: Days past their time.
        compacted: Days whose files became fewer.
        deleted_runs: How many runs went with the removed days; they leave tombstones.
        kept: `stream/date` -> a run that holds a day past its time.
        problems: What could not be done, and why.
        finished: Swaps that a crash had left, and that were carried to their end.
        busy: Whether another process is at it, and nothing was done.
    """

    removed: list[Change] = []
    compacted: list[Change] = []
    deleted_runs: int = 0
    kept: dict[str, str] = {}
    problems: list[str] = []
    finished: int = 0
    busy: bool = False


class Maintenance:
    """Maintains the datasets of one storage folder.

    Args:
        storage: The storage folder.
        retention: How long things are kept.
        clock: Decides what is old; believed only as far as `clock_guard` believes it.
        grace_s: See `swaps`.
        rows_max: Of one compacted file.
        failpoint: Told each step of a swap.
    """

    def __init__(
        self,
        storage: Path | str,
        *,
        retention: Retention | None = None,
        clock: Clock | None = None,
        grace_s: float = GRACE_S,
        rows_max: int = ROWS_MAX,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        self._storage = Path(storage)
        self._layout = EventLayout(self._storage)
        self._retention = retention or Retention()
        self._clock = clock or SystemClock()
        self._grace_s = grace_s
        self._rows_max = rows_max
        self._failpoint = failpoint

    def plan(self, live: set[str] | None) -> Report:
        """What `run` would do now, if the clock is right."""
        survey, report, now_us = take_survey(self._layout), Report(), self._clock.now_us()
        gone: set[Stream | tuple[Stream, str]] = set()
        for stream, decision in self._decisions(survey, now_us, live):
            _note_decision(report, stream, decision)
            gone.update((day.stream, day.date) for day in decision.days)
        days = [day for day in self._days_over(survey, now_us) if (day.stream, day.date) not in gone]
        report.compacted = [_change(day, max(1, -(-day.rows // self._rows_max))) for day in days]
        return report

    def run(
        self,
        live: set[str] | None,
        *,
        trust_clock: bool = False,
        compaction: bool = True,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Do it.

        Args:
            live: Every run that is not over; None when nobody can tell: then no day is removed.
            trust_clock: Believe the clock, whatever it says.
            compaction: Whether to compact, too.
            stopping: Asked between days; the rest is left for the next time.
        """
        lock = self._lock()
        if lock is None:
            return Report(busy=True)
        try:
            report = Report(finished=self._recover())
            now_us = self._clock.now_us()
            self._remove(report, now_us, live, trust_clock=trust_clock)
            if compaction:
                self._compact(report, now_us, stopping)
            return report
        finally:
            lock.release()

    def recover(self) -> int:
        """Carry to its end what a crash has left; how many swaps that were. Nothing, while another process is at work."""
        lock = self._lock() if pending(self._layout) else None
        if lock is None:
            return 0
        try:
            return self._recover()
        finally:
            lock.release()

    def _lock(self) -> LogLock | None:
        self._layout.log_dir.mkdir(parents=True, exist_ok=True)
        return LogLock.try_acquire(self._layout.log_dir / "maintenance")

    def _recover(self) -> int:
        left = pending(self._layout)
        if left:
            carry_out(self._layout, left, grace_s=self._grace_s, failpoint=self._failpoint)
        drop_unfinished(self._layout)
        return len(left)

    def _remove(self, report: Report, now_us: int, live: set[str] | None, *, trust_clock: bool) -> None:
        judgement = consult(self._storage, now_us, trust=trust_clock)
        if not judgement.trusted:
            report.problems.append(f"nothing was removed, since the clock is not believed: {judgement.why}")
            return
        if live is None:
            report.problems.append("nothing was removed, since the registry does not tell which runs are live")
            return
        survey = take_survey(self._layout)
        swaps: list[Swap] = []
        for stream, decision in self._decisions(survey, now_us, live):
            _note_decision(report, stream, decision)
            if stream == "events":
                entomb(self._layout, decision.runs, now_us)
            swaps += map(removal_of, decision.days)
        self._carry_out(swaps)

    def _compact(self, report: Report, now_us: int, stopping: Callable[[], bool]) -> None:
        swaps: list[Swap] = []
        for day in self._days_over(take_survey(self._layout), now_us):
            if stopping():
                break
            try:
                swaps.append(compact(self._layout, day, rows_max=self._rows_max))
            except (StorageError, OSError, ValueError) as error:  # of pyarrow, too
                report.problems.append(str(error))
                continue
            report.compacted.append(_change(day, len(swaps[-1].new)))
            if len(swaps) == SWAPS_AT_ONCE:
                self._carry_out(swaps)
                swaps = []
        self._carry_out(swaps)

    def _carry_out(self, swaps: list[Swap]) -> None:
        for swap in swaps:
            begin(self._layout, swap, self._failpoint)
        carry_out(self._layout, swaps, grace_s=self._grace_s, failpoint=self._failpoint)

    def _decisions(self, survey: Survey, now_us: int, live: set[str] | None) -> list[tuple[Stream, Decision]]:
        limits: dict[Stream, int | None] = {"events": self._retention.events_days, "trace": self._retention.trace_days}
        return [
            (stream, decide(self._layout, survey, stream, before=before_date(now_us, days), live=live or set()))
            for stream in STREAMS
            if (days := limits[stream]) is not None
        ]

    def _days_over(self, survey: Survey, now_us: int) -> list[Day]:
        today = before_date(now_us - SETTLING_US, 0)
        days = [day for stream in STREAMS for day in survey.settled_days(stream, today)]
        return [day for day in days if is_worth_it(day, self._rows_max)]


def _note_decision(report: Report, stream: Stream, decision: Decision) -> None:
    report.removed += [_change(day, 0) for day in decision.days]
    report.kept |= {f"{stream}/{date}": run for date, run in decision.kept.items()}
    if stream == "events":
        report.deleted_runs += len(decision.runs)


def _change(day: Day, new_files: int) -> Change:
    return Change(day.stream, day.date, len(day.files), new_files, day.rows, day.size)
