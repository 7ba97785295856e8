"""A canary through a whole run on Ray: it is in no file of the storage, and in nothing that the platform tells."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import pytest

from tests.integration.helpers import SECONDS, check_history
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import NotFoundError, RunFailedError
from wonder_ray.executor.secrets import Secret
from wonder_ray.logs.archive import archive_old
from wonder_ray.logs.files import list_files
from wonder_ray.logs.query import LogReader
from wonder_ray.reading import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client

CANARY = "maet-eht-fo-aa0e14d9-yranac"[::-1]
"""Written backwards: the bundles of other tests may hold this very file."""


def everything(client: Client, run_id: str) -> str:
    """All that the platform tells about a run."""
    reader = Reader(client.storage.root)
    told: list[Any] = [reader.show(run_id), reader.state(run_id), list(reader.events(run_id)), list(reader.traces(run_id))]
    told += [LogReader(client.storage.root).search(limit=10_000), client.admin.list_secrets(), client.run(run_id).record()]
    return str(told)


def assert_in_no_file(client: Client) -> None:
    for path in client.storage.root.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # the services tidy up meanwhile
            assert CANARY.encode() not in path.read_bytes(), path
    for folder in (client.storage.events, client.storage.trace_events):
        files = [str(path) for path in folder.rglob("*.parquet")]
        if files:
            assert CANARY not in str(ds.dataset(files).to_table().to_pylist())


def assert_not_in_the_archive(client: Client, run_id: str, folder: Path) -> None:
    """What the log of this moment becomes when it is old: in a copy, since a live service writes to it."""
    shutil.copytree(client.storage.logs, folder / "logs", ignore=shutil.ignore_patterns("*.lock"))
    done = archive_old(folder, before="9999-01-01")
    assert (done.problems, bool(done.files), list_files(folder / "logs")) == ([], True, [])
    archived = LogReader(folder).search(limit=None, archive=True)
    assert any("[secret:canary]" in str(line) for line in archived if line.trace_id == run_id)
    assert CANARY not in str(archived)
    assert all(CANARY.encode() not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_secret_is_used_and_never_seen(client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path) -> None:
    client.admin.put_secret("canary", value=CANARY)
    flow = Workflow("with-a-secret", output={"seen": "state.seen", "key": "state.key"})
    flow.node("use", actions.use_secret, input={"key": "input.key"}, output={"state.seen": "result", "state.key": "input.key"})
    run = client.start(flow, {"key": "secret://canary"}, trace=True)
    found = run.result(SECONDS)
    assert found["seen"] == {"length": len(CANARY), "plain": "[secret:canary]", "inside": "Bearer [secret:canary]!"}
    assert found["key"] == "secret://canary"
    check_history(client, run, wait_until)
    client.flush()
    logs = LogReader(client.storage.root)
    lines = wait_until(lambda: logs.search(trace_id=run.id, event_type="stdout"), timeout=30, what="the output to arrive")
    assert [line.message for line in lines] == ["the key is [secret:canary]"]
    assert CANARY not in everything(client, run.id)
    assert_in_no_file(client)
    assert_not_in_the_archive(client, run.id, tmp_path)


def test_a_secret_in_an_error_is_never_seen(client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path) -> None:
    client.admin.put_secret("canary", value=CANARY)
    flow = Workflow("failing-with-a-secret")
    flow.node("use", actions.fail_with_secret, input={"key": Secret("canary")}, retry=Retry(max_attempts=2, backoff_s=0.01))
    run = client.start(flow, {}, trace=True)
    with pytest.raises(RunFailedError, match=r"\[secret:canary\] was refused"):
        run.result(SECONDS)
    check_history(client, run, wait_until)
    client.flush()
    assert CANARY not in everything(client, run.id)
    assert_in_no_file(client)
    logs = LogReader(client.storage.root)
    wait_until(lambda: logs.search(trace_id=run.id, event_type="action_failed"), timeout=30, what="the error to arrive")
    assert_not_in_the_archive(client, run.id, tmp_path)


def test_a_secret_that_is_not_there_fails_its_node(client: Client, actions: Any) -> None:
    flow = Workflow("without-a-secret")
    flow.node("use", actions.use_secret, input={"key": "'secret://nothing'"}, retry=Retry(max_attempts=5))
    run = client.start(flow, {})
    with pytest.raises(RunFailedError, match="no secret 'nothing'") as caught:
        run.result(SECONDS)
    assert (caught.value.error or {})["type"] == "SecretError"
    with pytest.raises(NotFoundError):
        client.admin.get_secret("nothing")
    with pytest.raises(AttributeError):
        client.admin.start_run()  # type: ignore[attr-defined] # what a mistake looks like
