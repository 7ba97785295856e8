from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import postgres
from tests.resources.lines import Lines
from wonder_ray.clock import SimulatedClock
from wonder_ray.resources.store import ResourcesStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """A PostgreSQL, for all tests of the session."""
    if postgres.GIVEN_URL:
        yield postgres.Postgres(postgres.GIVEN_URL)
        return
    programs = postgres.binaries()
    if programs is None:
        pytest.skip(postgres.MISSING)
    with postgres.own_server(programs) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Postgres) -> Iterator[str]:
    """An empty schema of the test's own."""
    url = postgres_server.schema()
    yield url
    postgres_server.drop(url)


@pytest.fixture(params=["file", "postgres"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where several processes can have one registry."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "resources.sqlite")


@pytest.fixture(params=["memory", "postgres"])
def place(request: pytest.FixtureRequest) -> str:
    """A registry of each kind, quickly."""
    return str(request.getfixturevalue("postgres_url") if request.param == "postgres" else ":memory:")


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(params=["file", "memory", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: SimulatedClock) -> Iterator[ResourcesStore]:
    """Each kind, and what is in a file."""
    if request.param == "file":
        place = str(tmp_path / "resources.sqlite")
    else:
        place = ":memory:" if request.param == "memory" else str(request.getfixturevalue("postgres_url"))
    store = ResourcesStore(place, clock=clock)
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    yield store
    store.close()
