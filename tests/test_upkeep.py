"""A storage as a whole, through `wonder storage` and what is behind it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import COMPLETED, FAILED, OPEN, QUEUED, Prepared, prepare
from tests.events.kept import Past, clock_at, date, store
from tests.logs.test_archive import NOON_US, lines_of
from wonder_ray import upkeep
from wonder_ray.clock import SimulatedClock
from wonder_ray.clock_guard import DAY_US
from wonder_ray.events.query import EventReader
from wonder_ray.logs.store import LogStore
from wonder_ray.resources.records import RunProjection
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.settings import Retention
from wonder_ray.state import RunStatus
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made(storage: Path) -> Prepared:
    return prepare(storage)


def clock_after(made: Prepared, days: int) -> SimulatedClock:
    """So many days after the runs."""
    return SimulatedClock(made.completed.rows[-1]["timestamp"] + days * DAY_US)


def end_all_runs(storage: Path) -> None:
    """As if they had been cancelled; their events do not say so."""
    registry = ResourcesStore(Layout(storage).resources)
    for run_id in (OPEN, QUEUED):
        epoch = registry.take_epoch(run_id, 0, None)
        registry.report(run_id, epoch, RunProjection(status=RunStatus.CANCELLED, ended_us=1, events=0))
    registry.close()


def test_the_overview_tells_what_is_there(made: Prepared) -> None:
    found = upkeep.overview(Layout(made.storage), Retention(), clock=clock_after(made, 1))
    rows = len(made.completed.rows) + len(made.failed.rows) + 4
    about = found["datasets"]["events"]
    assert (about["rows"], about["days"], about["files"]) == (rows, 1, 1)
    assert about["oldest"] == about["newest"]
    assert about["bytes"] == sum(path.stat().st_size for path in (made.storage / "events").rglob("*.parquet"))
    assert found["datasets"]["trace_events"]["rows"] == len(made.completed.traces)
    assert found["datasets"]["run_files"]["files"] == 1
    assert found["datasets"]["logs"]["files"] == 1
    assert found["runs"] == {"completed": 1, "failed": 1, "queued": 1, "running": 1}
    assert found["deleted_runs"] == {"runs": 0, "refused_rows": 0}
    assert found["retention"]["events_days"] == 90
    assert not any(found["next"].values())
    on_disk = [path.stat().st_size for path in made.storage.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert 0 < found["bytes"] <= sum(on_disk)


def test_a_day_goes_on_the_day_that_the_overview_names(storage: Path) -> None:
    store(storage, [Past(1, 0, 0), Past(2, 40, 40)], streams=("events", "trace"))
    old = LogStore(storage / "logs", "node1")
    old.append(lines_of(0), NOON_US)
    old.close()
    layout = Layout(storage)
    found = upkeep.overview(layout, Retention(), clock=clock_at(2))["datasets"]
    for name, stream, days in (("events", "events", 90), ("trace_events", "trace", 10)):
        assert (found[name]["kept_days"], found[name]["oldest_goes"]) == (days, date(days + 1))
        removed = [
            [change["date"] for change in upkeep.overview(layout, Retention(), clock=clock_at(day))["next"]["removed"]
             if change["stream"] == stream]
            for day in (days, days + 1)
        ]  # fmt: skip
        assert removed == [[], [date(0)]]
    went = dt.date.fromisoformat(found["logs"]["oldest_goes"])
    for day, gone in ((went - dt.timedelta(days=1), 0), (went, 1)):
        midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
        clock = SimulatedClock(round(midnight.timestamp() * 1_000_000))
        assert len(upkeep.overview(layout, Retention(), clock=clock)["next"]["logs_archived"]) == gone
    for_ever = Retention(events_days=None, log_archive_days=None)
    told = upkeep.overview(layout, for_ever, clock=clock_at(2))["datasets"]
    assert (told["events"]["kept_days"], told["events"]["oldest_goes"]) == (None, None)


def test_what_the_overview_announces_is_done(made: Prepared) -> None:
    layout, clock = Layout(made.storage), clock_after(made, 200)
    assert upkeep.overview(layout, Retention(), clock=clock)["next"]["kept"]
    end_all_runs(made.storage)
    announced = upkeep.overview(layout, Retention(), clock=clock)["next"]
    done = upkeep.apply(layout, Retention(), clock=clock, trust_clock=True)
    assert done["problems"] == []
    assert {name: done[name] for name in announced} == announced
    assert [change["stream"] for change in done["removed"]] == ["trace"]
    assert done["kept"] == {f"events/{clock_date(made)}": OPEN}  # its end is not among its events
    assert done["logs_archived"] == ["test-2023-11-14-1.sqlite"]
    assert len(EventReader(made.storage).read(COMPLETED)) == len(made.completed.rows)


def clock_date(made: Prepared) -> str:
    [day] = [path.name for path in (made.storage / "events").iterdir()]
    return day.removeprefix("date=")


def test_a_leaping_clock_is_told_and_ends_with_1(made: Prepared) -> None:
    done = upkeep.apply(Layout(made.storage), Retention(), clock=clock_after(made, 200))
    assert done["removed"] == done["logs_archived"] == []
    assert all("the clock is not believed" in problem for problem in done["problems"])
    found = invoke("storage", "--apply", "--storage", made.storage)
    assert found.code == 1
    assert found.err.count("wonder: ") >= 2


def test_without_a_registry_nothing_is_removed(made: Prepared) -> None:
    for path in made.storage.glob("resources.sqlite*"):
        path.unlink()
    done = upkeep.apply(Layout(made.storage), Retention(), clock=clock_after(made, 200), trust_clock=True)
    assert done["removed"] == []
    assert done["problems"] == ["nothing was removed, since the registry does not tell which runs are live"]


def test_the_command_shows_and_does(made: Prepared) -> None:
    shown = invoke("storage", "--storage", made.storage)
    assert shown.code == 0, shown.err
    assert f"storage {made.storage}, " in shown.out
    assert "kept 30 days, then archived (the oldest till 2023-12-15)" in shown.out
    assert "the services look every 3600 s" in shown.out
    assert "1 completed, 1 failed, 1 queued, 1 running" in shown.out
    assert "1 log files archived: test-2023-11-14-1.sqlite" in shown.out
    assert "since it holds" in shown.out
    done = invoke("storage", "--apply", "--trust-clock", "--json", "--storage", made.storage)
    assert done.code == 0, done.err
    assert done.json["logs_archived"] == ["test-2023-11-14-1.sqlite"]
    assert invoke("logs", "--json", "--storage", made.storage).lines == []
    archived = invoke("logs", "--json", "--archive", "--storage", made.storage)
    assert [line["message"] for line in archived.lines] == ["hello", "no page", "slow"]
    of_run = invoke("logs", FAILED, "--where", "level = 'error'", "--json", "--archive", "--storage", made.storage)
    assert [line["message"] for line in of_run.lines] == ["no page"]
    again = invoke("storage", "--json", "--storage", made.storage).json
    assert again["datasets"]["log_archive"]["files"] == 1
    assert again["next"]["logs_archived"] == []


def test_the_command_refuses_what_it_cannot_mean(made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = invoke("storage", "--storage", tmp_path / "none")
    assert nothing.code == 2
    assert "there is no storage folder" in nothing.err
    monkeypatch.setenv("WONDER_RETENTION_EVENTS_DAYS", "soon")
    wrong = invoke("storage", "--storage", made.storage)
    assert wrong.code == 2
    assert "WONDER_RETENTION_EVENTS_DAYS is 'soon'" in wrong.err
