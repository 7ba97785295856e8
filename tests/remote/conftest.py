from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.http.world import Api
from tests.postgres import MISSING, binaries, own_server
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api(storage: Path) -> Api:
    return Api(storage)


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    programs = binaries()
    if programs is None:
        pytest.skip(MISSING)
    with own_server(programs) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def registry(request: pytest.FixtureRequest, api: Api) -> Iterator[Api]:
    """The API over a registry in SQLite, and in PostgreSQL."""
    if request.param == "sqlite":
        yield api
        return
    server = request.getfixturevalue("server")
    url = server.schema()
    elsewhere = ResourcesService(url, clock=api.clock)
    api.resources = api.services.resources = elsewhere
    elsewhere.put_definition(b'{"name":"approval","nodes":[{"id":"ask","kind":"gate"}],"start":["ask"]}')
    api.key = api.new_key("admin")
    yield api
    elsewhere.close()
    server.drop(url)
