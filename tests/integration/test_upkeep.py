"""The services keep their own parts in order, by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import ray

from tests.cli.conftest import invoke
from tests.events.kept import Past, files, store
from tests.integration.helpers import NAMESPACE, SECONDS, kill_services
from tests.logs.test_archive import lines_of
from wonder_ray.clock import SystemClock
from wonder_ray.clock_guard import DAY_US, consult
from wonder_ray.coordinator.directory.actor import get_or_create as directory_service
from wonder_ray.events.actor import get_or_create as events_service
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.swaps import Swap, begin
from wonder_ray.logs.actor import get_or_create as log_service
from wonder_ray.logs.archive import list_archived
from wonder_ray.logs.store import LogStore
from wonder_ray.resources.actor import get_or_create as resources_service
from wonder_ray.resources.records import RunProjection, StartRequest
from wonder_ray.settings import Retention
from wonder_ray.state import RunStatus
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RayCluster, WaitUntil

OFTEN = Retention(every_s=1)
OLD_RUN = f"run_{1_700_000_000_000:012x}_{7:016x}"


@pytest.fixture
def folder(ray_cluster: RayCluster, storage: Path) -> Iterator[Path]:
    """A storage with days long past, and services that look after it every second."""
    kill_services()
    Layout(storage).prepare()
    now_us = SystemClock().now_us()
    store(storage, [Past(1, -200, -200), Past(2, -5, -5)], files_a_day=4, streams=("events", "trace"))
    old = LogStore(storage / "logs", "node1")
    old.append(lines_of(0), now_us - 100 * DAY_US)
    old.close()
    consult(storage, now_us, trust=True)
    yield storage
    kill_services()


def test_days_go_days_are_compacted_and_logs_are_archived(folder: Path, wait_until: WaitUntil) -> None:
    registry = resources_service(str(folder))
    ray.get(registry.ping.remote(), timeout=SECONDS)
    events_service(folder, retention=OFTEN, namespace=NAMESPACE).ping.remote()
    log_service(str(folder), retention=OFTEN)
    wait_until(lambda: sorted(files(folder).values()) == [1], SECONDS, what="the old day to go, the other to be compacted")
    wait_until(lambda: files(folder, "trace") == {}, SECONDS, what="both days of traces to go")
    wait_until(lambda: list_archived(folder), SECONDS, what="the old log file to be archived")
    done = wait_until(
        lambda: invoke("logs", "--event-type", "%_maintained", "--json", "--storage", folder).lines, SECONDS, what="its log line"
    )
    assert "days of events removed" in done[0]["message"]


def test_the_files_of_runs_that_are_over_go(folder: Path, wait_until: WaitUntil) -> None:
    registry = resources_service(str(folder))
    ray.get(registry.put_definition.remote(b'{"name":"f","nodes":[]}'), timeout=SECONDS)
    ray.get(registry.start_run.remote(StartRequest(workflow_name="f", run_id=OLD_RUN)), timeout=SECONDS)
    epoch = ray.get(registry.take_epoch.remote(OLD_RUN, 0, None), timeout=SECONDS)
    ended = RunProjection(status=RunStatus.CANCELLED, ended_us=1_700_000_000_000_000, events=0)
    assert ray.get(registry.report.remote(OLD_RUN, epoch, ended), timeout=SECONDS)
    path = Layout(folder).run_file(OLD_RUN)
    SqliteRunStore(path).close()
    directory_service(str(folder), retention=OFTEN)
    wait_until(lambda: not path.exists(), SECONDS, what="the old run's file to go")


def test_a_service_that_starts_finishes_what_a_crash_has_left(folder: Path, wait_until: WaitUntil) -> None:
    """Also when it never looks again: readers that know nothing of us wait for it."""
    layout = EventLayout(folder)
    victim = next(name for name in layout.files("trace") if "2026-11-13" in name)
    begin(layout, Swap("c0ffee", "trace", [victim], []))
    events_service(folder, retention=Retention(every_s=0), namespace=NAMESPACE).ping.remote()
    wait_until(lambda: victim not in layout.files("trace"), SECONDS, what="the swap to be carried to its end")
