from __future__ import annotations

import os
import secrets
import signal
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.errors import InputError, KeyConflictError, RunNotFoundError, ServiceUnavailableError, WonderError
from wonder_ray.resources.reader import ResourcesReader
from wonder_ray.resources.records import RunProjection, StartRequest
from wonder_ray.state import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RayCluster, WaitUntil

DEFINITION = b'{"name":"crawl","nodes":[],"input":{"type":"integer"}}'


@pytest.fixture
def resources(ray_cluster: RayCluster, storage: Path) -> Iterator[Any]:
    import ray

    from wonder_ray.resources.actor import get_or_create

    handle = get_or_create(str(storage), namespace=f"resources-{secrets.token_hex(4)}")
    yield handle
    ray.kill(handle)


def call(ref: Any) -> Any:
    import ray

    from wonder_ray.resources.actor import unwrap

    try:
        return ray.get(ref, timeout=60)
    except Exception as error:  # noqa: BLE001 - what `unwrap` is for
        raise unwrap(error) from None


def test_a_run_lives_in_the_actor_and_its_errors_cross_intact(resources: Any, storage: Path) -> None:
    version = call(resources.put_definition.remote(DEFINITION))
    run, created = call(resources.start_run.remote(StartRequest(workflow_name="crawl", input=b"1", key="k")))
    assert created
    assert (run.workflow_version, run.status) == (version, RunStatus.QUEUED)
    with pytest.raises(KeyConflictError, match="another input") as conflict:
        call(resources.start_run.remote(StartRequest(workflow_name="crawl", input=b"2", key="k")))
    assert type(conflict.value) is KeyConflictError
    assert conflict.value.run_id == run.run_id
    with pytest.raises(InputError, match="of type integer"):
        call(resources.start_run.remote(StartRequest(workflow_name="crawl", input=b'"x"')))
    with pytest.raises(RunNotFoundError):
        call(resources.get_run.remote("run_f"))
    epoch = call(resources.take_epoch.remote(run.run_id, 0, {"kind": "dedicated", "node": "n", "host": "h", "pid": 1}))
    assert call(resources.report.remote(run.run_id, epoch, RunProjection(status=RunStatus.COMPLETED)))
    assert call(resources.release_placement.remote(run.run_id, epoch))
    assert call(resources.take_service_epoch.remote("events")) == 1
    assert call(resources.unfinished.remote()) == []
    assert [each.run_id for each in call(resources.list_runs.remote(status="completed")).runs] == [run.run_id]
    with ResourcesReader(storage) as reader:
        assert reader.get_run(run.run_id) == call(resources.get_run.remote("latest"))


def test_a_killed_actor_comes_back_with_all_it_acknowledged(resources: Any, wait_until: WaitUntil) -> None:
    call(resources.put_definition.remote(DEFINITION))
    starts = [StartRequest(workflow_name="crawl", input=b"1", key=f"k{i}") for i in range(20)]
    runs = [run for run, _ in map(call, [resources.start_run.remote(start) for start in starts])]
    pid = call(resources.ping.remote())["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            return bool(call(resources.ping.remote())["pid"] != pid)
        except ServiceUnavailableError:
            return False

    wait_until(back, timeout=60, what="the actor to be restarted")
    assert [call(resources.start_run.remote(start)) for start in starts] == [(run, False) for run in runs]


def test_everybody_gets_the_same_actor(ray_cluster: RayCluster, storage: Path) -> None:
    import ray

    from wonder_ray.resources.actor import get_or_create

    namespace = f"resources-{secrets.token_hex(4)}"
    handles = [get_or_create(str(storage), namespace=namespace) for _ in range(3)]
    assert len({call(handle.ping.remote())["pid"] for handle in handles}) == 1
    ray.kill(handles[0])


def test_other_errors_are_left_as_they_are() -> None:
    from wonder_ray.resources.actor import unwrap

    error = WonderError("mine")
    assert unwrap(error) is error
    other = ValueError("other")
    assert unwrap(other) is other
