"""A client whose connection is cut anywhere, over real sockets: what it asks for is done once, and what it reads is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.remote.sockets import ANSWER, REQUEST, CuttingProxy, served
from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.remote import Connection, RemoteClient, connect, connection, following
from wonder_ray.remote.transport import UrlTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil
    from tests.http.world import Api

STRIDE = 17
"""Every so many bytes of a request and its answer, of about 600 each."""
BYTES_MAX = 5_000


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, following):
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.001)


@pytest.fixture
def proxy(registry: Api, wait_until: WaitUntil) -> Iterator[CuttingProxy]:
    registry.services.broken["activate"] = ServiceUnavailableError("nobody carries runs out here")
    with served(registry.app, wait_until) as port:
        proxy = CuttingProxy(port)
        yield proxy
        proxy.close()


def run_ids(api: Api) -> list[str]:
    return [run.run_id for run in reversed(api.resources.list_runs(limit=1000).runs)]


def cut_points(proxy: CuttingProxy, direction: str) -> Iterator[str]:
    """A key for each request: cut after every so many bytes, and, last, when all have passed."""
    before, whole = proxy.cuts, 0
    for count in range(0, BYTES_MAX, STRIDE):
        proxy.cut_after(count, direction)
        yield f"k{count:05d}"
        if proxy.cuts == before:
            whole = proxy.passed(direction)
            break
        before = proxy.cuts
    assert whole > 10 * STRIDE
    proxy.cut_after(whole, direction)
    yield "k99999"
    assert proxy.cuts == before + 1


@pytest.mark.parametrize("direction", [REQUEST, ANSWER])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_client_that_repeats_what_was_cut_starts_exactly_one_run(
    registry: Api, proxy: CuttingProxy, direction: str, keyed: bool
) -> None:
    client = connect(proxy.url, api_key=registry.key)
    points = cut_points(proxy, direction)
    started = [client.start("approval", {"amount": 5}, key=key if keyed else None).id for key in points]
    assert run_ids(registry) == started


@pytest.mark.parametrize("direction", [REQUEST, ANSWER])
def test_a_client_that_is_told_and_asks_again_with_its_key_starts_exactly_one_run(
    registry: Api, proxy: CuttingProxy, direction: str
) -> None:
    """It is another client then, which knows nothing but the key: what was cut had been done, or not."""
    another = connect(proxy.url, api_key=registry.key)
    started: list[str] = []
    had_been_done: set[bool] = set()
    for key in cut_points(proxy, direction):
        hasty = RemoteClient(proxy.url, Connection(UrlTransport(proxy.url), registry.key, patience_s=0))
        try:
            started.append(hasty.start("approval", {"amount": 5}, key=key).id)
        except ServiceUnavailableError:
            had_been_done.add(len(run_ids(registry)) > len(started))
            started.append(another.start("approval", {"amount": 5}, key=key).id)
    assert run_ids(registry) == started
    assert (direction == ANSWER) in had_been_done


def test_a_stream_that_is_cut_anywhere_has_each_event_once(api: Api, wait_until: WaitUntil) -> None:
    run_id = api.start()
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid"})
    whole = list(range(1, len(api.services.cores[run_id].rows) + 1))
    with served(api.app, wait_until) as port:
        proxy = CuttingProxy(port)
        run = connect(proxy.url, api_key=api.key).run(run_id)
        for count in range(0, 4_000, 10 * STRIDE):
            before = proxy.cuts
            proxy.cut_after(count, ANSWER)
            assert [row.sequence_number for row in run.events(follow=True)] == whole
            assert proxy.cuts == before + 1
        proxy.close()
