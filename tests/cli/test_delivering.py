"""Telling a run something: where, what is watched afterwards, and how the command ends; with a client that plays along."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import COMPLETED, OPEN, Prepared
from tests.cli.test_following import STILL, record
from tests.cli.test_following import Run as Watched
from wonder_ray.cli import carrying, following
from wonder_ray.cli.carrying import is_yes
from wonder_ray.reading import Reader
from wonder_ray.state import RunStatus
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import RunLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Run(Watched):
    """Notes what it is told."""

    def __init__(self, client: Client, run_id: str) -> None:
        super().__init__(waits=client.waits, statuses=[STILL])
        self.id = run_id
        self._client = client

    def _told(self, what: str, *args: object, **named: object) -> dict[str, Any]:
        self._client.told.append((what, args, {name: value for name, value in named.items() if value not in (None, "", False)}))
        return {"ok": True, "run_id": self.id, **self._client.reply}

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **named: self._told(name, *args, **named)


class Client:
    """Gives runs, and a reply to everything."""

    def __init__(self, storage: Path) -> None:
        self.storage = Layout(storage)
        self.told: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.reply: dict[str, Any] = {}
        self.waits = 0
        self.addresses: list[str | None] = []
        self.flushed = False

    def run(self, run_id: str) -> Run:
        return Run(self, run_id)

    def flush(self) -> None:
        self.flushed = True


@pytest.fixture
def client(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Client:
    found = Client(prepared.storage)

    @contextmanager
    def connected(address: str | None, _storage: Path | None) -> Iterator[Client]:
        found.addresses.append(address)
        yield found

    monkeypatch.setattr(carrying, "connected", connected)
    monkeypatch.setattr("wonder_ray.cli.controlling.connected", connected)
    monkeypatch.setattr(following, "POLL_SECONDS", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["signal", "go", "--payload", '{"a": 1}', "--key", "k"], ("signal", ("go", {"a": 1}), {"key": "k"})),
        (["signal", "go"], ("signal", ("go", None), {})),
        (["answer", "gate", "true", "--by", "ann"], ("answer", ("gate", True), {"by": "ann"})),
        (["update", "state.n=5", 'state.who="ann"'], ("update", ({"state.n": 5, "state.who": "ann"},), {})),
        (["pause", "--reason", "lunch"], ("pause", ("lunch",), {})),
        (["complete-group", "g", "--reason", "enough"], ("complete_group", ("g",), {"reason": "enough"})),
        (["close-group", "g"], ("close_group", ("g",), {})),
        (["add-members", "g", "1", '{"a": 2}', "--key", "k"], ("add_members", ("g", [1, {"a": 2}]), {"key": "k"})),
    ],
)
def test_every_command_tells_its_run(client: Client, prepared: Prepared, args: list[str], told: tuple[object, ...]) -> None:
    found = invoke(args[0], OPEN, *args[1:], "--storage", prepared.storage, "--json")
    assert found.code == 0, found.err
    assert client.told == [told]
    assert (found.json["ok"], found.json["status"]) == (True, "completed")
    assert client.flushed, "a local Ray was started, and the run watched in it"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["answer", "gate", "yes"], "quote it for the shell: '\"yes\"'"),
        (["signal", "go", "--payload", "{"], "--payload: not a JSON text"),
        (["update", "state.n"], "write it as TARGET=JSON"),
        (["update", "state.who=ann"], """update state.who: not a JSON text"""),
        (["add-members", "g", "x"], "item: not a JSON text"),
        (["answer", "gate", "@nothing.json"], "cannot be read"),
    ],
)
def test_what_is_no_json_is_refused_before_ray_is_asked(
    client: Client, prepared: Prepared, args: list[str], message: str
) -> None:
    found = invoke(args[0], OPEN, *args[1:], "--storage", prepared.storage)
    assert (found.code, found.out, client.addresses) == (2, "", [])
    assert message in found.err


def test_a_run_that_lives_is_told_where_it_lives_and_not_watched(client: Client, prepared: Prepared) -> None:
    lock = RunLock(Layout(prepared.storage).lock_file(OPEN))
    assert lock.try_acquire({"pid": 1, "address": "10.0.0.1:6379"})
    client.reply = {"accepted": True, "kept": False, "problems": []}
    found = invoke("answer", OPEN, "gate", "1", "--storage", prepared.storage)
    followed = invoke("answer", OPEN, "gate", "1", "--follow", "--storage", prepared.storage)
    lock.release()
    assert client.addresses == ["10.0.0.1:6379"] * 2
    assert (found.code, found.out) == (0, f"run {OPEN}: accepted\n")
    assert "completed in 1.5 s" in followed.out


def test_in_a_local_ray_the_run_goes_on_to_its_next_wait(client: Client, prepared: Prepared) -> None:
    client.waits = 1_000
    client.reply = {"accepted": True, "kept": False, "problems": []}
    found = invoke("answer", OPEN, "gate", "1", "--storage", prepared.storage)
    assert found.code == 0
    assert "gate 'approve' asks ann" in found.out
    assert client.addresses == [None]
    quiet = invoke("answer", OPEN, "gate", "1", "--no-follow", "--json", "--storage", prepared.storage)
    assert (quiet.code, quiet.json["accepted"]) == (0, True)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"accepted": False, "kept": False, "problems": ["13 is too few"]}, "refused, and the gate asks again: 13 is too few"),
        ({"delivered": False, "kept": False}, "it is lost"),
    ],
)
def test_what_a_run_does_not_take_ends_the_command_with_1(
    client: Client, prepared: Prepared, reply: dict[str, Any], message: str
) -> None:
    client.reply, client.waits = reply, 1_000
    for options in ((), ("--no-follow",)):
        found = invoke("answer", OPEN, "gate", "13", *options, "--storage", prepared.storage)
        assert found.code == 1
        assert message in found.err
    assert [is_yes(reply), is_yes({"kept": True, "delivered": False}), is_yes({"ok": True})] == [False, True, True]


def test_a_run_that_has_ended_takes_nothing_and_repeats_its_answers(
    client: Client, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = invoke("signal", COMPLETED, "go", "--key", "k", "--storage", prepared.storage)
    assert (found.code, found.out, client.addresses) == (2, "", [])
    assert f"has ended (completed), and takes nothing any more; `wonder fork {COMPLETED}`" in found.err
    monkeypatch.setattr(Reader, "answered", lambda self, record, key: {"ok": True, "delivered": True} if key == "k" else None)
    again = invoke("signal", COMPLETED, "go", "--key", "k", "--json", "--storage", prepared.storage)
    assert (again.code, again.json) == (0, {"ok": True, "delivered": True, "status": "completed"})


def test_a_childs_answer_in_a_local_ray_wakes_its_root_which_is_watched(
    client: Client, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_child = record(RunStatus.WAITING, run_id=OPEN, root_run_id="run_root", parent_run_id="run_root", ended_us=None)
    monkeypatch.setattr(Reader, "record", lambda self, ref: of_child)
    found = invoke("answer", OPEN, "gate", "1", "--storage", prepared.storage)
    assert found.code == 0, found.err
    assert [told[0] for told in client.told] == ["answer", "wake"]
    assert "run run_root" in found.err


@pytest.mark.parametrize("options", [[], ["--compensate", "--reason", "no", "--key", "k"]])
def test_a_cancel_tells_what_is_wanted(client: Client, prepared: Prepared, options: list[str]) -> None:
    found = invoke("cancel", OPEN, *options, "--storage", prepared.storage)
    assert found.code == 1, "it had ended otherwise"
    named = {"compensate": True, "key": "k"} if options else {}
    assert client.told[0] == ("cancel", ("no" if options else "",), named)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["fork", OPEN, "--at", "4", "--set", "state.n=5"], ("fork", (4,), {"set": {"state.n": 5}})),
        (["fork", OPEN, "--label", "a=b", "--key", "k"], ("fork", (None,), {"set": {}, "labels": {"a": "b"}, "key": "k"})),
        (["restart-from", OPEN, "fetch"], ("restart_from", ("fetch",), {"set": {}})),
    ],
)
def test_a_fork_is_begun_and_watched(
    client: Client, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, args: list[str], told: tuple[object, ...]
) -> None:
    monkeypatch.setattr(Run, "_told", lambda self, what, *given, **named: _forked(client, self, what, given, named))
    found = invoke(*args, "--storage", prepared.storage, "--json")
    assert found.code == 0, found.err
    assert client.told == [told]
    assert found.err.splitlines()[-1] == "run run_fork"
    detached = invoke(*args, "--detach", "--storage", prepared.storage)
    assert detached.code == 2, "a local Ray would end with the command"


def _forked(client: Client, _run: Run, what: str, given: tuple[object, ...], named: dict[str, object]) -> Run:
    client.told.append((what, given, {name: value for name, value in named.items() if value is not None}))
    return Run(client, "run_fork")
