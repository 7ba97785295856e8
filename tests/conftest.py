"""Fixtures for every test: one Ray per session, a storage folder per test, and waiting without sleeping.

A test that uses `ray_cluster` is marked `ray` by itself, and those tests run last: what needs no Ray fails first.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

RAY_SETTINGS: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # spares a warning about GPUs per worker
    "RAY_USAGE_STATS_ENABLED": "0",
}
POLL_SECONDS: Final = 0.01

settings.register_profile("wonder", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("wonder")


@dataclass(frozen=True)
class RayCluster:
    """The Ray of this test session: one node, four CPUs (of which the machine may have fewer)."""

    namespace: str
    gcs_address: str


class WaitUntil(Protocol):
    """The type of the `wait_until` fixture."""

    def __call__(self, predicate: Callable[[], T], timeout: float = 10.0, *, what: str = "") -> T:
        """Calls `predicate` until it returns something true, which is the answer, or until `timeout` seconds have passed."""
        ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use Ray, and puts them last."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WONDER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """One local Ray for all tests, with its own token: it neither finds nor touches another Ray of this machine or user."""
    import ray

    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        for name, value in RAY_SETTINGS.items():
            environment.setenv(name, value)
        context = ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            namespace="wonder",
            num_cpus=4,
            object_store_memory=200 * 1024 * 1024,
        )
        try:
            yield RayCluster(namespace="wonder", gcs_address=context.address_info["gcs_address"])
        finally:
            ray.shutdown()


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder of the test's own; it exists and is empty."""
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    """Waits for a condition: `wait_until(lambda: run.status == "completed", timeout=5, what="the run to end")`."""

    def wait(predicate: Callable[[], T], timeout: float = 10.0, *, what: str = "") -> T:
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not (answer := predicate()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout} s in vain for {what or predicate}; last answer: {answer!r}")
            pause.wait(POLL_SECONDS)
        return answer

    return wait
