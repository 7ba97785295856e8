"""One cluster, one storage and one client for all of these tests; user code lies in a project folder of its own."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import Ledger, kill_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RayCluster
    from wonder_ray.client import Client

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder with one file, `flow_actions.py`; no worker process finds it but by its bundle."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(HERE / "actions.py", folder / "flow_actions.py")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("flow_actions", None)


@pytest.fixture(scope="session")
def actions(project: Path) -> Any:
    """The user's module."""
    return importlib.import_module("flow_actions")


@pytest.fixture(scope="session")
def client(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of the session's Ray, whose services keep to one folder."""
    from wonder_ray.client import connect

    kill_services()
    with connect(storage=tmp_path_factory.mktemp("integration") / "storage") as connected:
        yield connected
    kill_services()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Where actions note each execution."""
    return Ledger(tmp_path / "ledger.txt")
