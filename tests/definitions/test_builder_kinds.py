"""The builder's gates, signals, timers, ends, child workflows, undos and rarer settings: from the words to the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from pydantic import BaseModel

from wonder_ray.definitions import models
from wonder_ray.definitions.builder import Escalate, Workflow, step, undo
from wonder_ray.definitions.joins import All, Any, MOfN
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import DefinitionError
from wonder_ray.executor.registry import action

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(BaseModel):
    approved: bool
    reason: str = ""


@action(retry=Retry(max_attempts=5), timeout_s=9, num_cpus=0.5)
def refund(payment: str) -> None: ...


def forget() -> None: ...


def pay(amount: float) -> str:
    return f"paid {amount}"


def built(add: Callable[[Workflow], object]) -> models.Node:
    flow = Workflow("w")
    add(flow)
    return flow._definition({}).nodes[0]


def test_a_gate() -> None:
    node = built(
        lambda flow: flow.gate(
            "approve",
            Verdict,
            assignee="input.owner",
            input={"sum": "input.sum"},
            output={"state.verdict": "result"},
            timeout_s=60,
            escalate=Escalate(30, "'boss'"),
            guard="input.open",
        )
    )
    assert node == models.GateNode(
        id="approve",
        answer=Verdict.model_json_schema(),
        assignee="input.owner",
        input={"sum": "input.sum"},
        output={"state.verdict": "result"},
        timeout_s=60,
        escalate=(models.Escalation(after_s=30, assignee="'boss'"),),
        guard="input.open",
    )


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (None, None),
        (bool, {"type": "boolean"}),
        (Literal["yes", "no"], {"enum": ["yes", "no"], "type": "string"}),
        (list[int], {"items": {"type": "integer"}, "type": "array"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ({"type": "string"}, {"type": "string"}),
    ],
)
def test_what_is_asked_for_can_be_a_type_or_a_schema(answer: object, schema: object) -> None:
    gate = built(lambda flow: flow.gate("a", answer))
    signal = built(lambda flow: flow.wait_signal("a", payload=answer))
    assert isinstance(gate, models.GateNode)
    assert isinstance(signal, models.SignalNode)
    assert gate.answer == signal.payload == schema
    assert Workflow("w", state=answer)._head["state"] == schema


def test_a_signal_a_timer_and_an_end() -> None:
    assert built(lambda flow: flow.wait_signal("paid", "payment", retained=False, timeout_s=5)) == models.SignalNode(
        id="paid", signal="payment", retained=False, timeout_s=5
    )
    assert built(lambda flow: flow.timer("t", 5)) == models.TimerNode(id="t", duration_s=5)
    assert built(lambda flow: flow.timer("t", until="input.at")) == models.TimerNode(id="t", until="input.at")
    assert built(lambda flow: flow.terminate("end")) == models.TerminateNode(id="end")
    assert built(lambda flow: flow.terminate("end", "failed", error_type="No", message="x")) == models.TerminateNode(
        id="end", status="failed", error_type="No", message="x"
    )


@pytest.mark.parametrize(
    "add",
    [
        lambda flow, **common: flow.node("a", "m:f", **common),
        lambda flow, **common: flow.steps("a", [step("s", "m:f")], **common),
        lambda flow, **common: flow.compute("a", **common),
        lambda flow, **common: flow.gate("a", **common),
        lambda flow, **common: flow.wait_signal("a", **common),
        lambda flow, **common: flow.timer("a", 1, **common),
        lambda flow, **common: flow.terminate("a", **common),
        lambda flow, **common: flow.subworkflow("a", "other", **common),
    ],
)
def test_every_kind_takes_the_common_settings_and_no_others(add: Callable[..., str]) -> None:
    node = built(lambda flow: add(flow, guard="true", concurrency_key="input.k", concurrency_limit=2, mutex="m", start=True))
    assert (node.guard, node.concurrency_key, node.concurrency_limit, node.mutex) == ("true", "input.k", 2, ("m",))
    assert built(lambda flow: add(flow, mutex=["m", "n"])).mutex == ("m", "n")
    with pytest.raises(DefinitionError, match=r"node 'a': unknown setting 'gaurd'; did you mean 'guard'\?"):
        add(Workflow("w"), gaurd="true")


class TestUndo:
    def test_the_action_of_an_undo_brings_its_options_and_belongs_to_the_code(self) -> None:
        flow = Workflow("w")
        flow.node("pay", pay, input={"amount": "1.0"}, undo=undo(refund, input={"payment": "result"}, timeout_s=3))
        node = flow.definition().nodes[0]
        assert isinstance(node, models.ActionNode)
        assert node.undo == models.Undo(
            action=str(refund.ref),
            input={"payment": "result"},
            retry=(Retry(max_attempts=5),),
            timeout_s=3,
            resources=models.Resources(num_cpus=0.5),
        )
        assert [each.name for each in flow.actions] == ["pay", "refund"]

    @pytest.mark.parametrize("given", [forget, undo(forget), "m:forget", models.Undo(action="m:forget")])
    def test_it_may_be_a_function_a_name_or_a_model(self, given: object) -> None:
        flow = Workflow("w")
        flow.node("a", "m:a", undo=given)  # type: ignore[arg-type] # the types of a table
        flow.steps("b", [step("s", "m:s")], undo=given)  # type: ignore[arg-type] # as above
        flow.subworkflow("c", "other", undo=given)  # type: ignore[arg-type] # as above
        for node in flow.definition().nodes:
            assert isinstance(node, models.ActionNode | models.StepsNode | models.SubworkflowNode)
            assert node.undo is not None
            assert node.undo.action.endswith(("forget", ":forget"))

    def test_its_parameters_are_checked(self) -> None:
        with pytest.raises(DefinitionError, match=r"node 'a', undo: parameter 'payment' of .* gets no value"):
            Workflow("w").node("a", "m:a", undo=refund)
        with pytest.raises(DefinitionError, match=r"undo: .*refund has no parameter 'pay'"):
            undo(refund, input={"payment": "result", "pay": "1"})
        with pytest.raises(DefinitionError, match="node 'a', undo: Verdict is a class"):
            Workflow("w").node("a", "m:a", undo=Verdict)


class TestTransitions:
    def test_races_open_groups_and_effects(self) -> None:
        flow = Workflow("w")
        flow.transition("a", ["b", "c"], race="first")
        flow.transition(
            "a", "d", group="g", open=True, cancel="b", cancel_groups=["g", "h"], complete_groups="i", close_groups="j"
        )
        first, second, third = flow._transitions
        assert (first.race, second.race, third.race) == ("first", "first", None)
        assert (third.open, third.cancel, third.cancel_groups) == (True, ("b",), ("g", "h"))
        assert (third.complete_groups, third.close_groups) == (("i",), ("j",))

    def test_an_unknown_setting(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"transition 'a->b': unknown setting 'cancel_group'; did you mean 'cancel_groups'"
        ):
            Workflow("w").transition("a", "b", cancel_group="g")  # type: ignore[call-arg] # the point of the test

    def test_joins_that_block_or_give_up(self) -> None:
        assert All("g", blocking=True).blocking
        join = Any("g", timeout_s=5, on_timeout="proceed_with_available")
        assert (join.timeout_s, join.on_timeout, join.blocking) == (5, "proceed_with_available", False)
        assert MOfN(2, "g", blocking=True, timeout_s=1).timeout_s == 1
        with pytest.raises(DefinitionError, match="join over 'g', timeout_s: Input should be greater than 0"):
            All("g", timeout_s=0)
        with pytest.raises(DefinitionError, match=r"join over 'g': unknown setting 'timeout'; did you mean 'timeout_s'\?"):
            Any("g", timeout=5)  # type: ignore[call-arg] # the point of the test


class TestChildren:
    def child(self) -> Workflow:
        flow = Workflow("child", input={"required": ["n"], "properties": {"n": {}}, "additionalProperties": False})
        flow.node("pay", pay, input={"amount": "input.n"})
        return flow

    def test_a_name_and_a_version(self) -> None:
        flow = Workflow("w")
        flow.subworkflow("a", "other", input={"x": "1"}, retry=Retry(max_attempts=2), timeout_s=5)
        flow.subworkflow("b", "other", version="0" * 64)
        first, second = flow.definition().nodes
        assert first == models.SubworkflowNode(
            id="a", workflow="other", input={"x": "1"}, retry=(Retry(max_attempts=2),), timeout_s=5
        )
        assert second == models.SubworkflowNode(id="b", workflow="other", version="0" * 64)
        assert flow.children == {}

    def test_a_workflow_is_pinned_to_the_version_it_is_registered_under(self) -> None:
        flow, child = Workflow("w"), self.child()
        flow.subworkflow("a", child, input={"n": "1"})
        flow.subworkflow("b", child, input={"n": "2"})
        assert flow.children == {"a": child, "b": child}
        assert flow.descendants() == [child]
        found = flow.definition(versions={"a": "1" * 64, "b": "2" * 64}).nodes
        assert [node.version for node in found if isinstance(node, models.SubworkflowNode)] == ["1" * 64, "2" * 64]
        assert flow.actions == ()

    def test_a_definition_is_pinned_at_once(self) -> None:
        flow, child = Workflow("w"), self.child().definition()
        flow.subworkflow("a", child, input={"n": "1"})
        node = flow.definition().nodes[0]
        assert isinstance(node, models.SubworkflowNode)
        assert node.version == child.version
        assert flow.children == {"a": child}

    def test_recursion_is_by_name(self) -> None:
        flow = Workflow("w")
        flow.compute("begin")
        flow.subworkflow("again", flow)
        flow.transition("begin", "again", when="run.depth < 3")
        node = flow.definition().nodes[1]
        assert isinstance(node, models.SubworkflowNode)
        assert (node.workflow, node.version, flow.children) == ("w", "latest", {})

    def test_workflows_that_run_each_other(self) -> None:
        one, two, three = Workflow("one"), Workflow("two"), Workflow("three")
        one.subworkflow("a", two)
        two.subworkflow("b", three)
        assert one.descendants() == [two, three]
        with pytest.raises(DefinitionError, match=r"node 'c': 'one' runs 'three' in turn, .* subworkflow\('c', 'one'\)"):
            three.subworkflow("c", one)

    def test_what_is_refused(self) -> None:
        flow = Workflow("child")
        with pytest.raises(DefinitionError, match="node 'a': another workflow that is called 'child', too; rename one"):
            flow.subworkflow("a", self.child(), input={"n": "1"})
        flow = Workflow("w")
        with pytest.raises(DefinitionError, match="node 'a', version: it is told by the workflow 'child' that is given"):
            flow.subworkflow("a", self.child(), version="0" * 64)
        with pytest.raises(DefinitionError, match="node 'a': workflow 'child' requires the input 'n'; add input="):
            flow.subworkflow("a", self.child())
        with pytest.raises(DefinitionError, match=r"node 'a': workflow 'child' has no input 'm'; known are 'n'"):
            flow.subworkflow("a", self.child(), input={"n": "1", "m": "2"})
