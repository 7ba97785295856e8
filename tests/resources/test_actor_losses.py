"""The registry's actor and its database die under clients that retry with their keys: each key starts exactly one run."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.resources.test_actor import call
from wonder_ray.errors import ServiceUnavailableError, StorageError
from wonder_ray.resources.reader import ResourcesReader
from wonder_ray.resources.records import StartRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import RayCluster, WaitUntil
    from tests.postgres import Postgres

DEFINITION = b'{"name":"crawl","nodes":[]}'
KEYS = [f"k{number}" for number in range(60)]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str | None:
    """None: in the storage folder."""
    return str(request.getfixturevalue("postgres_url")) if request.param == "postgres" else None


@pytest.fixture
def resources(ray_cluster: RayCluster, storage: Path, place: str | None) -> Iterator[Any]:
    import ray

    from wonder_ray.resources.actor import get_or_create

    handle = get_or_create(str(storage), namespace=f"resources-{secrets.token_hex(4)}", place=place)
    yield handle
    ray.kill(handle)


class Clients:
    """Threads that each start all runs, and repeat what was not answered."""

    def __init__(self, resources: Any, count: int) -> None:
        self._resources = resources
        self.runs: list[dict[str, str]] = [{} for _ in range(count)]
        self.lost = 0
        self._threads = [threading.Thread(target=self._start, args=(found,)) for found in self.runs]
        for thread in self._threads:
            thread.start()

    def _start(self, found: dict[str, str]) -> None:
        for key in KEYS:
            while key not in found:
                try:
                    run, _ = call(self._resources.start_run.remote(StartRequest(workflow_name="crawl", key=key)))
                except ServiceUnavailableError:
                    self.lost += 1
                else:
                    found[key] = run.run_id

    def has(self, goal: int) -> bool:
        return max(map(len, self.runs)) >= goal

    def has_lost(self, before: int) -> bool:
        return self.lost > before or self.is_done()

    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)


def disturb(clients: Clients, blow: Callable[[], None], mend: Callable[[], None], wait_until: WaitUntil) -> None:
    for goal in (5, 20, 35):
        wait_until(partial(clients.has, goal), timeout=60, what="some runs to be started")
        lost = clients.lost
        blow()
        wait_until(partial(clients.has_lost, lost), timeout=60, what="a client to notice")
        mend()
    wait_until(clients.is_done, timeout=100, what="all starts to be answered")


def check(clients: Clients, storage: Path, place: str | None) -> None:
    with ResourcesReader(storage, place) as reader:
        stored = {run.key: run.run_id for run in reader.list_runs(limit=1000).runs}
        assert len(reader.list_runs(limit=1000).runs) == len(KEYS)
    assert all(found == stored for found in clients.runs)
    assert clients.lost > 0


@pytest.mark.parametrize("place", ["file", "postgres"], indirect=True)
def test_an_actor_that_is_killed_again_and_again(resources: Any, storage: Path, place: str | None, wait_until: WaitUntil) -> None:
    call(resources.put_definition.remote(DEFINITION))
    pids = [call(resources.ping.remote())["pid"]]

    def kill() -> None:
        os.kill(pids[-1], signal.SIGKILL)

    def back() -> None:
        def found() -> int | None:
            try:
                return int(call(resources.ping.remote())["pid"])
            except ServiceUnavailableError:
                return None

        pids.append(wait_until(found, timeout=60, what="the actor to come back"))

    clients = Clients(resources, 2)
    disturb(clients, kill, back, wait_until)
    check(clients, storage, place)
    assert len(set(pids)) == 4


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_server_that_is_killed_again_and_again(
    resources: Any, storage: Path, place: str, postgres_server: Postgres, wait_until: WaitUntil
) -> None:
    if postgres_server.folder is None:
        pytest.skip("needs a PostgreSQL of its own to kill: this one belongs to somebody else")
    call(resources.put_definition.remote(DEFINITION))
    clients = Clients(resources, 2)
    disturb(clients, postgres_server.crash, postgres_server.start, wait_until)
    check(clients, storage, place)


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_an_actor_that_starts_before_its_server_waits_for_it(
    resources: Any, storage: Path, place: str, postgres_server: Postgres, wait_until: WaitUntil
) -> None:
    if postgres_server.folder is None:
        pytest.skip("needs a PostgreSQL of its own to stop: this one belongs to somebody else")
    assert call(resources.ping.remote())["resources"] == place
    postgres_server.stop()
    try:
        os.kill(call(resources.ping.remote())["pid"], signal.SIGKILL)

        def told() -> str | None:
            try:
                call(resources.list_workspaces.remote())
            except ServiceUnavailableError as error:
                return str(error)
            return None

        wait_until(lambda: "did not answer" in str(told()), timeout=60, what="the actor to say that its server is away")
    finally:
        postgres_server.start()
    wait_until(lambda: told() is None, timeout=60, what="the actor to find its server again")


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_folder_remembers_that_its_registry_is_elsewhere(resources: Any, storage: Path, place: str) -> None:
    call(resources.put_definition.remote(DEFINITION))
    with pytest.raises(StorageError, match="lives in postgresql://"):
        ResourcesReader(storage)
    (storage / "resources.url").unlink()
    (storage / "resources.sqlite").touch()
    with pytest.raises(StorageError, match="registry of its own"):
        ResourcesReader(storage, place)
