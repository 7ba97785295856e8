"""The client over HTTP, into the application in this process: the methods, replies and errors of the client on Ray."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.http.world import Api, approval
from tests.remote.carrying import MOMENTS, Cutting, InProcess, Losing
from wonder_ray.client import Client, Run
from wonder_ray.errors import (
    AuthenticationError,
    CommandRefusedError,
    DefinitionError,
    ForbiddenError,
    InputError,
    KeyConflictError,
    NotFoundError,
    RunNotFoundError,
    ServiceUnavailableError,
    WonderError,
)
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.remote import Answer, Connection, LostError, RemoteClient, RemoteRun, Request, connect, lines
from wonder_ray.remote.administration import RemoteAdministration
from wonder_ray.resources.administration import Administration
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def client(api: Api) -> RemoteClient:
    return connect("http://test", api_key=api.key, transport=InProcess(api))


def started(api: Api, client: RemoteClient, **how: Any) -> RemoteRun:
    run = client.start("approval", {"amount": 5}, **how)
    api.services.activate(run.id)
    return run


def public(cls: type) -> dict[str, list[str]]:
    """Method -> its parameters' names."""
    methods = {name: found for name, found in vars(cls).items() if not name.startswith("_")}
    return {name: list(inspect.signature(found).parameters) for name, found in methods.items() if inspect.isfunction(found)}


def test_it_has_every_method_of_the_client_on_ray() -> None:
    """With the same parameters, so that a program needs another address only."""
    for here, there in ((Client, RemoteClient), (Run, RemoteRun)):
        ours, theirs = public(here), public(there)
        assert set(ours) <= set(theirs)
        differing = {name for name in ours if ours[name] != theirs[name]}
        assert differing <= {"runs"}


def test_it_administers_with_every_method_that_is_not_of_the_services_themselves() -> None:
    ours, theirs = public(Administration), public(RemoteAdministration)
    assert set(ours) - set(theirs) == {"authorize", "grant_secret", "reseal_secrets"}
    assert {name for name in theirs if ours[name] != theirs[name]} == set()


def test_a_definition_is_removed(api: Api, client: RemoteClient) -> None:
    admin = client.admin
    version = api.resources.put_definition(b'{"name":"unused","nodes":[]}')
    with pytest.raises(NotFoundError):
        admin.delete_definition("unused", version="0" * 64)
    assert admin.delete_definition("unused", version=version) == [version]
    with pytest.raises(NotFoundError):
        admin.delete_definition("unused")


def test_a_run_is_started_looked_at_and_told_things(api: Api, client: RemoteClient) -> None:
    run = started(api, client, key="monday", labels={"team": "x"})
    assert client.run("latest").id == client.start("approval", {"amount": 5}, key="monday").id == run.id
    (wait,) = run.gates()
    assert (wait.kind, wait.node_id, wait.shown) == ("gate", "ask", {"amount": 5})
    standing = run.status()
    assert standing is not None
    assert (standing.status, standing.waiting[0].node_id, standing.nodes["ask"]) == ("waiting", "ask", {"waiting_for_gate": 1})
    assert run.answer("ask", "yes", by="ann", key="a")["accepted"]
    assert run.query("state.answer") == "yes"
    assert run.pause("lunch")["ok"]
    run.resume()
    assert run.update({"state.limit": 5})["ok"]
    assert run.state()["state"] == {"answer": "yes", "limit": 5}
    assert run.signal("paid", 7)["delivered"]
    assert run.result(timeout=5) == {"answer": "yes", "paid": 7}
    record = run.record()
    assert (record.key, record.labels, record.status, record.ended) == ("monday", {"team": "x"}, "completed", True)
    assert run.show(details=True)["nodes"] == {"ask": {"completed": 1}, "paid": {"completed": 1}}
    with pytest.raises(CommandRefusedError, match="has ended"):
        run.signal("paid")
    assert [each.run_id for each in client.runs(workflow="approval", status="completed")] == [run.id]


def test_the_events_are_those_of_the_run(api: Api, client: RemoteClient) -> None:
    run = started(api, client)
    run.cancel("enough")
    expected = api.services.read(run.id)
    for found in (list(run.events()), list(run.events(follow=True))):
        assert [(row.sequence_number, row.event_type, row.details) for row in found] == [
            (row.sequence_number, row.event_type, row.details) for row in expected
        ]
    assert (list(run.events(after=len(expected))), list(run.trace()), run.logs()) == ([], [], [])


