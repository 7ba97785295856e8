"""What is wrong with a definition, an input, an action or a folder: a clear error, and nothing left behind."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import SECONDS, Ledger, check_history, coordinator_pid, of_type, rows_of, service_pid
from wonder_ray.client import connect
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.definitions.models import ActionNode, Retry, Transition, WorkflowDefinition
from wonder_ray.errors import DefinitionError, InputError, KeyConflictError, RunFailedError, StorageError, WonderError
from wonder_ray.logs.query import LogReader

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run

MEGABYTE = 1024 * 1024


def single(action: Any, name: str, given: dict[str, str] | None = None, **options: Any) -> Workflow:
    flow = Workflow(name, output={"result": "state.result"})
    flow.node("only", action, input=given, output={"state.result": "result"}, **options)
    return flow


def failure_of(run: Run) -> RunFailedError:
    with pytest.raises(RunFailedError) as caught:
        run.result(SECONDS)
    return caught.value


def known_runs(client: Client) -> set[str]:
    return {record.run_id for record in client.runs(limit=1000)}


def log_lines(client: Client, wait_until: WaitUntil, **filters: Any) -> list[Any]:
    reader = LogReader(client.storage.root)
    return wait_until(lambda: reader.search(**filters), SECONDS, what=f"a log line {filters}")


def test_a_malformed_definition_starts_nothing(client: Client) -> None:
    before = known_runs(client)
    broken = WorkflowDefinition(
        name="broken",
        nodes=(ActionNode(id="a", action="flow_actions:square", input={"n": "1 +"}),),
        transitions=(Transition(source="a", target="nowhere"),),
    )
    with pytest.raises(DefinitionError, match="nowhere"):
        client.start(broken, {})
    with pytest.raises(DefinitionError, match="no-such-workflow"):
        client.start("no-such-workflow", {})
    assert known_runs(client) == before


@pytest.mark.parametrize(
    ("action", "message"),
    [("no_such_module_anywhere:work", "no_such_module_anywhere"), ("json:no_such_function", "no_such_function")],
)
def test_an_action_that_is_not_there_fails_the_run_at_its_node(
    client: Client, wait_until: WaitUntil, action: str, message: str
) -> None:
    flow = WorkflowDefinition(name="missing", nodes=(ActionNode(id="lost-node", action=action),))
    run = client.start(flow, {})
    error = failure_of(run)
    assert message in str(error)
    assert error.error is not None
    assert (error.error["type"], error.error["node_id"]) == ("CodeBundleError", "lost-node")
    check_history(client, run, wait_until)


def test_an_action_that_raises_fails_the_run_with_its_error(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    run = client.start(single(actions.raise_value_error, "raising", {"n": "input.n"}), {"n": 7})
    error = failure_of(run)
    assert error.status == "failed"
    assert error.error is not None
    assert (error.error["type"], error.error["node_id"]) == ("ValueError", "only")
    assert "7 is no good" in str(error)
    copy = pickle.loads(pickle.dumps(error))  # it crosses process boundaries
    assert (str(copy), copy.run_id, copy.status, copy.error) == (str(error), run.id, "failed", error.error)
    (line,) = log_lines(client, wait_until, trace_id=run.id, event_type="action_failed")
    assert "raise_value_error" in line.error_stack
    check_history(client, run, wait_until)


def test_a_result_that_is_no_json_is_not_tried_again(client: Client, actions: Any) -> None:
    run = client.start(single(actions.return_object, "no-json", retry=Retry(max_attempts=3, backoff_s=0.01)), {})
    error = failure_of(run)
    assert "object at $.when" in str(error)
    assert len(of_type(rows_of(run), "task.failed")) == 1


def test_input_that_breaks_its_schema_leaves_a_log_line_and_nothing_else(
    client: Client, actions: Any, wait_until: WaitUntil
) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    flow = Workflow("with-schema", input=schema)
    flow.node("only", actions.square, input={"n": "input.n"})
    before = known_runs(client)
    rejected = len(LogReader(client.storage.root).search(event_type="input_rejected"))
    with pytest.raises(InputError, match="n"):
        client.start(flow, {"n": "many"})
    with pytest.raises(InputError, match="JSON"):
        client.start(flow, {"n": object()})
    assert known_runs(client) == before
    found = LogReader(client.storage.root)
    wait_until(lambda: len(found.search(event_type="input_rejected")) > rejected, SECONDS, what="the log line")
    assert client.start(flow, {"n": 2}).result(SECONDS) == {}


def test_a_key_finds_its_run_and_refuses_another(client: Client, actions: Any) -> None:
    flow = single(actions.square, "keyed", {"n": "input.n"})
    first = client.start(flow, {"n": 3}, key="bad-input-1")
    assert client.start(flow, {"n": 3}, key="bad-input-1").id == first.id
    with pytest.raises(KeyConflictError) as conflict:
        client.start(flow, {"n": 4}, key="bad-input-1")
    assert conflict.value.run_id == first.id
    assert first.result(SECONDS) == {"result": 9}
    assert client.start(flow, {"n": 3}, key="bad-input-1").result(SECONDS) == {"result": 9}


def test_a_storage_that_cannot_be_written_is_refused_before_anything_starts(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(StorageError, match="cannot be used"):
        connect(storage=file / "storage")
    with pytest.raises(StorageError, match="WONDER_STORAGE"):
        connect(storage=Path("/proc/1/storage"))
    with pytest.raises(WonderError, match="connect with that storage"):
        connect(storage=tmp_path / "another")


def test_a_worker_that_dies_is_tried_again_until_its_budget_is_used_up(
    client: Client, actions: Any, wait_until: WaitUntil
) -> None:
    run = client.start(single(actions.die, "dying"), {})
    error = failure_of(run)
    assert error.error is not None
    assert (error.error["kind"], error.error["node_id"]) == ("lost", "only")
    rows = check_history(client, run, wait_until)
    assert len(of_type(rows, "task.failed")) == 3


def test_one_poison_item_is_found_and_the_others_pass(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    flow = Workflow("poison", output={"passed": "state.passed"})
    flow.node("spread", actions.spread, input={"n": "40"}, output={"state.numbers": "result"})
    flow.node("item", actions.die_at, input={"n": "item", "bad": "17", "ledger": "input.ledger"})
    flow.compute("done")
    flow.transition("spread", "item", foreach="state.numbers", group="all", tolerated_failures=1)
    flow.transition("item", "done", join=All("all", merge=Append("state.passed")))
    run = client.start(flow, {"ledger": str(ledger)})
    assert run.result(SECONDS) == {"passed": [n for n in range(40) if n != 17]}
    rows = check_history(client, run, wait_until)
    poisoned = of_type(rows, "token.failed")
    assert len(poisoned) == 1
    assert len(of_type(rows, "task.failed")) == 3, "only the poison item is charged, for each of its own deaths"
    tokens = {execution.token for execution in ledger.executions()}
    assert len(tokens) == 40


def memory_of(pid: int) -> int:
    """Bytes that are resident."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("megabytes", [8, pytest.param(1024, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_output_without_end_is_cut_and_harms_nobody(client: Client, actions: Any, wait_until: WaitUntil, megabytes: int) -> None:
    logs = service_pid("logs")
    before = memory_of(logs)
    run = client.start(single(actions.print_much, f"loud-{megabytes}", {"megabytes": "input.n"}), {"n": megabytes})
    coordinator = coordinator_pid(client, run, wait_until)
    at_first = memory_of(coordinator)
    most = at_first

    def is_over() -> bool:
        nonlocal most
        with suppress(FileNotFoundError, ProcessLookupError):
            most = max(most, memory_of(coordinator))
        return run.record().ended

    wait_until(is_over, 500, what="the end of the output")
    assert run.result(SECONDS) == {"result": megabytes}
    assert most - at_first < 30 * MEGABYTE
    assert memory_of(logs) - before < 150 * MEGABYTE
    lines = log_lines(client, wait_until, trace_id=run.id, event_type="%truncated%")
    assert lines
    kept = LogReader(client.storage.root).search(trace_id=run.id, limit=None)
    assert sum(len(line.message) for line in kept) < 8 * MEGABYTE
    check_history(client, run, wait_until)
