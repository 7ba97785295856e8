"""A client that loses its connection at any moment and retries with its key starts exactly one run.

Through a proxy that is cut after the first, second, third, ... piece of traffic, so that every moment of a start has its turn:
before the statement arrived, before the commit, after the commit and before its answer.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.store import ResourcesStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil
    from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
DEFINITION = b'{"name":"crawl","nodes":[]}'

# One start at each line that comes in: "started" goes out only after the commit was acknowledged.
STARTER = """
import sys
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.store import ResourcesStore
store = ResourcesStore(sys.argv[1])
print("ready", flush=True)
for key in sys.stdin:
    print(store.create_run(StartRequest(workflow_name="crawl", key=key.strip()))[0].run_id, flush=True)
"""


class Proxy:
    """Passes traffic on to a PostgreSQL until `pieces` pieces have passed in either direction; then it cuts everything."""

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._left: int | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        kept = {name: value for name, value in self._target.query.items() if name != "host"}
        there = self._target.set(host="127.0.0.1", port=port, query=kept)
        return there.render_as_string(hide_password=False)

    def cut_after(self, pieces: int | None) -> None:
        with self._lock:
            self._left = pieces

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _connect(self) -> socket.socket:
        folder = self._target.query.get("host")
        if isinstance(folder, str):
            found = socket.socket(socket.AF_UNIX)
            found.connect(f"{folder}/.s.PGSQL.{self._target.port or 5432}")
            return found
        return socket.create_connection((self._target.host or "localhost", self._target.port or 5432))

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    if self._left is not None:
                        self._left -= 1
                        if self._left < 0:
                            self._left = None
                            self.cuts += 1
                            self._cut()
                            return
                target.sendall(data)
        for end in (source, target):
            end.close()

    def _cut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open = []


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    proxy = Proxy(postgres_url)
    yield proxy
    proxy.close()


def start(store: ResourcesStore, key: str) -> str:
    return store.create_run(StartRequest(workflow_name="crawl", key=key))[0].run_id


def start_until_it_is_answered(store: ResourcesStore, key: str) -> tuple[str, int]:
    """What a client does; the id of the run, and how often its connection was lost."""
    for lost in range(20):
        try:
            return start(store, key), lost
        except ServiceUnavailableError:
            continue
    raise AssertionError(f"the start of {key} was never answered")


def test_a_start_whose_connection_is_cut_at_any_moment_makes_one_run(proxy: Proxy, postgres_url: str) -> None:
    direct, through = ResourcesStore(postgres_url), ResourcesStore(proxy.url)
    direct.put_definition(DEFINITION)
    runs: list[str] = []
    for moment in range(60):
        proxy.cut_after(moment)
        cuts = proxy.cuts
        run_id, lost = start_until_it_is_answered(through, f"k{moment}")
        runs.append(run_id)
        assert lost == 0 or proxy.cuts > cuts
        if proxy.cuts == cuts:  # the start was over before its moment came: all of its moments have had their turn
            break
    else:
        pytest.fail("a start has no end")
    proxy.cut_after(None)
    found = direct.list_runs(limit=1000).runs
    assert [run.run_id for run in reversed(found)] == runs
    assert proxy.cuts == len(runs) - 1 > 5
    through.close()
    direct.close()


def test_the_commit_may_have_happened_when_its_answer_was_lost(proxy: Proxy, postgres_url: str) -> None:
    """Else the test above could pass with a store that never retries."""
    direct, through = ResourcesStore(postgres_url), ResourcesStore(proxy.url)
    direct.put_definition(DEFINITION)
    outcomes: set[bool] = set()
    for moment in range(60):
        proxy.cut_after(moment)
        try:
            start(through, f"k{moment}")
        except ServiceUnavailableError:
            outcomes.add(direct.find_run(f"k{moment}") is not None)
    proxy.cut_after(None)
    assert outcomes == {True, False}
    through.close()
    direct.close()


@pytest.mark.parametrize("pause", [0, 2, 7])
def test_a_process_that_is_killed_while_it_starts_and_is_repeated_makes_one_run(shared_place: str, pause: int) -> None:
    store = ResourcesStore(shared_place)
    store.put_definition(DEFINITION)
    keys = [f"k{number}" for number in range(40)]
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, shared_place], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("".join(f"{key}\n" for key in keys))
        process.stdin.flush()
        told = [process.stdout.readline().strip() for _ in range(pause * 3)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines()
    repeated = [start(store, key) for key in keys]
    whole = [run_id for run_id in told if len(run_id) == len(repeated[0])]
    assert repeated[: len(whole)] == whole
    assert [run.run_id for run in reversed(store.list_runs(limit=1000).runs)] == repeated
    store.close()


def test_a_server_that_is_killed_and_comes_back_has_what_it_acknowledged(
    postgres_server: Postgres, postgres_url: str, wait_until: WaitUntil
) -> None:
    if postgres_server.folder is None:
        pytest.skip("needs a PostgreSQL of its own to kill: this one belongs to somebody else")
    store = ResourcesStore(postgres_url)
    store.put_definition(DEFINITION)
    keys = [secrets.token_hex(4) for _ in range(30)]
    runs: dict[str, str] = {}
    failed: list[BaseException] = []

    def client() -> None:
        for key in keys:
            while key not in runs:
                try:
                    runs[key] = start(store, key)
                except ServiceUnavailableError as error:
                    failed.append(error)

    def has(goal: int) -> bool:
        return len(runs) >= goal

    def noticed(before: int) -> bool:
        return len(failed) > before or len(runs) == len(keys)

    thread = threading.Thread(target=client)
    thread.start()
    for goal in (5, 15):
        wait_until(partial(has, goal), timeout=60, what="some runs to be started")
        lost = len(failed)
        postgres_server.crash()
        wait_until(partial(noticed, lost), timeout=60, what="the client to notice")
        postgres_server.start()
    thread.join(60)
    assert not thread.is_alive()
    assert failed
    assert [run.run_id for run in reversed(store.list_runs(limit=1000).runs)] == [runs[key] for key in keys]
    store.close()
