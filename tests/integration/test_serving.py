"""`wonder serve` on the session's Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.cli.conftest import invoke
from tests.clusters import free_ports
from tests.integration.helpers import SECONDS
from wonder_ray.client import connect
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client


LATE_SECONDS = 30.0
"""How late the last of a hundred streams may hear of an end, on two busy cores."""


@pytest.fixture(scope="module")
def url(client: Client) -> Iterator[str]:
    """Where the API answers, from two replicas."""
    port, folder = free_ports(1)[0], client.storage.root
    made = invoke("serve", "--address", "auto", "--port", port, "--replicas", 2, "--json", "--storage", folder)
    assert made.code == 0, made.err
    assert (made.json["health"], made.json["replicas"], made.json["storage"]) == ("ok", 2, str(client.storage.root))
    yield made.json["url"]
    assert invoke("serve", "--stop", "--address", "auto", "--json").json == {"ended": ["http"]}
    assert invoke("serve", "--stop", "--address", "auto").out == "the API was not served\n"


def status_of(url: str, key: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_api_is_served_and_shown(client: Client, url: str) -> None:
    key = client.admin.create_api_key("served", ("runs:read",)).token
    assert [status_of(f"{url}{path}") for path in ("/health", "/ready", "/v1/runs")] == [200, 200, 401]
    assert [status_of(f"{url}{path}", key) for path in ("/v1/runs", "/v1/definitions")] == [200, 403]
    shown = invoke("status", "--json")
    assert (shown.code, shown.json["http"]) == (0, {"url": url, "health": "ok", "replicas": 2})
    assert f"http       ok  {url}, 2 replicas" in invoke("status").out


def test_it_cannot_be_served_at_two_places(client: Client, url: str) -> None:
    refused = invoke("serve", "--address", "auto", "--port", free_ports(1)[0], "--storage", client.storage.root)
    assert refused.code == 2
    assert f"listens at {url} on this cluster already" in refused.err
    assert invoke("serve", "--tls-cert", "x.pem").code == 2


def waiting_flow() -> Workflow:
    """Waits at a gate, and then counts."""
    flow = Workflow("served", output={"answer": "state.answer"})
    flow.gate("ask", output={"state.answer": "result"})
    for number in range(20):
        flow.compute(f"count{number}", output={f"state.n{number}": f"{number}"})
        flow.transition("ask" if number == 0 else f"count{number - 1}", f"count{number}")
    return flow


def printing_flow(actions: Any) -> Workflow:
    """Prints in two branches, and traces."""
    flow = Workflow("printing", output={"total": "state.total"})
    flow.node("work", actions.chatter, input={"word": "item"})
    flow.compute("sum", output={"state.total": "size(state.words)"})
    flow.compute("begin", output={"state.given": "['a', 'b']"})
    flow.transition("begin", "work", foreach="state.given", group="words")
    flow.transition("work", "sum", join=All("words", merge=Append("state.words")))
    return flow


@pytest.mark.timeout(240)
def test_the_two_clients_and_the_commands_tell_the_same(
    client: Client, url: str, actions: Any, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one run: lines of the log, reports, SQL, its replay; and each command prints objects with the same keys."""
    client.register(printing_flow(actions))
    key = client.admin.create_api_key("same", ("admin",), workspace_id=None).token
    over_http = connect(url, api_key=key, workspace="default")
    run = over_http.start("printing", trace=True)
    assert run.result(timeout=SECONDS) == {"total": 2}
    printed = [("work", "printed a", "default"), ("work", "printed b", "default")]
    for each in (client, over_http):

        def lines(from_: Client = each) -> list[tuple[str | None, str, str | None]]:
            found = from_.logs(run.id, service="executor", node="work", event_type="stdout")
            return sorted((line.node_id, line.message, line.workspace_id) for line in found)

        wait_until(lambda: lines() == printed, SECONDS, what="the lines that were printed")
    for name in ("cost", "queue", "fanout", "critical-path"):
        assert over_http.events.report(name, run=run.id).text() == client.events.report(name, run=run.id).text()
    query = "SELECT node_id, event_type, count(*) AS n FROM events WHERE workflow_run_id = ? GROUP BY ALL ORDER BY ALL"
    assert len(over_http.events.sql(query, [run.id])) > 10
    assert over_http.events.sql(query, [run.id]).rows == client.events.sql(query, [run.id]).rows

    monkeypatch.setenv("WONDER_API_KEY", key)
    monkeypatch.setenv("WONDER_WORKSPACE", "default")
    for args in (
        ["runs", "--limit", 3], ["show", run.id], ["state", run.id, "--at", 5], ["query", run.id, "state.total"],
        ["events", run.id], ["trace", run.id], ["logs", run.id], ["replay", run.id], ["gates", run.id], ["report", "cost"],
        ["workspace", "list"], ["project", "list"], ["key", "list", "--all-workspaces"], ["secret", "list"],
    ):  # fmt: skip
        here, there = invoke(*args, "--json", "--storage", client.storage.root), invoke(*args, "--json", "--server", url)
        assert (here.code, there.code) == (0, 0), (args, here.err, there.err)
        assert [shape(line) for line in there.lines][:50] == [shape(line) for line in here.lines][:50], args


