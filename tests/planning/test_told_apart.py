"""What looks alike, and is told apart: kinds of what is kept, ways to end, branches that are left, runs that have ended."""

from __future__ import annotations

import re

import pytest

from tests.core import RUN_ID, CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import ComputeNode, GateNode, Join, SignalNode
from wonder_ray.errors import CommandRefusedError, WonderError
from wonder_ray.planning import facts
from wonder_ray.planning.forking import History


def test_an_early_answer_is_no_signal_of_the_same_name() -> None:
    definition = flow(
        act("a"),
        SignalNode(id="s", signal="go"),
        GateNode(id="go"),
        transitions=(edge("a", "s"), edge("s", "go")),
    )
    run = started(definition)
    assert run.say(facts.AnswerGate(gate="go", answer=1))["kept"]
    run.run_on()
    assert run.status == "waiting", "the signal has not come"
    run.say(facts.SignalRun(name="go"))
    assert run.status == "completed"


def test_an_early_signal_of_another_name_is_not_taken() -> None:
    definition = flow(
        act("a"), SignalNode(id="s"), SignalNode(id="other"), transitions=(edge("a", "s"), edge("s", "other")), output={}
    )
    run = started(definition)
    assert run.say(facts.SignalRun(name="other", payload=2))["kept"]
    run.run_on()
    assert (run.status, len(run.events("signal.consumed"))) == ("waiting", 0)
    run.say(facts.SignalRun(name="s", payload=1))
    assert run.status == "completed"


def test_a_node_that_failed_as_soon_as_it_was_reached_was_begun() -> None:
    definition = flow(
        act("a"),
        ComputeNode(id="c", output={"state.x": "state.nobody"}),
        act("b"),
        transitions=(edge("a", "c"), edge("c", "b", on="failed")),
    )
    run = started(definition)
    run.finish("a")
    run.run_on()
    assert run.status == "completed"
    with pytest.raises(WonderError, match="'c' began and ended within one turn"):
        History(RUN_ID, run.rows).start_of("c")


def test_an_open_group_without_a_member_goes_with_the_branch_that_it_is_in() -> None:
    definition = flow(
        ComputeNode(id="a"),
        act("b"),
        act("c"),
        act("d"),
        act("e"),
        ComputeNode(id="end"),
        transitions=(
            edge("a", "b", spawn_count=2, group="outer"),
            edge("b", "c", spawn_count=0, group="inner", open=True),
            edge("c", "d", join=Join(over="inner")),
            edge("b", "e"),
            edge("e", "end", join=Join(over="outer", strategy="any", remaining="cancel")),
        ),
    )
    run = started(definition, crash_every_turn=True)
    run.finish("b")
    run.finish("b")
    run.finish("e")
    assert run.status == "completed"
    assert len(run.events("group.cancelled")) == 2


def test_expressions_see_whose_run_it_is() -> None:
    seen = {name: f"run.{name}" for name in ("id", "workflow", "version", "started_us")}
    run = started(flow(act("a", input=seen), output={"run": "run.id + ' ' + run.workflow"}))
    (task,) = run.flying
    assert task.input == {"id": RUN_ID, "workflow": "test", "version": "v", "started_us": run.state.run.started_us}
    run.run_on()
    assert run.output == {"run": f"{RUN_ID} test"}


def test_a_run_that_has_ended_says_how() -> None:
    run: CoreRun = started(flow(act("a")))
    run.run_on()
    said = f"run {RUN_ID}: SignalRun was refused: it has ended (completed)"
    with pytest.raises(CommandRefusedError, match=re.escape(said) + "$"):
        run.say(facts.SignalRun(name="x"))
