from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from tests.events.histories import History, in_files, rows_of
from wonder_ray.errors import StaleEpochError, WonderError
from wonder_ray.events.actor import get_or_create
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.wire import OpenReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RayCluster, WaitUntil

HISTORY = History(length=300, starts=(1, 201))


@pytest.fixture
def events(ray_cluster: RayCluster, storage: Path) -> Iterator[Any]:
    name = f"events-{storage.parent.name}"
    actor = get_or_create(storage, settings=EventSettings(flush_interval_s=0.0), name=name, namespace=ray_cluster.namespace)
    yield actor
    ray.kill(actor)


def test_events_go_through_the_actor_into_files(events: Any, storage: Path) -> None:
    assert ray.get(events.open.remote(HISTORY.run, 2, True)) == OpenReply(0, 0, 0, 0, [])
    batches = [HISTORY.batch(first, first + 99, epoch=2) for first in (1, 101, 201)]
    assert [ack.outcome for ack in ray.get(events.append.remote(batches))] == ["ok", "ok", "ok"]
    assert ray.get(events.flush.remote(HISTORY.run)) == OpenReply(300, 300, 0, 0, [(1, 1), (201, 2)])
    assert in_files(storage) == rows_of(HISTORY)
    rows = ray.get(events.read.remote(HISTORY.run, 290, 5))
    assert [row.sequence_number for row in rows] == [291, 292, 293, 294, 295]
    assert ray.get(events.read.remote(HISTORY.run, 0, 5, "trace")) == []
    assert ray.get(events.stats.remote()).rows_sealed == 300
    ray.get([events.close.remote(), events.close.remote()])


def test_errors_keep_their_type(events: Any) -> None:
    ray.get(events.open.remote(HISTORY.run, 2))
    with pytest.raises(StaleEpochError, match="fenced off"):
        ray.get(events.open.remote(HISTORY.run, 1))
    with pytest.raises(WonderError, match="not a run id"):
        ray.get(events.open.remote("../x", 1))


def test_there_is_one_actor_of_a_name(events: Any, storage: Path, ray_cluster: RayCluster) -> None:
    again = get_or_create(storage, name=f"events-{storage.parent.name}", namespace=ray_cluster.namespace)
    assert ray.get(again.ping.remote())["pid"] == ray.get(events.ping.remote())["pid"]


def test_a_killed_actor_comes_back_with_all_that_it_acknowledged(events: Any, storage: Path, wait_until: WaitUntil) -> None:
    ray.get(events.open.remote(HISTORY.run, 2))
    assert ray.get(events.append.remote([HISTORY.batch(1, 250)]))[0].mark == 250
    killed = ray.get(events.ping.remote())["pid"]
    os.kill(killed, signal.SIGKILL)

    def new_process() -> bool:
        try:
            return bool(ray.get(events.ping.remote())["pid"] != killed)
        except (ActorUnavailableError, ActorDiedError, RayActorError):
            return False

    wait_until(new_process, timeout=60, what="the actor's restart")
    assert ray.get(events.marks.remote(HISTORY.run)).mark == 250
    assert ray.get(events.append.remote([HISTORY.batch(240, 300)]))[0].mark == 300
    assert ray.get(events.flush.remote(HISTORY.run)).sealed == 300
    assert in_files(storage) == rows_of(HISTORY)
