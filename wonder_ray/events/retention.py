"""Retention: days that are old enough go, whole; never rows out of a file, and never a day with a run that is not over.

A day goes when it is past its time, and each run in it is over (not live by the registry, with its terminal event in the files)
and has its last row, in whatever day that is, past its time too. So a run is there as a whole until its last day is old, and the
days of a run that goes on for a year stay for as long. A run whose events go leaves a tombstone: nothing of it is taken again.

>>> decide(layout, survey, "events", before="2026-08-25", live={"run_..."}).days  # doctest: +SKIP
[Day(stream='events', date='2026-08-23', ...)]
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow.compute as pc
import pyarrow.dataset as ds

from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import date_of
from wonder_ray.events.schema import EVENT_SCHEMA
from wonder_ray.events.survey import last_days, runs_of
from wonder_ray.events.swaps import Swap
from wonder_ray.workflow_events import TERMINAL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.survey import Day, Survey
    from wonder_ray.events.wire import Stream

_RUNS_AT_ONCE: Final = 500


class Decision(NamedTuple):
    """What is to go. `kept` are days past their time that stay: date -> a run that holds it."""

    days: list[Day]
    runs: set[str]
    kept: dict[str, str]


def before_date(now_us: int, days: int) -> str:
    """The first date that is not past its time yet.

    >>> before_date(1_795_003_200_000_000, 90)
    '2026-08-20'
    """
    return (datetime.fromtimestamp(now_us / 1_000_000, UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


def decide(layout: EventLayout, survey: Survey, stream: Stream, *, before: str, live: set[str]) -> Decision:
    """Which days before a date go, and which runs go with them (so far)."""
    decision = Decision([], set(), {})
    candidates = [
        (day, runs_of(layout, stream, (file.name for file in day.files))) for day in survey.settled_days(stream, before)
    ]
    everybody = set().union(*(runs for _, runs in candidates))
    last = last_days(layout, everybody)
    over = _ended(layout, survey, {run for run, date in last.items() if date < before})
    deleted = {each.run_id for each in survey.deleted}
    for day, runs in candidates:
        held = (run for run in sorted(runs) if run in live or run in survey.unsealed_runs or run not in over | deleted)
        holder = next(held, None)
        if holder is None:
            decision.days.append(day)
            decision.runs.update(runs)
        else:
            decision.kept[day.date] = holder
    return decision


def _ended(layout: EventLayout, survey: Survey, runs: set[str]) -> set[str]:
    """Which of these runs have their terminal event in the files of their last day of events."""
    files: dict[str, set[str]] = {run: set() for run in runs}

    def look(log: CommitLog) -> None:
        for run in runs:
            files[run].update(log.files_of_run(run, "events"))

    while not all(CommitLog.visit(path, look) for path in layout.logs()):
        pass
    names: set[str] = set()
    for held in files.values():
        there = held & survey.files["events"].keys()
        last = max(map(date_of, there), default="")
        names.update(name for name in there if date_of(name) == last)
    found: set[str] = set()
    if names:
        paths = [str(layout.dataset("events") / name) for name in sorted(names)]
        dataset = ds.dataset(paths, schema=EVENT_SCHEMA, format="parquet")
        terminal = pc.field("event_type").isin(sorted(TERMINAL_EVENTS))
        for batch in dataset.to_batches(columns=["workflow_run_id"], filter=terminal, use_threads=False):
            found.update(batch.column(0).to_pylist())
    return found & runs


def entomb(layout: EventLayout, runs: Iterable[str], now_us: int) -> None:
    """Leave a tombstone for each run, in every log: nothing of it is taken from now on."""
    ordered = sorted(runs)
    parts = [ordered[start : start + _RUNS_AT_ONCE] for start in range(0, len(ordered), _RUNS_AT_ONCE)]
    looks = [partial(CommitLog.delete_runs, runs=part, now_us=now_us) for part in parts]
    while not all(CommitLog.visit(path, look, "neighbour") for path in layout.logs() for look in looks):
        pass


def removal_of(day: Day) -> Swap:
    """The swap that removes a day."""
    return Swap(secrets.token_hex(8), day.stream, [file.name for file in day.files], [])
