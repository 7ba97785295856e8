from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wonder_ray.clock import SimulatedClock
from wonder_ray.resources.store import ResourcesStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResourcesStore]:
    path = ":memory:" if request.param == "memory" else tmp_path / "resources.sqlite"
    store = ResourcesStore(path, clock=SimulatedClock())
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    yield store
    store.close()