def shape(told: Any) -> Any:
    """The keys of an object, and of the objects in it that are no user's."""
    return (
        {name: shape(value) if name == "run" else None for name, value in told.items()} if isinstance(told, dict) else type(told)
    )


@pytest.mark.timeout(240)
def test_a_stream_goes_on_without_gap_or_double_after_its_replicas_were_killed(
    client: Client, url: str, wait_until: WaitUntil
) -> None:
    client.register(waiting_flow())
    over_http = connect(url, api_key=client.admin.create_api_key("streams", ("admin",)).token)
    run = over_http.start("served")
    seen: list[int] = []

    def read() -> None:
        for row in run.events(follow=True):
            seen.append(row.sequence_number)  # noqa: PERF401 - the main thread looks at it meanwhile

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: len(seen) > 3, SECONDS, what="the first events of the stream")
    killed = replicas_of_this_ray()
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert run.answer("ask", "yes")["accepted"]
    assert run.result(timeout=SECONDS) == {"answer": "yes"}
    reader.join(SECONDS)
    assert seen == [row.sequence_number for row in client.run(run.id).events()] == list(range(1, len(seen) + 1))


def replicas_of_this_ray() -> list[int]:
    """The processes that answer."""
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if each["namespace"] == "serve"]
    actors = [ray.get_actor(name, namespace="serve") for name in names if name.startswith("SERVE_REPLICA::wonder#http")]
    pids: list[int] = ray.get([actor.__ray_call__.remote(lambda _self: os.getpid()) for actor in actors], timeout=SECONDS)
    return pids


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_streams_at_once(client: Client, url: str, wait_until: WaitUntil) -> None:
    """Of one run that waits; each has all of its events when it has ended."""
    client.register(waiting_flow())
    over_http = connect(url, api_key=client.admin.create_api_key("many", ("admin",)).token)
    run = over_http.start("served")
    seen: list[list[int]] = [[] for _ in range(100)]

    def read(into: list[int]) -> None:
        for row in connect(url, api_key=key).run(run.id).events(follow=True):
            into.append(row.sequence_number)  # noqa: PERF401 - the main thread looks at it meanwhile

    key = client.admin.create_api_key("reader", ("runs:read", "events:read")).token
    readers = [threading.Thread(target=read, args=(into,), daemon=True) for into in seen]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(seen), SECONDS, what="every stream to have begun")
    since = time.monotonic()
    run.answer("ask", "yes")
    for reader in readers:
        reader.join(SECONDS)
    took = time.monotonic() - since
    last = len(list(client.run(run.id).events()))
    assert seen == [list(range(1, last + 1))] * 100
    assert took < LATE_SECONDS
