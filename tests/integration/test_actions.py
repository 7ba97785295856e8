"""What actions do and report: attempts, steps, async code, output, usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from tests.integration.helpers import SECONDS, check_history, of_type
from wonder_ray.definitions.builder import Workflow, step
from wonder_ray.definitions.joins import All, Append
from wonder_ray.definitions.models import Retry
from wonder_ray.logs.query import LogReader

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client


def test_a_failing_attempt_is_made_again_after_its_backoff(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    flow = Workflow("retrying", output={"attempt": "state.attempt"})
    retry = Retry(max_attempts=3, backoff_s=0.3, multiplier=2, jitter=0)
    flow.node("flaky", actions.fail_until, input={"attempts": "3"}, output={"state.attempt": "result"}, retry=retry)
    run = client.start(flow, {})
    assert run.result(SECONDS) == {"attempt": 3}
    rows = check_history(client, run, wait_until)
    failed, sent = of_type(rows, "task.failed"), of_type(rows, "task.dispatched")
    assert [row["attempt"] for row in sent] == [1, 2, 3]
    waits_s = [(again["turn_now"] - row["turn_now"]) / 1e6 for row, again in zip(failed, sent[1:], strict=True)]
    assert waits_s[0] >= 0.3
    assert waits_s[1] >= 0.6


def test_async_actions_run(client: Client, actions: Any) -> None:
    flow = Workflow("async", output={"all": "state.all"})
    flow.node("spread", actions.spread, input={"n": "30"}, output={"state.numbers": "result"})
    flow.node("fetch", actions.fetch, input={"n": "item"})
    flow.compute("done")
    flow.transition("spread", "fetch", foreach="state.numbers", group="g")
    flow.transition("fetch", "done", join=All("g", merge=Append("state.all")))
    assert client.start(flow, {}).result(SECONDS) == {"all": list(range(1, 31))}


def test_steps_run_in_one_task(client: Client, actions: Any) -> None:
    flow = Workflow("stepwise", output={"found": "state.found"})
    steps = [
        step("square", actions.square, input={"n": "input.n"}, output={"state.n": "result"}),
        step("never", actions.raise_value_error, when="state.n > 1000"),
        step("broken", actions.raise_value_error, on_failure="continue"),
        step("add", actions.add, input={"a": "state.n"}, output={"output.n": "result"}),
        step("where", actions.process, input={"n": "1"}, output={"output.pid": "result"}),
    ]
    flow.steps("all", steps, input={"n": "input.n"}, output={"state.found": "result"})
    run = client.start(flow, {"n": 5})
    found = run.result(SECONDS)["found"]
    assert found["n"] == 26
    assert len(of_type([row.as_dict() for row in run.events()], "task.completed")) == 1


def test_output_and_usage_arrive_where_they_belong(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    flow = Workflow("reporting", output={"word": "state.word"})
    flow.node("talk", actions.chatter, input={"word": "input.word"}, output={"state.word": "result"})
    flow.node("spend", actions.spend, input={"tokens": "1250"})
    flow.transition("talk", "spend")
    run = client.start(flow, {"word": "abracadabra"})
    assert run.result(SECONDS) == {"word": "abracadabra"}
    rows = check_history(client, run, wait_until)
    reader = LogReader(client.storage.root)
    expected = {"printed abracadabra", "to stderr abracadabra", "logged abracadabra"}

    def found() -> Any:
        lines = reader.search(trace_id=run.id, node_id="talk", text="abracadabra")
        return lines if expected <= {line.message for line in lines} else []

    lines = wait_until(found, SECONDS, what="the lines of user code")
    token = of_type(rows, "task.completed")[0]["token_id"]
    assert {(line.service, line.token_id, line.attempt) for line in lines if line.message in expected} == {("executor", token, 1)}
    spent = of_type(rows, "task.completed")[1]
    assert (spent["node_id"], spent["tokens"], spent["cost_usd"]) == ("spend", 1250, 0.25)
    table = ds.dataset(client.storage.events, partitioning="hive").to_table(filter=ds.field("workflow_run_id") == run.id)
    used = [row for row in table.to_pylist() if row["tokens"] is not None]
    assert [(row["event_type"], row["tokens"], row["cost_usd"]) for row in used] == [("task.completed", 1250, 0.25)]


def test_a_second_run_finds_warm_workers(client: Client, actions: Any) -> None:
    """Executors import once per process, and processes are shared by runs."""
    flow = Workflow("warm", output={"pid": "state.pid"})
    flow.node("where", actions.process, input={"n": "1"}, output={"state.pid": "result"})
    pids = [client.start(flow, {}).result(SECONDS)["pid"] for _ in range(4)]
    assert len(set(pids)) < 4
