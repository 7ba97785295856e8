"""What is told to runs on Ray: it is durable before its answer, counts once by its key, and its errors arrive as themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.integration.helpers import SECONDS, check_history, coordinator_pid, kill_hard, of_type, rows_of
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.errors import CommandRefusedError, ExpressionError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RayCluster, WaitUntil
    from wonder_ray.client import Client, Run

TOP = Path(__file__).parents[2]
ANSWER = """
import json, sys
import wonder_ray as wonder

address, storage, run_id, answer = sys.argv[1:]
with wonder.connect(address, storage=storage) as client:
    print(json.dumps(client.run(run_id).answer("age", json.loads(answer), by="test", key=answer)))
"""


def waiting(run: Run, wait_until: WaitUntil, status: str = "waiting") -> None:
    """Return once the run has come to rest."""
    wait_until(lambda: (found := run.status()) is not None and found.status == status, SECONDS, what=f"the run to be {status}")


def interview() -> Workflow:
    """L3: a gate that asks again until the answer fits."""
    flow = Workflow("interview", output={"age": "state.age"})
    flow.gate("age", {"type": "integer", "minimum": 18}, input={"q": "'How old are you?'"}, output={"state.age": "result"})
    return flow


def test_a_gate_asks_again_and_every_answer_comes_from_a_new_process(
    client: Client, ray_cluster: RayCluster, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    run = client.start(interview(), {})
    waiting(run, wait_until)
    (gate,) = run.gates()
    assert (gate.node_id, gate.asked, gate.shown, gate.schema) == (
        "age",
        1,
        {"q": "How old are you?"},
        {"type": "integer", "minimum": 18},
    )
    replies = []
    for number, answer in enumerate((13, "x", 19), 1):
        command = [sys.executable, "-c", ANSWER, ray_cluster.gcs_address, str(client.storage.root), run.id, json.dumps(answer)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=TOP, check=False)
        assert done.returncode == 0, done.stderr
        replies.append(json.loads(done.stdout.splitlines()[-1]))
        if number < 3:
            assert run.gates()[0].asked == number + 1
        if number == 1:
            kill_hard(coordinator_pid(client, run, wait_until))
    assert [reply["accepted"] for reply in replies] == [False, False, True]
    assert replies[0]["problems"] == ["13 is less than the minimum of 18"]
    assert run.result(SECONDS) == {"age": 19}
    rows = check_history(client, run, wait_until)
    assert len(of_type(rows, "gate.opened")) == 3
    assert run.answer("age", "anything", key="13") == replies[0], "also after its end, a key gets its first answer"
    with pytest.raises(CommandRefusedError, match="has ended"):
        run.answer("age", 20)
    with pytest.raises(CommandRefusedError, match="has ended"):
        run.answer("age", 20, key="another")
    assert len(rows_of(run)) == len(rows)


def conversation() -> Workflow:
    """One of everything that can be told."""
    flow = Workflow(
        "conversation", output={"got": "state.got", "limit": "state.limit"}, state={"properties": {"limit": {"type": "integer"}}}
    )
    flow.compute("begin", output={"state.limit": "1"})
    flow.wait_signal("go", payload={"type": "object"}, output={"state.got": "result"})
    flow.transition("begin", "go")
    return flow


def test_signals_queries_and_updates_are_heard_and_refused_as_themselves(client: Client, wait_until: WaitUntil) -> None:
    run = client.start(conversation(), {})
    waiting(run, wait_until)
    assert run.query("state.limit + 1") == 2
    with pytest.raises(ExpressionError):
        run.query("state.nothing")
    refused: list[Callable[[], object]] = [
        lambda: run.signal("gone"),
        lambda: run.signal("go", 5),
        lambda: run.update({"state.limit": "x"}),
        lambda: run.answer("go", 1),
        lambda: run.complete_group("g"),
    ]
    for tell in refused:
        with pytest.raises(CommandRefusedError):
            tell()
    with pytest.raises(PayloadError, match="payload: value is no JSON"):
        run.signal("go", {"when": object()})
    before = len(rows_of(run))
    assert run.update({"state.limit": 7}, key="u") == run.update({"state.limit": 8}, key="u")
    assert run.query("state.limit") == 7
    assert run.signal("go", {"a": 1}, key="s")["delivered"]
    assert run.result(SECONDS) == {"got": {"a": 1}, "limit": 7}
    rows = check_history(client, run, wait_until)
    assert before
    assert [len(of_type(rows, name)) for name in ("update.received", "signal.received")] == [1, 1]
    assert run.query("state.limit") == 7, "of a run that has ended its history tells"
    assert run.gates() == []


def test_a_signal_is_durable_when_its_answer_comes(client: Client, wait_until: WaitUntil) -> None:
    run = client.start(conversation(), {})
    waiting(run, wait_until)
    run.pause("lunch", key="p")
    assert run.signal("go", {"n": 1}, key="s")["delivered"]
    kill_hard(coordinator_pid(client, run, wait_until))
    run.resume()
    assert run.result(SECONDS)["got"] == {"n": 1}
    check_history(client, run, wait_until)


def test_a_paused_run_starts_nothing_until_it_goes_on(
    client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    flow = Workflow("lunch", output={"n": "state.n"})
    flow.node("wait", actions.wait_for, input={"path": "input"})
    flow.node("after", actions.square, input={"n": "3"}, output={"state.n": "result"})
    flow.transition("wait", "after")
    gate = tmp_path / "gate"
    run = client.start(flow, str(gate))
    wait_until(lambda: (found := run.status()) is not None and found.in_flight, SECONDS, what="the first task")
    run.pause("lunch")
    gate.touch()
    wait_until(lambda: (found := run.status()) is not None and not found.in_flight, SECONDS, what="the task to end")
    snapshot = run.status()
    assert snapshot is not None
    assert (snapshot.status, [(wait.kind, wait.name) for wait in snapshot.waiting]) == ("paused", [("pause", "lunch")])
    assert run.record().status == "paused"
    run.resume()
    run.resume()
    assert run.result(SECONDS) == {"n": 9}
    check_history(client, run, wait_until)


def test_an_open_group_is_filled_from_outside(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    flow = Workflow("filling", output={"squares": "state.squares"})
    flow.compute("begin")
    flow.node("square", actions.square, input={"n": "item"})
    flow.compute("done")
    flow.transition("begin", "square", foreach="input", group="g", open=True)
    flow.transition("square", "done", join=All("g", merge=Append("state.squares")))
    run = client.start(flow, [])
    waiting(run, wait_until)
    run.add_members("g", [2, 3], key="a")
    run.add_members("g", [2, 3], key="a")
    waiting(run, wait_until)
    with pytest.raises(CommandRefusedError, match="at least one item"):
        run.add_members("g", [])
    run.add_members("g", [5])
    run.close_group("g")
    assert run.result(SECONDS) == {"squares": [4, 9, 25]}
    check_history(client, run, wait_until)


def test_the_work_of_a_run_that_fails_is_taken_back_by_tasks(
    client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    from wonder_ray.definitions.builder import undo

    flow = Workflow("trip")
    for number, node in enumerate(("flight", "hotel")):
        taken = undo(actions.noted_square, input={"n": "result", "ledger": "input"})
        flow.node(node, actions.square, input={"n": str(number + 2)}, undo=taken)
    flow.node("pay", actions.raise_value_error)
    flow.transition("flight", "hotel")
    flow.transition("hotel", "pay")
    run = client.start(flow, str(tmp_path / "ledger"))
    record = run.wait(SECONDS)
    assert record is not None
    assert record.status == "failed"
    rows = check_history(client, run, wait_until)
    assert [row["node_id"] for row in of_type(rows, "compensation.completed")] == ["hotel", "flight"]
    noted = [line.split()[0] for line in (tmp_path / "ledger").read_text().splitlines()]
    assert noted == ["undo:hotel", "undo:flight"]


def test_a_cancel_takes_work_back_on_request_and_goes_on_after_a_crash(
    client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    from wonder_ray.definitions.builder import undo

    flow = Workflow("taking-back")
    flow.node("book", actions.square, input={"n": "2"}, undo=undo(actions.wait_for, input={"path": "input"}))
    flow.gate("sure")
    flow.transition("book", "sure")
    gate = tmp_path / "gate"
    run = client.start(flow, str(gate))
    waiting(run, wait_until)
    run.cancel("changed my mind", compensate=True)
    waiting(run, wait_until, "compensating")
    with pytest.raises(CommandRefusedError, match="its end is decided"):
        run.answer("sure", 1)
    kill_hard(coordinator_pid(client, run, wait_until))
    run.resume()
    gate.touch()
    record = run.wait(SECONDS)
    assert record is not None
    assert record.status == "cancelled"
    rows = check_history(client, run, wait_until)
    assert len(of_type(rows, "compensation.completed")) == 1
    assert ray.is_initialized()
