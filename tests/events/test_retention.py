"""Which days go, what stays of a run that went, and what never goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.events.kept import EAGER, KEEP, Past, clock_at, date, files, store, whole_table
from wonder_ray.errors import StaleEpochError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.query import EventReader
from wonder_ray.events.retention import before_date, entomb
from wonder_ray.events.service import EventService
from wonder_ray.events.survey import take_survey
from wonder_ray.settings import Retention

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.events.maintenance import Report


def keep(
    storage: Path, day: float, *live: str, retention: Retention = KEEP, trust: bool = True, compaction: bool = False
) -> Report:
    """Retention on a day (0 is 2026-11-18)."""
    made = Maintenance(storage, retention=retention, clock=clock_at(day), grace_s=0.0)
    return made.run(live=set(live), trust_clock=trust, compaction=compaction)


def runs_left(storage: Path) -> set[str]:
    return set(whole_table(storage)["workflow_run_id"].to_pylist())


def test_a_day_goes_when_it_is_past_its_time_and_not_before(storage: Path) -> None:
    old, new = Past(1, 0, 0), Past(2, 1, 1)
    store(storage, [old, new])
    assert keep(storage, 90).removed == []
    report = keep(storage, 91)
    assert [(change.stream, change.date, change.rows, change.new_files) for change in report.removed] == [
        ("events", date(0), 4, 0)
    ]
    assert (report.deleted_runs, report.kept, report.problems) == (1, {}, [])
    assert files(storage) == {date(1): 2}
    assert not (storage / "events" / f"date={date(0)}").exists()
    assert runs_left(storage) == {new.run}
    assert EventReader(storage).read(old.run) == []
    assert len(EventReader(storage).read(new.run)) == new.length


def test_the_date_is_that_of_utc() -> None:
    assert before_date(clock_at(0).now_us(), 0) == date(0)
    assert before_date(clock_at(0.49).now_us(), 0) == date(0)
    assert before_date(clock_at(0.5).now_us(), 0) == date(1)


def test_a_run_stays_whole_until_its_last_day_is_old(storage: Path) -> None:
    long, short = Past(1, 0, 20), Past(2, 0, 0)
    store(storage, [long, short])
    report = keep(storage, 100)
    assert report.removed == []
    assert report.kept == {f"events/{date(day)}": long.run for day in range(10)}
    assert [row.sequence_number for row in EventReader(storage).read(long.run)] == list(range(1, long.length + 1))
    report = keep(storage, 111)
    assert [change.date for change in report.removed] == [date(day) for day in range(21)]
    assert files(storage) == {}


def test_no_day_of_a_live_run_ever_goes(storage: Path) -> None:
    live, other = Past(1, 0, 0, live=True), Past(2, 1, 1)
    store(storage, [live, other])
    report = keep(storage, 5000, live.run)
    assert report.kept == {f"events/{date(0)}": live.run}
    assert files(storage) == {date(0): 2}
    assert [row.sequence_number for row in EventReader(storage).read(live.run)] == [1, 2, 3, 4]


def test_a_run_without_its_end_stays_even_if_the_registry_does_not_know_it(storage: Path) -> None:
    store(storage, [Past(1, 0, 0, live=True)])
    assert keep(storage, 5000).removed == []


def test_a_run_with_rows_that_are_in_no_file_yet_stays(storage: Path) -> None:
    past = Past(1, 0, 1)
    service = EventService(storage, settings=EAGER)
    service.flush()
    service.open(past.run, 1)
    service.submit([past.batch(1, past.rows)])
    service.flush()
    service.submit([past.batch(past.rows + 1, past.length)])
    service.abandon()
    assert keep(storage, 5000).kept == {f"events/{date(0)}": past.run}


def test_nothing_goes_when_nobody_tells_what_is_live(storage: Path) -> None:
    store(storage, [Past(1, 0, 0)])
    report = Maintenance(storage, retention=KEEP, clock=clock_at(5000), grace_s=0.0).run(live=None, trust_clock=True)
    assert report.removed == []
    assert report.problems == ["nothing was removed, since the registry does not tell which runs are live"]


def test_traces_go_earlier_and_leave_the_run_s_events_open(storage: Path) -> None:
    past = Past(1, 0, 0)
    store(storage, [past], streams=("events", "trace"))
    report = keep(storage, 11)
    assert [(change.stream, change.date) for change in report.removed] == [("trace", date(0))]
    assert report.deleted_runs == 0
    reader = EventReader(storage)
    assert (len(reader.read(past.run)), reader.read_trace(past.run)) == (past.length, [])
    with EventService(storage) as service:
        assert service.open(past.run, 2).mark == past.length


def test_what_is_kept_for_ever_stays(storage: Path) -> None:
    store(storage, [Past(1, 0, 0)], streams=("events", "trace"))
    assert keep(storage, 5000, retention=Retention(events_days=None, trace_days=None)).removed == []
    assert files(storage) == {date(0): 2}


def test_compacted_days_go_like_others(storage: Path) -> None:
    store(storage, [Past(1, 0, 1), Past(2, 1, 1)], files_a_day=4)
    assert len(keep(storage, 3, compaction=True).compacted) == 2
    assert [change.files for change in keep(storage, 5000).removed] == [1, 1]


# ------------------------------------------------------------------------------------------------------------ the clock


def test_a_clock_that_leaps_deletes_nothing(storage: Path) -> None:
    store(storage, [Past(1, 0, 0)])
    keep(storage, 1)
    report = keep(storage, 3650, trust=False)
    assert report.removed == []
    assert report.problems[0].startswith("nothing was removed, since the clock is not believed: it is 3649.0 days ahead")
    assert keep(storage, 2, trust=False).problems == []
    assert files(storage) == {date(0): 2}


def test_a_storage_that_was_away_is_cleaned_after_a_day(storage: Path) -> None:
    store(storage, [Past(1, 0, 0)])
    keep(storage, 1)
    assert keep(storage, 200, trust=False).removed == []
    assert keep(storage, 200.9, trust=False).removed == []
    assert [change.date for change in keep(storage, 201, trust=False).removed] == [date(0)]


def test_a_clock_that_is_behind_deletes_nothing(storage: Path) -> None:
    store(storage, [Past(1, 0, 0)])
    keep(storage, 50)
    assert keep(storage, 49, trust=False).problems[0].endswith("it is 1.0 days behind what it was before")


# ---------------------------------------------------------------------------------------------------------- tombstones


def refused(storage: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in take_survey(EventLayout(storage)).deleted:
        found[each.run_id] = found.get(each.run_id, 0) + each.refused
    return found


def test_late_rows_of_a_deleted_run_are_refused_for_good_and_counted(storage: Path) -> None:
    past = Past(1, 0, 0)
    store(storage, [past])
    keep(storage, 91)
    with EventService(storage, settings=EAGER) as service:
        with pytest.raises(StaleEpochError, match="retention has deleted this run"):
            service.open(past.run, 7)
        for epoch in (1, 7, 10**9):
            [ack] = service.submit([past.batch(1, 3, epoch=epoch)])
            assert (ack.outcome, ack.sealed) == ("stale", past.length)
            assert "retention has deleted this run; its rows are refused for good" in ack.message
        other = Past(2, 91, 91)
        service.open(other.run, 1)
        assert service.submit([other.batch(1, 4)])[0].outcome == "ok"
    assert runs_left(storage) == {other.run}
    assert refused(storage) == {past.run: 9}


def test_a_tombstone_holds_in_every_instance_and_outlives_them(storage: Path, wait_until: WaitUntil) -> None:
    past = Past(1, 0, 0)
    store(storage, [past])  # by instance 1
    with EventService(storage, instance=2, settings=EAGER) as second:
        keep(storage, 91)
        assert second.submit([past.batch(1, 1, epoch=5)])[0].outcome == "stale"
    with EventService(storage, instance=3, settings=EAGER) as third:
        wait_until(lambda: [path.name for path in EventLayout(storage).logs()] == ["3.sqlite"], what="the others to be adopted")
        assert third.submit([past.batch(1, 2, epoch=5)])[0].outcome == "stale"
    assert refused(storage) == {past.run: 3}
    with CommitLog.own(EventLayout(storage).log_path(3)) as log, log.transaction():
        log.adopt_deleted(log)  # as after a crash in the middle of an adoption
    assert refused(storage) == {past.run: 3}


def test_a_run_that_is_deleted_while_it_is_sent_is_refused_from_then_on(storage: Path) -> None:
    past = Past(1, 0, 0)
    with EventService(storage, settings=EAGER) as service:
        service.open(past.run, 1)
        assert service.submit([past.batch(1, 2)])[0].outcome == "ok"
        entomb(EventLayout(storage), [past.run], clock_at(1).now_us())
        assert service.submit([past.batch(3, 4)])[0].outcome == "stale"
        assert service.marks(past.run).mark == 2


def test_a_deleted_run_counts_as_told_to_the_end(storage: Path) -> None:
    past = Past(1, 0, 0)
    store(storage, [past])
    keep(storage, 91)
    reader = EventReader(storage)
    assert reader.last_sequence(past.run) == reader.sealed(past.run) == past.length


def test_a_plan_changes_nothing_and_tells_what_would_be_done(storage: Path) -> None:
    old, new = Past(1, 0, 0), Past(2, 50, 50)
    store(storage, [old, new])
    before = whole_table(storage)
    made = Maintenance(storage, retention=KEEP, clock=clock_at(100), grace_s=0.0)
    plan = made.plan(live=set())
    assert whole_table(storage).equals(before)
    done = made.run(live=set(), trust_clock=True)
    assert (plan.removed, plan.compacted, plan.deleted_runs) == (done.removed, done.compacted, done.deleted_runs)
    assert [change.date for change in plan.removed] == [date(0)]
    assert [change.date for change in plan.compacted] == [date(50)]
