"""`wonder runs`, `show`, `state`, `events`, `trace`, `logs` on a prepared storage, with no Ray anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import COMPLETED, FAILED, OPEN, QUEUED, Prepared, crawl, list_urls, prepare
from tests.core import CoreRun
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.resources.records import RunProjection
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.state import RunStatus
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from tests.cli.conftest import Call

TOP = Path(__file__).parents[2]
SHOWN_KEYS = {
    "run_id", "workspace_id", "project_id", "key", "workflow_name", "workflow_version", "root_run_id", "parent_run_id", "input",
    "trace", "labels", "created_us", "epoch", "placement", "status", "started_us", "ended_us", "output", "error", "tokens",
    "events", "duration_ms", "coordinator", "nodes", "storage",
}  # fmt: skip


def test_runs_are_listed(look: Call) -> None:
    found = look("runs")
    assert (found.code, found.err) == (0, "")
    assert [line.split()[:2] for line in found.out.splitlines()] == [
        [QUEUED, "queued"],
        [OPEN, "running"],
        [FAILED, "failed"],
        [COMPLETED, "completed"],
    ]
    assert [line.split()[0] for line in found.out.splitlines() if "no coordinator" in line] == [OPEN]


def test_runs_are_chosen_and_listed_as_json(look: Call) -> None:
    found = look("runs", "--json", "--status", "completed", "--workflow", "crawl", "--limit", 5).lines
    assert [(run["run_id"], run["status"], run["labels"], run["coordinator_alive"]) for run in found] == [
        (COMPLETED, "completed", {"team": "data"}, False)
    ]
    assert look("runs", "--workflow", "other").out == "no such runs\n"
    assert look("runs", "--workflow", "other", "--json").out == ""
    wrong = look("runs", "--status", "finished")
    assert wrong.code == 2
    assert "a status is one of" in wrong.err


def test_show_tells_a_run_as_json_on_one_line(look: Call, prepared: Prepared) -> None:
    found = look("show", COMPLETED, "--json")
    assert found.out.count("\n") == 1
    assert set(found.json) >= SHOWN_KEYS
    assert found.json["output"] == prepared.completed.output
    assert found.json["nodes"]["list"] == {"completed": 1}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (COMPLETED, ["status      completed", "labels      team=data", 'output      {"pages":', "1 completed"]),
        (FAILED, ["error       Unlucky: no page at b/0\\x1b[31m (node fetch)"]),
        (OPEN, ["status      running", f"none: `wonder resume {OPEN}`", "1 completed, 2 dispatched"]),
        ("latest", [f"run         {QUEUED}", "status      queued"]),
    ],
)
def test_show_tells_people(look: Call, run: str, said: list[str]) -> None:
    found = look("show", run)
    assert found.code == 0
    assert [text for text in said if text not in found.out] == []


@pytest.mark.parametrize("command", ["show", "state", "events", "trace", "logs", "resume", "cancel"])
def test_an_unknown_or_ambiguous_run_is_an_error_of_usage(look: Call, command: str) -> None:
    for ref, message in (
        ("run_ffff", "no run 'run_ffff'"),
        ("run_0192f0c1", "begins the ids of several runs"),
        ("", "no run ''"),
    ):
        found = look(command, ref)
        assert (found.code, found.out) == (2, ""), found
        assert message in found.err


@pytest.mark.parametrize("command", ["runs", "show latest", "events latest", "state latest"])
def test_a_storage_that_cannot_be_read_is_told(wonder: Call, tmp_path: Path, command: str) -> None:
    (tmp_path / "resources.sqlite").write_bytes(b"garbage" * 1000)
    found = wonder(*command.split(), "--storage", tmp_path)
    assert (found.code, found.out) == (2, "")
    assert "resources.sqlite" in found.err


def test_events_are_printed_one_a_line(look: Call, prepared: Prepared) -> None:
    rows = look("events", COMPLETED, "--json").lines
    assert [row["sequence_number"] for row in rows] == list(range(1, len(prepared.completed.rows) + 1))
    assert rows[0]["metadata"]["input"] == {"site": "a"}
    assert all(isinstance(row["metadata"], dict) for row in rows)
    people = look("events", COMPLETED)
    assert len(people.out.splitlines()) == len(rows)
    assert "workflow.completed" in people.out.splitlines()[-1]


def test_events_are_chosen_by_number_and_type(look: Call, prepared: Prepared) -> None:
    last = len(prepared.completed.rows)
    assert [row["sequence_number"] for row in look("events", COMPLETED, "--json", "--after", last - 2).lines] == [last - 1, last]
    rows = look("events", COMPLETED, "--json", "--type", "workflow.").lines
    assert [row["event_type"] for row in rows] == ["workflow.started", "workflow.completed"]


def test_events_of_others_cannot_steer_the_terminal(look: Call) -> None:
    assert "\x1b" not in look("events", FAILED).out
    assert "\x1b" not in look("show", FAILED).out


def test_following_an_ended_run_ends(look: Call, prepared: Prepared) -> None:
    assert len(look("events", COMPLETED, "--follow").out.splitlines()) == len(prepared.completed.rows)


def test_following_goes_on_until_the_run_has_ended(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "s")
    command = [sys.executable, "-m", "wonder_ray.cli", "events", OPEN, "--follow", "--json", "--storage", str(prepared.storage)]
    rows = CoreRun(crawl(), {"list": list_urls}).run({"site": "c"}).rows
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TOP) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in prepared.open.rows]
        with EventService(prepared.storage) as service:
            service.open(OPEN, 1)
            info = RunInfo(OPEN, "default", "default", OPEN, None, "crawl", "v")
            lines = b"\n".join(msgspec.json.encode(row) for row in rows)
            service.submit([EventBatch(info, "events", 1, 1, len(rows), lines)])
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    followed = [msgspec.json.decode(line) for line in [*first, *out.splitlines()]]
    assert [row["sequence_number"] for row in followed] == list(range(1, len(rows) + 1))


def test_following_ends_with_a_run_whose_history_is_gone(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "s")
    store = ResourcesStore(Layout(prepared.storage).resources)
    store.report(OPEN, 1, RunProjection(status=RunStatus.CANCELLED, events=len(prepared.open.rows), ended_us=5))
    store.close()
    assert len(invoke("events", OPEN, "--follow", "--storage", prepared.storage).out.splitlines()) == len(prepared.open.rows)


def test_trace_events_are_printed(look: Call, prepared: Prepared) -> None:
    rows = look("trace", COMPLETED, "--json").lines
    assert [row["sequence_number"] for row in rows] == list(range(1, len(prepared.completed.traces) + 1))
    assert all(isinstance(row["payload"], dict) for row in rows)
    assert len(look("trace", COMPLETED).out.splitlines()) == len(rows)
    without = look("trace", FAILED)
    assert (without.code, without.out) == (0, "")
    assert "--trace" in without.err


def test_state_is_told_at_any_event(look: Call) -> None:
    early = look("state", COMPLETED, "--at", 4, "--json").json
    assert (early["run"]["status"], early["state"]) == ("running", {"urls": ["a/0", "a/1", "a/2"]})
    assert look("state", COMPLETED, "--json").json["state"]["count"] == 3
    people = look("state", OPEN)
    assert people.out.startswith(f"{OPEN}  running  after event")
    assert "group pages  open" in people.out
    late = look("state", COMPLETED, "--at", 9_999)
    assert (late.code, late.out) == (2, "")
    assert "has no event 9999" in late.err


def test_logs_are_printed_oldest_first(look: Call) -> None:
    assert [line["message"] for line in look("logs", "--json").lines] == ["hello", "no page", "slow"]
    found = look("logs", FAILED)
    assert "action_failed" in found.out
    assert "    Traceback:\n      boom\n" in found.out


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["--level", "warning"], ["no page", "slow"]),
        (["--service", "executor", "--level", "error"], ["no page"]),
        (["--run", COMPLETED], ["hello"]),
        (["--event-type", "db_%"], ["slow"]),
        (["--text", "PAGE"], ["no page"]),
        (["--since", "2023-11-14T22:13:21"], ["no page", "slow"]),
        (["--until", "2023-11-14T22:13:21Z"], ["hello"]),
        (["--since", "1h"], []),
        (["--limit", "1"], ["slow"]),
        (["--where", "json_extract(metadata, '$.attempt') = 1"], ["no page"]),
        (["latest", "--where", "1 = 1"], []),
    ],
)
def test_logs_are_chosen(look: Call, args: list[str], messages: list[str]) -> None:
    found = look("logs", "--json", *args)
    assert (found.code, found.err) == (0, "")
    assert [line["message"] for line in found.lines] == messages


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--level", "loud"], "--level 'loud': it is one of debug"),
        (["--service", "kitchen"], "--service 'kitchen': it is one of"),
        (["--since", "yesterday"], "is no time"),
        (["--where", "level = "], "level = "),
        (["--where", "1=1", "--level", "error"], "--level beside --where"),
        ([COMPLETED, "--run", FAILED], "two runs are given"),
    ],
)
def test_logs_refuse_what_they_cannot_look_for(look: Call, args: list[str], message: str) -> None:
    found = look("logs", *args)
    assert (found.code, found.out) == (2, "")
    assert message in found.err


def test_a_log_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    storage = prepare(tmp_path / "s").storage
    file = next((storage / "logs").rglob("*.sqlite"))
    file.write_bytes(b"garbage" * 1000)
    found = invoke("logs", "--storage", storage)
    assert (found.code, found.out) == (0, "")
    assert file.name in found.err


def test_looking_imports_no_ray(prepared: Prepared) -> None:
    commands = ["runs", "show latest", f"events {COMPLETED}", f"state {COMPLETED}", "logs", f"resume {COMPLETED}", "doctor"]
    code = (
        "import sys\nfrom tests.cli.conftest import invoke\n"
        f"for command in {commands!r}:\n"
        f"    assert invoke(*command.split(), '--storage', {str(prepared.storage)!r}).code == 0, command\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TOP)