@pytest.mark.parametrize("lines", range(3, 12))
def test_a_stream_that_breaks_is_resumed_without_gap_or_double(api: Api, lines: int) -> None:
    client = connect("http://test", api_key=api.key, transport=Cutting(api, lines * 2))
    run = started(api, client)
    run.cancel()
    assert [row.sequence_number for row in run.events(follow=True)] == list(range(1, len(api.services.read(run.id)) + 1))


def test_forks_and_restarts_begin_again(api: Api, client: RemoteClient) -> None:
    run = started(api, client)
    run.answer("ask", "yes")
    fork = run.fork(set={"state.answer": "no"})
    assert (fork.state()["state"], fork.record().fork is not None) == ({"answer": "no"}, True)
    again = run.fork(set={"state.answer": "no"}, key="f")
    assert run.fork(set={"state.answer": "no"}, key="f").id == again.id != fork.id
    with pytest.raises(WonderError, match="nobody"):
        run.restart_from("nobody")


def test_errors_arrive_as_themselves(api: Api, client: RemoteClient) -> None:
    cases: list[tuple[type[WonderError], Callable[[], object]]] = [
        (RunNotFoundError, lambda: client.run("run_9")),
        (RunNotFoundError, lambda: client.run("../keys")),
        (DefinitionError, lambda: client.start("nobody")),
        (InputError, lambda: client.start("approval", {1, 2})),
        (AuthenticationError, lambda: connect("http://test", api_key="x", transport=InProcess(api)).runs()),
        (ForbiddenError, lambda: connect("http://t", api_key=api.new_key("logs:read"), transport=InProcess(api)).runs()),
        (WonderError, lambda: client.start("approval", runtime_env={"pip": ["x"]})),
    ]
    for kind, call in cases:
        with pytest.raises(kind):
            call()
    run = started(api, client, key="k")
    with pytest.raises(KeyConflictError) as caught:
        client.start("approval", {"amount": 6}, key="k")
    assert caught.value.run_id == run.id
    with pytest.raises(AuthenticationError, match="WONDER_API_KEY"):
        connect("http://test")


def test_a_workflow_is_registered_without_its_code(client: RemoteClient) -> None:
    assert client.register(approval()) == client.register(approval())
    assert client.start(approval(), {"amount": 1}).record().workflow_name == "approval"


def test_a_workspace_is_administered(api: Api, client: RemoteClient) -> None:
    made = client.admin.create_api_key("ci", ("runs:read",))
    assert connect("http://test", api_key=made.token, transport=InProcess(api)).runs() == []
    rotated = client.admin.rotate_api_key(made.record.key_id, grace_s=0)
    assert rotated.token != made.token
    assert client.admin.revoke_api_key(made.record.key_id).revoked_us is not None
    client.admin.put_secret("openai", value="hidden away")
    assert [each.name for each in client.admin.list_secrets()] == ["openai"]
    client.admin.delete_secret("openai")
    client.admin.create_project("search")
    assert [each.project_id for each in client.admin.list_projects()] == ["default", "search"]
    client.admin.delete_project("search")
    client.admin.create_project("search")
    assert client.admin.update_project("search", description="finds") == client.admin.get_project("search")
    for refused in (
        lambda: client.admin.create_workspace("x"),
        lambda: client.admin.list_secrets(workspace_id="other"),
        lambda: client.admin.list_api_keys(workspace_id=None),
    ):
        with pytest.raises(ForbiddenError):
            refused()


def test_all_workspaces_are_administered_with_a_key_for_all(api: Api) -> None:
    client = connect("http://test", api_key=api.new_key("admin", workspace=None), transport=InProcess(api))
    client.admin.create_workspace("team", description="ours")
    assert client.admin.update_workspace("team", rate_per_s=5).rate_per_s == 5
    assert client.admin.get_workspace("team") in client.admin.list_workspaces()
    made = client.admin.create_api_key("ci", ("runs:read",), workspace_id="team")
    assert [client.admin.get_api_key(made.record.key_id)] == client.admin.list_api_keys(workspace_id="team") == [made.record]
    assert client.admin.create_api_key("root", ("admin",), workspace_id=None).record.workspace_id is None
    assert {each.name for each in client.admin.list_api_keys(workspace_id=None)} == {"test", "root"}
    client.admin.put_secret("openai", env="KEY", workspace_id="team")
    assert client.admin.get_secret("openai", workspace_id="team").location == "KEY"
    with pytest.raises(ForbiddenError, match="WONDER_WORKSPACE"):
        client.admin.list_secrets()
    client.admin.delete_secret("openai", workspace_id="team")
    client.admin.create_workspace("empty")
    client.admin.delete_workspace("empty")
    with pytest.raises(NotFoundError):
        client.admin.get_workspace("empty")


