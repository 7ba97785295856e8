"""A storage folder as a whole: what lies in it, what is too old, and doing something about it by hand. Never starts Ray.

The services do the same by themselves, each for its own part.

>>> overview(Layout("storage"), Retention())["datasets"]["events"]["rows"]  # doctest: +SKIP
411134
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.clock_guard import DAY_US
from wonder_ray.coordinator import keeping as run_files
from wonder_ray.errors import RunNotFoundError, StorageError
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.survey import take_survey
from wonder_ray.logs import keeping as logs
from wonder_ray.resources.reader import ResourcesReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wonder_ray.clock import Clock
    from wonder_ray.events.survey import Survey
    from wonder_ray.events.wire import Stream
    from wonder_ray.resources.records import RunRecord
    from wonder_ray.settings import Retention
    from wonder_ray.storage.layout import Layout

_STREAMS: Final[tuple[tuple[str, Stream], ...]] = (("events", "events"), ("trace_events", "trace"))


def overview(layout: Layout, retention: Retention, *, clock: Clock | None = None) -> dict[str, Any]:
    """What is there, and what the next upkeep would do; as JSON."""
    clock = clock or SystemClock()
    survey = take_survey(EventLayout(layout.root))
    deleted = survey.deleted
    datasets: dict[str, dict[str, Any]] = {
        **{name: _dataset(survey, stream) for name, stream in _STREAMS},
        "eventlog": {"files": _count(layout.eventlog), "bytes": _size(layout.eventlog), "rows": survey.unsealed_rows},
        **logs.sizes(layout.root),
        "run_files": {"files": len(layout.run_ids()), "bytes": _size(layout.runs)},
        "blobs": {"files": _count(layout.blobs), "bytes": _size(layout.blobs)},
        "resources": {"files": _count(layout.root, "resources.sqlite*"), "bytes": _size(layout.root, "resources.sqlite*")},
    }
    for name, days in _kept_days(retention).items():
        datasets[name] |= {"kept_days": days, "oldest_goes": _day_it_goes(datasets[name].get("oldest"), days)}
    return {
        "storage": str(layout.root),
        "bytes": sum(about["bytes"] for about in datasets.values()),
        "datasets": datasets,
        "runs": _statuses(layout),
        "deleted_runs": {"runs": len({each.run_id for each in deleted}), "refused_rows": sum(each.refused for each in deleted)},
        "retention": msgspec.to_builtins(retention),
        "next": _next(layout, retention, clock),
    }


def apply(layout: Layout, retention: Retention, *, clock: Clock | None = None, trust_clock: bool = False) -> dict[str, Any]:
    """Do what `overview` has as `next`, beside whatever is running; what was done, and why the rest was not."""
    clock = clock or SystemClock()
    events = Maintenance(layout.root, retention=retention, clock=clock).run(_live(layout), trust_clock=trust_clock)
    lines = logs.keep(layout.root, retention, clock=clock, trust_clock=trust_clock)
    files = run_files.keep(layout, retention, _records(layout), clock=clock, trust_clock=trust_clock)
    busy = ["events are being seen to by another process"] if events.busy else []
    busy += ["logs are being archived by another process"] if lines.busy else []
    return {
        "storage": str(layout.root),
        "removed": msgspec.to_builtins(events.removed),
        "compacted": msgspec.to_builtins(events.compacted),
        "deleted_runs": events.deleted_runs,
        "kept": events.kept,
        "logs_archived": lines.files,
        "log_archive_removed": lines.removed,
        "run_files_removed": files.removed,
        "problems": [*busy, *dict.fromkeys([*events.problems, *lines.problems, *files.problems])],
    }


def _kept_days(retention: Retention) -> dict[str, int | None]:
    return {
        "events": retention.events_days,
        "trace_events": retention.trace_days,
        "logs": retention.logs_days,
        "log_archive": retention.log_archive_days,
        "run_files": retention.run_files_days,
        "blobs": None,
    }


def _day_it_goes(oldest: str | None, days: int | None) -> str | None:
    """The first day on which a day of data is past its time, if no live run holds it."""
    if oldest is None or days is None:
        return None
    return (dt.date.fromisoformat(oldest) + dt.timedelta(days=days + 1)).isoformat()


def _dataset(survey: Survey, stream: Stream) -> dict[str, Any]:
    days = survey.days(stream)
    return {
        "files": sum(len(day.files) for day in days),
        "bytes": sum(day.size for day in days),
        "rows": sum(day.rows for day in days),
        "days": len(days),
        "oldest": days[0].date if days else None,
        "newest": days[-1].date if days else None,
    }


def _next(layout: Layout, retention: Retention, clock: Clock) -> dict[str, Any]:
    plan = Maintenance(layout.root, retention=retention, clock=clock).plan(_live(layout))
    lines = logs.plan(layout.root, retention, clock=clock)
    days = retention.run_files_days
    old = [] if days is None else run_files.expired(layout, clock.now_us() - days * DAY_US, _records(layout))
    return {
        "removed": msgspec.to_builtins(plan.removed),
        "compacted": msgspec.to_builtins(plan.compacted),
        "deleted_runs": plan.deleted_runs,
        "kept": plan.kept,
        "logs_archived": lines.files,
        "log_archive_removed": lines.removed,
        "run_files_removed": sorted(old),
    }


def _live(layout: Layout) -> set[str] | None:
    """Every run that is not over; None when there is no registry to tell."""
    try:
        with ResourcesReader(layout.root) as registry:
            return {run.run_id for run in registry.unfinished()}
    except StorageError:
        return None


def _statuses(layout: Layout) -> dict[str, int]:
    try:
        with ResourcesReader(layout.root) as registry:
            return registry.count_by_status()
    except StorageError:
        return {}


def _records(layout: Layout) -> run_files.Records:
    def records(run_ids: Sequence[str]) -> list[RunRecord]:
        try:
            with ResourcesReader(layout.root) as registry:
                return list(_found(registry, run_ids))
        except StorageError:
            return []

    return records


def _found(registry: ResourcesReader, run_ids: Sequence[str]) -> Iterator[RunRecord]:
    for run_id in run_ids:
        try:
            yield registry.get_run(run_id)
        except RunNotFoundError:  # of another registry: nobody says that it is over
            continue


def _size(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in _files(folder, pattern))


def _count(folder: Path, pattern: str = "*") -> int:
    return sum(1 for _ in _files(folder, pattern))


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    paths = folder.glob(pattern) if pattern != "*" else folder.rglob(pattern)
    return (path for path in paths if path.is_file())
