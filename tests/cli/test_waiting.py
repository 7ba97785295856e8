"""Runs that wait, are paused, have children or come from others, as `gates`, `show`, `state`, `query` and `runs` tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import register, send
from tests.core import CoreRun
from tests.planning.test_waits import act, edge, flow
from wonder_ray.definitions.models import GateNode, SignalNode, SubworkflowNode, Undo, WorkflowDefinition
from wonder_ray.events.service import EventService
from wonder_ray.planning import facts
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.storage.layout import Layout
from wonder_ray.values import canonical

if TYPE_CHECKING:
    from pathlib import Path

PARENT = "run_0192f0c1a2b1_0000000000000001"
CHILD = "run_0192f0c1a2b2_0000000000000002"
PAUSED = "run_0192f0c1a2b3_0000000000000003"
BACK = "run_0192f0c1a2b4_0000000000000004"
FORK = "run_0192f0c1a2b5_0000000000000005"


def asking() -> WorkflowDefinition:
    gate = GateNode(id="approve", answer={"type": "boolean"}, assignee="'ann'", input={"n": "item"})
    return flow(
        act("spread", output={"state.n": "3"}),
        gate,
        SignalNode(id="paid"),
        transitions=(edge("spread", "approve", foreach="[1, 2]"), edge("spread", "paid")),
    ).model_copy(update={"name": "asking"})


def delegating() -> WorkflowDefinition:
    return flow(SubworkflowNode(id="ask", workflow="asking")).model_copy(update={"name": "delegating"})


def taking_back() -> WorkflowDefinition:
    return flow(act("book", undo=Undo(action="m:u", input={"id": "result"})), act("pay"), transitions=(edge("book", "pay"),))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waiting")
    layout = Layout(folder).prepare()
    registry = ResourcesStore(layout.resources)
    for definition in (asking(), delegating(), taking_back()):
        registry.put_definition(canonical(definition.to_json()))
    runs = {PARENT: CoreRun(delegating()), CHILD: CoreRun(asking()), PAUSED: CoreRun(asking()), BACK: CoreRun(taking_back())}
    for run in runs.values():
        run.start()
    for run_id in (CHILD, PAUSED):
        runs[run_id].finish("spread")
    runs[PAUSED].say(facts.PauseRun(reason="lunch"))
    runs[PAUSED].say(facts.SignalRun(name="paid", payload={"id": 1}))
    runs[PAUSED].say(facts.SignalRun(name="paid", payload={"id": 2}))
    runs[BACK].finish("book")
    runs[BACK].say(facts.CancelRun(reason="no", compensate=True))
    forked = CoreRun(taking_back())
    forked.start()
    more: dict[str, Any] = {CHILD: {"parent_run_id": PARENT, "root_run_id": PARENT, "depth": 1}}
    more[FORK] = {"fork": f'{{"run_id":"{BACK}","sequence":4,"changes":{{"state.n":1}}}}'.encode()}
    with EventService(folder) as service:
        for run_id, run in (*runs.items(), (FORK, forked)):
            record = register(registry, run_id, run, workflow=run.definition.name, **more.get(run_id, {}))
            service.open(run_id, 1)
            send(service, record, "events", run.rows)
    registry.close()
    return folder


def look(storage: Path, *args: object) -> list[str]:
    found = invoke(*args, "--storage", storage)
    assert (found.code, found.err) == (0, "")
    return found.out.splitlines()


def test_gates_of_all_runs_are_listed_with_what_to_type(storage: Path) -> None:
    lines = look(storage, "gates")
    said = [line for line in lines if not line.startswith("  ")]
    assert [line.split(":")[0] for line in said] == [f"{CHILD}  asking"] * 3 + [f"{PAUSED}  asking"] * 3
    assert said[0].endswith("""gate 'approve' asks ann: {"n":1}""")
    assert "is paused: lunch" in said[3]
    typed = [line.split()[:4] for line in lines if line.startswith("  ")]
    expected = [
        ("answer", CHILD),
        ("answer", CHILD),
        ("signal", CHILD),
        ("resume", PAUSED),
        ("answer", PAUSED),
        ("answer", PAUSED),
    ]
    assert [tuple(words[1:3]) for words in typed] == expected
    assert all(words[3].startswith("t_") for words in typed if words[1] == "answer"), "two are open at the node"
    assert lines[1].endswith(f"true --storage {storage}")


def test_gates_of_a_run_and_those_below_it_are_json_on_request(storage: Path) -> None:
    found = invoke("gates", PARENT, "--json", "--storage", storage).lines
    assert [(each["run_id"], each["kind"], each["node_id"]) for each in found] == [
        (CHILD, "gate", "approve"),
        (CHILD, "gate", "approve"),
        (CHILD, "signal", "paid"),
    ]
    assert (found[0]["assignee"], found[0]["schema"], found[2]["name"]) == ("ann", {"type": "boolean"}, "paid")
    assert look(storage, "gates", FORK) == ["nothing waits for anybody"]


def test_show_tells_lineage_waits_pauses_and_what_is_taken_back(storage: Path) -> None:
    parent = look(storage, "show", PARENT)
    assert f"children    1: {CHILD} (waiting)" in parent
    assert any(line.startswith("  node 'ask' waits for its child run run_") for line in parent)
    child = look(storage, "show", CHILD)
    assert f"parent      {PARENT}" in child
    assert "  node 'paid' waits for the signal 'paid'" in child
    assert f"    wonder signal {CHILD} paid --storage {storage}" in child
    paused = look(storage, "show", PAUSED)
    assert "status      paused" in paused
    assert f"    wonder resume {PAUSED} --storage {storage}" in paused
    back = look(storage, "show", BACK)
    assert "status      compensating" in back
    assert "will end    cancelled, 1 nodes to take back" in back
    fork = look(storage, "show", FORK)
    assert f'forked from {BACK} after event 4, with {{"state.n":1}}' in fork


def test_show_as_json_has_the_same(storage: Path) -> None:
    paused = invoke("show", PAUSED, "--json", "--storage", storage).json
    assert (paused["status"], paused["pause_reason"]) == ("paused", "lunch")
    assert [wait["kind"] for wait in paused["waiting"]] == ["pause", "gate", "gate"]
    parent = invoke("show", PARENT, "--json", "--storage", storage).json
    assert [(child["run_id"], child["status"], child["workflow_name"]) for child in parent["children"]] == [
        (CHILD, "waiting", "asking")
    ]
    back = invoke("show", BACK, "--json", "--storage", storage).json
    assert (back["ending"], back["undos"]) == ({"status": "cancelled", "reason": "no"}, 1)
    assert invoke("show", FORK, "--json", "--storage", storage).json["fork"]["run_id"] == BACK


def test_state_tells_what_is_kept_children_and_what_can_be_taken_back(storage: Path) -> None:
    assert any(line.startswith('  kept signal for paid: {"id":2}') for line in look(storage, "state", PAUSED))
    assert any(line.endswith("  asking") and line.startswith("  child run_") for line in look(storage, "state", PARENT))
    assert any(line.startswith("  can be taken back: undo:book") for line in look(storage, "state", BACK))
    found = invoke("state", PAUSED, "--json", "--storage", storage).json
    assert [kept["payload"] for kept in found["kept"]] == [{"id": 2}]


def test_a_query_is_answered_from_the_storage(storage: Path) -> None:
    assert look(storage, "query", CHILD, "state.n + 1") == ["4"]
    found = invoke("query", CHILD, "state", "--json", "--storage", storage).json
    assert found["value"] == {"n": 3}
    assert found["after"] > 3
    wrong = invoke("query", CHILD, "state.nothing", "--storage", storage)
    assert (wrong.code, wrong.out) == (2, "")
    assert "nothing" in wrong.err


def test_runs_are_listed_by_their_new_statuses(storage: Path) -> None:
    found = [line.split()[:2] for line in look(storage, "runs")]
    assert found == [[FORK, "running"], [BACK, "compensating"], [PAUSED, "paused"], [CHILD, "waiting"], [PARENT, "waiting"]]
    assert [line.split()[0] for line in look(storage, "runs", "--status", "waiting")] == [CHILD, PARENT]
