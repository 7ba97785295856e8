"""Runs that wait, answered from the command line: on one Ray, and from a second terminal while the first one's lives."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import invoke
from tests.cli.test_run_on_ray import finish, folder, read_until, start
from wonder_ray.reading import Reader

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["folder"]

FLOW = """
import wonder_ray as wonder


def price(item: str) -> int:
    return len(item)


flow = wonder.Workflow("buying", output={"price": "state.price", "paid": "state.paid"})
flow.node("price", price, input={"item": "input"}, output={"state.price": "result"})
flow.gate("approve", bool, assignee="'ann'", input={"price": "state.price"}, output={"state.ok": "result"})
flow.wait_signal("paid", output={"state.paid": "result.id"})
flow.transition("price", "approve")
flow.transition("approve", "paid", when="state.ok")

boss = wonder.Workflow("boss", output={"paid": "state.paid"})
boss.subworkflow("buy", flow, input={"item": "input"}, output={"state.paid": "result.paid"})
"""


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("flows") / "buying_on_ray.py"
    file.write_text(FLOW, encoding="utf-8")
    return file


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_carried_from_wait_to_wait(folder: Path, flow: Path) -> None:
    there = ("--storage", folder)
    begun = invoke("run", flow, "--name", "flow", "--input", '"book"', "--until-wait", "--json", *there)
    assert begun.code == 0, begun.err
    run_id = begun.json["run_id"]
    assert (begun.json["status"], [wait["node_id"] for wait in begun.json["waiting"]]) == ("waiting", ["approve"])
    typed = f"  wonder answer {run_id} approve true --storage {folder}"
    assert ["gate 'approve' asks ann: {\"price\":4}", typed] == begun.err.splitlines()[-2:]
    refused = invoke("answer", run_id, "approve", '"perhaps"', "--follow", "--json", *there)
    assert (refused.code, refused.json["accepted"], refused.json["waiting"][0]["asked"]) == (1, False, 2)
    assert invoke("query", run_id, "state.price", *there).out == "4\n"
    unknown = invoke("answer", run_id, "aprove", "true", *there)
    assert unknown.code == 2
    assert "there is no gate 'aprove'; its gates are 'approve'" in unknown.err
    answered = invoke("answer", run_id, "approve", "true", "--key", "a", "--follow", "--json", *there)
    assert (answered.code, answered.json["accepted"], answered.json["status"]) == (0, True, "waiting")
    assert f"wonder signal {run_id} paid --storage {folder}" in answered.err
    paid = invoke("signal", run_id, "paid", "--payload", '{"id": 7}', "--follow", "--json", *there)
    assert (paid.code, paid.json["delivered"], paid.json["output"]) == (0, True, {"price": 4, "paid": 7})
    again = invoke("answer", run_id, "approve", "true", "--key", "a", "--json", *there)
    assert (again.code, again.json["accepted"], again.json["status"]) == (0, True, "completed")
    forked = invoke("fork", run_id, "--set", "state.price=9", "--until-wait", "--json", *there)
    assert (forked.code, forked.json["waiting"][0]["kind"]) == (0, "signal"), forked.err
    assert f"forked from {run_id}" in invoke("show", forked.json["run_id"], *there).out
    ended = invoke("signal", forked.json["run_id"], "paid", "--payload", '{"id": 8}', "--follow", "--json", *there)
    assert ended.json["output"] == {"price": 9, "paid": 8}
    assert invoke("cancel", forked.json["run_id"], *there).code == 1


@pytest.mark.usefixtures("ray_cluster")
def test_a_child_that_waits_is_told_with_its_parent_which_goes_on(folder: Path, flow: Path) -> None:
    there = ("--storage", folder)
    begun = invoke("run", flow, "--input", '"book"', "--until-wait", "--json", *there)
    assert begun.code == 0, begun.err
    assert [wait["kind"] for wait in begun.json["waiting"]] == ["child", "gate"]
    child = begun.json["waiting"][1]["run_id"]
    paused = invoke("pause", child, "--reason", "lunch", "--json", *there)
    assert (paused.code, paused.json["ok"]) == (0, True)
    parent = invoke("resume", begun.json["run_id"], "--until-wait", "--json", *there)
    assert [wait["kind"] for wait in parent.json["waiting"]] == ["child", "pause", "gate"]
    resumed = invoke("resume", child, "--until-wait", "--json", *there)
    assert [(wait["run_id"], wait["kind"]) for wait in resumed.json["waiting"]] == [(child, "gate")]
    assert invoke("answer", child, "approve", "true", *there).out == f"run {child}: accepted\n"
    assert invoke("signal", child, "paid", "--payload", '{"id": 1}', *there).out == f"run {child}: delivered\n"
    ended = invoke("resume", begun.json["run_id"], "--json", *there)
    assert (ended.code, ended.json["output"]) == (0, {"paid": 1})


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_run_that_waits_is_answered_from_another_terminal_and_later(flow: Path, storage: Path) -> None:
    with start("run", flow, "--name", "flow", "--input", '"book"', "--json", "--storage", storage) as process:
        typed = shlex.split(read_until(process.stderr, "wonder answer").splitlines()[-1])
        with start(*typed[1:], "--json") as other:
            answered = finish(other)
        assert (answered.code, answered.json["accepted"]) == (0, True), answered.err
        read_until(process.stderr, "wonder signal")
        process.kill()
        finish(process)
    run_id = Reader(storage).record("latest").run_id
    with start("signal", run_id, "paid", "--payload", '{"id": 7}', "--json", "--storage", storage) as process:
        ended = finish(process)
    assert ended.code == 0, ended.err
    assert ended.json["output"] == {"price": 4, "paid": 7}