def test_lines_of_the_log_come_page_after_page_each_once(
    api: Api, client: RemoteClient, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that share their microsecond with the end of a page, and lines that are quite the same."""
    line = LogLine(timestamp=0, level="info", service="executor", event_type="stdout", workspace_id="default")
    written = [msgspec.structs.replace(line, timestamp=n // 4, message=str(n // 2)) for n in range(50)]
    store = LogStore(Layout(storage).logs, "test")
    store.append(written, 1)
    store.close()
    monkeypatch.setattr(lines, "PAGE", 7)
    for limit in (1, 7, 8, 49, 50, 100):
        found = client.logs(limit=limit)
        assert [each.timestamp for each in found] == [each.timestamp for each in written[-limit:]]
        assert Counter(each.message for each in found) <= Counter(each.message for each in written)
    assert [each.message for each in client.logs(until_us=1)] == ["0", "0", "1", "1"]
    assert client.logs(level="error") == client.logs(node="nobody") == []


# ------------------------------------------------------------------------------------------------------ lost connections


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("key", ["monday", None])
def test_a_client_that_loses_its_connection_starts_exactly_one_run(registry: Api, moment: str, key: str | None) -> None:
    client = connect("http://test", api_key=registry.key, transport=Losing(registry, moment, times=2))
    run = client.start("approval", {"amount": 5}, key=key)
    assert [each.run_id for each in registry.resources.list_runs().runs] == [run.id]
    assert registry.resources.get_run(run.id).key == key


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_that_died_with_its_connection_finds_its_run_by_its_key(registry: Api, moment: str) -> None:
    hasty = RemoteClient("http://test", Connection(Losing(registry, moment), registry.key, patience_s=0))
    with pytest.raises(ServiceUnavailableError, match="repeated, with the same key"):
        hasty.start("approval", {"amount": 5}, key="monday")
    another = connect("http://test", api_key=registry.key, transport=InProcess(registry))
    run = another.start("approval", {"amount": 5}, key="monday")
    assert [each.run_id for each in registry.resources.list_runs().runs] == [run.id]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_command_whose_answer_is_lost_counts_once(api: Api, client: RemoteClient, moment: str) -> None:
    run = started(api, client)
    losing = connect("http://test", api_key=api.key, transport=Losing(api, moment, times=2))
    assert losing.run(run.id).answer("ask", "yes")["accepted"]
    assert losing.run(run.id).fork().record().fork is not None
    assert len(api.services.cores[run.id].events("gate.answered")) == 1
    assert len(api.resources.list_runs().runs) == 2


def test_what_would_be_done_twice_is_not_repeated(api: Api) -> None:
    losing = connect("http://test", api_key=api.key, transport=Losing(api, MOMENTS[1]))
    with pytest.raises(ServiceUnavailableError, match="unknown"):
        losing.admin.create_api_key("ci", ("runs:read",))
    assert [each.name for each in api.resources.list_api_keys()].count("ci") == 1


def test_a_server_that_is_busy_or_away_is_asked_again() -> None:
    answers: list[Answer | LostError] = [
        Answer(503, {}, b""),
        LostError("refused", sent=False),
        Answer(429, {"retry-after": "0"}, b"{}"),
    ]

    class Busy:
        def send(self, request: Request) -> Answer:
            if not answers:
                return Answer(200, {}, b'{"ok":true}')
            if isinstance(found := answers.pop(0), LostError):
                raise found
            return found

        stream: Any = None

    assert Connection(Busy(), "k").get("/v1/runs") == {"ok": True}
    with pytest.raises(WonderError, match="wonder serve"):
        Connection(OnlyThat(Answer(404, {}, b"<html>")), "k").get("/v1/runs")


class OnlyThat:
    stream: Any = None

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def send(self, _request: Request) -> Answer:
        return self._answer
