"""`wonder --server URL`: the same commands, into the application in this process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, store
from tests.cli.conftest import invoke
from tests.cli.prepared import COMPLETED, OPEN, QUEUED, prepare
from tests.http.world import Api, approval
from tests.remote.carrying import BEFORE_SEND, InProcess, Losing
from wonder_ray.cli.reaching import ELSEWHERE, SPEAKING
from wonder_ray.definitions.files import dump_definition
from wonder_ray.http import backend
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.planning import router
from wonder_ray.reading.replaying import verdict_of
from wonder_ray.remote import client as remote
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import RunLock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Called

URL = "http://test:8000"


@pytest.fixture
def api(storage: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    return served(storage, monkeypatch)


def served(storage: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API of a storage folder, which commands reach at `URL`."""
    api = Api(storage)
    monkeypatch.setattr(remote, "UrlTransport", lambda url: {URL: InProcess(api)}[url])
    monkeypatch.setenv("WONDER_API_KEY", api.key)
    return api


def wonder(*args: object) -> Called:
    found = invoke(*args, "--server", URL)
    assert "Traceback" not in found.err
    return found


def test_a_run_is_started_looked_at_answered_and_done(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = tmp_path / "approval.json"
    dump_definition(approval(), flow)
    begun = wonder("run", flow, "--input", '{"amount": 5}', "--key", "monday", "--label", "team=x", "--detach", "--json")
    assert begun.code == 0, begun.err
    run_id = begun.json["run_id"]
    assert begun.json["storage"] == URL
    api.services.activate(run_id)

    assert [(each["run_id"], each["coordinator_alive"]) for each in wonder("runs", "--json").lines] == [(run_id, False)]
    assert wonder("runs").out.rstrip().endswith("approval  (no coordinator)")
    assert wonder("show", run_id, "--json").json["coordinator"] is None
    lock = RunLock(Layout(api.storage).lock_file(run_id))
    assert lock.try_acquire({"pid": 1})  # as its coordinator does
    assert [each["coordinator_alive"] for each in wonder("runs", "--json").lines] == [True]
    assert wonder("runs").out.rstrip().endswith("approval")
    assert wonder("show", run_id, "--json").json["coordinator"]["epoch"] == 1
    lock.release()
    shown = wonder("show", "latest", "--json").json
    assert (shown["status"], shown["key"], shown["labels"], shown["nodes"]) == (
        "waiting", "monday", {"team": "x"}, {"ask": {"waiting_for_gate": 1}},
    )  # fmt: skip
    assert f"wonder answer {run_id} ask JSON --server {URL}" in wonder("show", run_id).out
    assert f"wonder answer {run_id} ask JSON --server {URL}" in wonder("gates").out
    monkeypatch.setenv("WONDER_SERVER", URL)
    assert "--server" not in invoke("gates", run_id).out

    assert wonder("answer", run_id, "ask", '"yes"', "--by", "ann", "--json").json["accepted"]
    assert wonder("query", run_id, "state.answer").json == "yes"
    assert wonder("update", run_id, "state.limit=5").out == f"run {run_id}: done\n"
    assert wonder("pause", run_id, "--reason", "lunch").code == 0
    assert wonder("resume", run_id, "--detach").code == 0
    assert wonder("state", run_id, "--json").json["state"] == {"answer": "yes", "limit": 5}
    assert wonder("signal", run_id, "paid", "--payload", "7").out == f"run {run_id}: delivered\n"
    done = wonder("show", run_id)
    assert "completed" in done.out
    assert '{"answer":"yes","paid":7}' in done.out
    late = wonder("signal", run_id, "paid")
    assert (late.code, late.out) == (2, "")
    assert "has ended" in late.err


def test_histories_and_logs_are_read(api: Api) -> None:
    run_id = api.start()
    assert wonder("cancel", run_id).code == 0
    expected = [row.event_type for row in api.services.read(run_id)]
    for options in ([], ["--follow"], ["--after", "0"]):
        assert [each["event_type"] for each in wonder("events", run_id, "--json", *options).lines] == expected
    assert wonder("trace", run_id).out == ""
    assert wonder("logs", run_id).code == 0


def test_logs_are_those_that_the_storage_folder_shows(api: Api, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = api.start()
    lines = [
        LogLine(timestamp=us, level="info", service="executor", event_type="stdout", message=f"line {us}", workspace_id="default",
                trace_id=run_id if us % 2 else None, node_id="ask", attempt=1, metadata='{"n":1}')
        for us in range(10)
    ]  # fmt: skip
    store = LogStore(Layout(storage).logs, "test")
    store.append(lines, 1)
    store.close()
    for options in ([], [run_id], ["--run", "latest"], ["--node", "ask", "--limit", "3"], ["--since", "1970-01-01", "--archive"]):
        here = invoke("logs", *options, "--json", "--storage", storage)
        assert (wonder("logs", *options, "--json").lines, len(here.lines) > 2) == (here.lines, True)
    assert wonder("logs").out == invoke("logs", "--storage", storage).out
    assert "--where" in wonder("logs", "--where", "level = 'error'").err


def test_reports_and_sql_print_what_the_storage_folder_gives(api: Api, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(storage, {run_id(1): Measured(crawl(), {"fetch": flaky_fetch()}).run()})
    for args in (["report", "cost"], ["report", "critical-path", "--run", "latest", "--json"], ["report", "queue", "--csv"]):
        here = invoke(*args, "--storage", storage)
        there = wonder(*args)
        assert (there.code, there.out, there.err) == (0, here.out, "")
    assert wonder("report", "cost", "--workflow", "nobody").err == "wonder: there is nothing to report on\n"
    query = "SELECT node_id, count(*) AS n, max(timestamp) AS last FROM events GROUP BY 1 ORDER BY 1"
    assert "--all-workspaces" in wonder("sql", query).err
    monkeypatch.setenv("WONDER_API_KEY", api.new_key("events:read", workspace=None))
    for options in ([], ["--json"], ["--csv"]):
        assert wonder("sql", query, *options).out == invoke("sql", query, *options, "--storage", storage).out
    refused, here = wonder("sql", "DROP VIEW events"), invoke("sql", "DROP VIEW events", "--storage", storage)
    assert (refused.code, refused.err) == (2, here.err)


def test_a_replay_says_what_it_says_where_the_storage_folder_is(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(storage)
    served(storage, monkeypatch)
    for run, options in ((COMPLETED, []), (OPEN, ["--json"])):
        here = invoke("replay", run, *options, "--storage", storage)
        there = wonder("replay", run, *options)
        assert (there.code, there.out, there.err) == (0, here.out, "")
    early, here = wonder("replay", QUEUED), invoke("replay", QUEUED, "--storage", storage)
    assert (early.code, early.err) == (2, here.err)
    # What is done in another process is done here now, so that planners can be changed.
    monkeypatch.setattr(backend, "run_confined", lambda _entry, asked, _bounds: verdict_of(asked))
    monkeypatch.setattr(router, "output_writes", lambda *given: ())
    for options in ([], ["--json"]):
        here = invoke("replay", COMPLETED, *options, "--storage", storage)
        there = wonder("replay", COMPLETED, *options)
        assert (there.code, there.out, "output_applied" in there.out) == (1, here.out, True)


def test_forks_and_restarts_are_begun(api: Api) -> None:
    run_id = api.start()
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    fork = wonder("fork", run_id, "--set", 'state.answer="no"', "--detach", "--json")
    assert fork.code == 0, fork.err
    assert fork.json["run_id"] != run_id
    assert "nobody" in wonder("restart-from", run_id, "nobody", "--detach").err
    for args in (("complete-group", run_id, "pages"), ("close-group", run_id, "pages"), ("add-members", run_id, "pages", "1")):
        refused = wonder(*args)
        assert refused.code == 2
        assert "pages" in refused.err


def test_a_workspace_is_administered(api: Api) -> None:
    made = wonder("key", "create", "ci", "--scope", "runs:read", "--json").json
    assert made["token"].startswith("wonder_")
    assert "ci" in wonder("key", "list").out
    assert wonder("key", "revoke", made["key_id"]).code == 0
    assert wonder("project", "create", "search").code == 0
    assert "search" in wonder("project", "list").out
    assert [each["workspace_id"] for each in wonder("workspace", "list", "--json").lines] == ["default"]
    refused = wonder("workspace", "create", "team")
    assert (refused.code, "--all-workspaces" in refused.err) == (2, True)


def test_workspaces_are_administered_with_a_key_for_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WONDER_API_KEY", api.new_key("admin", workspace=None))
    assert wonder("workspace", "create", "team").out == "workspace team is there\n"
    assert wonder("workspace", "limit", "team", "--rate", 5).out == "workspace team: 5 requests a second\n"
    assert wonder("project", "create", "search", "--workspace", "team").code == 0
    key = wonder("key", "create", "ci", "--scope", "runs:read", "--workspace", "team", "--json").json
    assert (key["workspace_id"], wonder("key", "list", "--workspace", "team", "--json").lines[0]["key_id"]) == (
        "team",
        key["key_id"],
    )
    assert len(wonder("key", "list", "--all-workspaces", "--json").lines) == 1
    assert "WONDER_WORKSPACE" in wonder("runs").err
    monkeypatch.setenv("WONDER_WORKSPACE", "team")
    assert wonder("runs").out == "no runs\n"
    assert [each["project_id"] for each in wonder("project", "list", "--json").lines] == ["default", "search"]
    assert wonder("workspace", "delete", "other").code == 2


def test_who_has_no_key_is_told_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WONDER_API_KEY")
    refused = wonder("runs")
    assert refused.code == 2
    assert "WONDER_API_KEY" in refused.err


@pytest.mark.parametrize("command", [["status"], ["validate", "x"]])
def test_what_is_not_over_http_says_so(command: list[str]) -> None:
    refused = invoke("--server", URL, *command)
    assert refused.code == 2
    assert f"wonder {command[0]} does not go over HTTP" in refused.err


def test_every_command_either_speaks_or_says_what_it_does_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = set(re.findall(r"^  ([a-z-]+) ", invoke("--help").out.partition("Commands")[2], re.MULTILINE))
    assert listed == SPEAKING | set(ELSEWHERE)
    assert SPEAKING.isdisjoint(ELSEWHERE)


def test_who_has_set_a_server_is_told_where_a_command_does_not_ask_it(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WONDER_SERVER", URL)
    assert "WONDER_SERVER is left aside: wonder storage looks at" in invoke("storage", "--storage", storage).err
    assert "WONDER_SERVER" not in invoke("validate", "nofile.json").err


def test_who_asks_a_server_that_is_away_is_told_at_once_that_it_is_asked_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "UrlTransport", lambda _url: Losing(api, BEFORE_SEND, reading=True))
    found = wonder("runs")
    assert (found.code, found.out, found.err.count("no answer yet")) == (0, "no runs\n", 1)


def test_code_that_is_not_at_the_server_is_told_how_to_get_there(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "other.py"
    file.write_text(
        "import wonder_ray as wonder\n\n\n@wonder.action\ndef f() -> int:\n    return 1\n\n\n"
        "flow = wonder.Workflow('other')\nflow.node('f', f)\n"
    )
    refused = wonder("run", file)
    assert (refused.code, "wonder run FILE --address" in refused.err) == (2, True)


def test_the_server_stands_anywhere_and_is_forgotten(api: Api, storage: Path) -> None:
    run_id = api.start()
    for args in ([f"--server={URL}", "runs"], ["runs", f"--server={URL}"], ["--server", URL, "runs"]):
        assert run_id in invoke(*args).out
    assert "http" not in invoke("show", run_id, "--json", "--storage", storage).json["storage"]
    assert "http://127.0.0.1:8000" in invoke("--server", "nowhere", "runs").err


def test_every_command_that_speaks_is_one(api: Any) -> None:
    help_text = invoke("--help").out
    assert [command for command in sorted(SPEAKING) if not re.search(rf"^  {command} ", help_text, re.MULTILINE)] == []
