"""The public names: each is there, documented, and typed (this file is checked by mypy, and uses what users do)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

import wonder_ray as wonder
from wonder_ray.definitions.files import format_definition, parse_definition

NAMES = [name for name in wonder.__all__ if name != "__version__"]
UNDOCUMENTED = ("INCOMING",)  # a constant has its text in its module


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(wonder, name)
    assert name in UNDOCUMENTED or (value.__doc__ or "").strip()


def test_type_checkers_see_the_same_names_as_programs() -> None:
    tree = ast.parse(Path(wonder.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (str(part.module).removeprefix("wonder_ray."), alias.name)
        for part in block.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }
    served = {(module, name) for module, names in wonder._MODULES.items() for name in names}
    assert typed == served
    assert sorted(name for _, name in served) == sorted(NAMES)


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Worfklow'; public names are INCOMING"):
        wonder.Worfklow  # noqa: B018 - the attribute is the point


def test_importing_the_package_brings_nothing_that_is_not_used() -> None:
    code = "import sys, wonder_ray; print([name for name in ('ray', 'pydantic', 'pyarrow', 'jsonschema') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


class Verdict(BaseModel):
    approved: bool


@wonder.action(timeout_s=30, retry=wonder.Retry(max_attempts=3))
def charge(amount: float) -> str:
    return f"charge of {amount}"


def refund(charge: str) -> None: ...


def every_kind() -> wonder.Workflow:
    child = wonder.Workflow("child", input={"required": ["n"]}, output={"n": "input.n"})
    child.compute("pass")
    flow = wonder.Workflow("every-kind", state={"properties": {"open": {"type": "boolean"}}}, max_depth=3, output={"o": "state"})
    flow.node(
        "charge",
        charge,
        input={"amount": "input.amount"},
        output={"state.charge": "result"},
        undo=wonder.undo(refund, input={"charge": "result"}, timeout_s=5, num_cpus=0.5),
        num_gpus=1,
        guard="!has(state.open) || state.open",
        concurrency_key="input.user",
        concurrency_limit=2,
        mutex=["till"],
    )
    flow.steps("count", [wonder.step("one", charge, input={"amount": "1.0"})], mutex="till", undo=refund_nothing)
    flow.gate("approve", Verdict, assignee="'ada'", escalate=wonder.Escalate(60, "'grace'"), output={"state.ok": "result"})
    flow.gate("choose", Literal["left", "right"], timeout_s=60)
    flow.wait_signal("paid", payload=int, retained=False)
    flow.timer("pause", 5.0)
    flow.timer("dawn", until="'2030-01-01T06:00:00Z'")
    flow.subworkflow("child", child, input={"n": "item"}, retry=[wonder.Retry(max_attempts=2)])
    flow.compute("collect", guard="true")
    flow.terminate("stop", "failed", error_type="Stopped", message="enough")
    flow.transition("charge", "count")
    flow.transition("count", ["paid", "pause"], race="first")
    flow.transition(["paid", "pause"], "approve")
    flow.transition("approve", "choose", when="result.approved")
    flow.transition("approve", "stop", priority=1)
    flow.transition("choose", "child", foreach="[1, 2, 3]", group="children", open=True)
    flow.transition("choose", "dawn", on="timed_out")
    join = wonder.MOfN(
        "group.size - group.failures", "children", merge=wonder.Append("state.n", "result.n"), blocking=True, timeout_s=60
    )
    flow.transition("child", "collect", join=join, close_groups="children")
    flow.transition("dawn", "stop", cancel=["child"], complete_groups="children")
    return flow


def refund_nothing() -> None: ...


def test_what_the_builder_makes_of_every_kind_is_sound_and_the_same_from_a_file() -> None:
    flow = every_kind()
    assert [str(problem) for problem in flow.problems()] == []
    definition = flow.definition()
    assert {node.kind for node in definition.nodes} == {
        "action",
        "steps",
        "compute",
        "gate",
        "wait_signal",
        "timer",
        "subworkflow",
        "terminate",
    }
    for form in ("json", "yaml"):
        assert parse_definition(format_definition(definition, form), form).version == definition.version
    assert [each.name for each in flow.actions] == ["charge", "refund", "refund_nothing"]
