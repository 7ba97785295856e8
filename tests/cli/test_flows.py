"""Files, inputs and labels as users name them."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from wonder_ray.bundles.store import BundleStore
from wonder_ray.cli.flows import load_flow, load_flows, parse_input, parse_labels
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import DefinitionError, PayloadError, WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOW = """
from wonder_ray.definitions.builder import Workflow
print("imported as", __name__)
def fetch(url: str) -> str:
    return url
flow = Workflow("{name}")
flow.node("fetch", fetch, input={{"url": "input"}})
"""


@pytest.fixture(autouse=True)
def _modules_and_paths_of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("flow_"):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_python_file_is_imported_under_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_flow(write(tmp_path / "flow_one.py", FLOW.format(name="one")))
    assert loaded.definition.nodes[0].model_dump()["action"] == "flow_one:fetch"
    assert isinstance(loaded.startable(tmp_path), Workflow)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "imported as flow_one\n")


def test_of_several_workflows_one_is_named(tmp_path: Path) -> None:
    text = FLOW.format(name="first") + "other = Workflow('second')\nother.compute('a')\nsame = flow\n"
    file = write(tmp_path / "flow_several.py", text)
    assert list(load_flows(file)) == ["flow", "other"]
    assert load_flow(file, "other").flow.name == "second"
    assert load_flow(file, "first").flow.name == "first"
    with pytest.raises(DefinitionError, match=r"2 workflows: choose one with --name; there are flow \('first'\), other"):
        load_flow(file)
    with pytest.raises(DefinitionError, match="no workflow 'third'"):
        load_flow(file, "third")


def test_of_a_family_the_parent_is_run_and_code_that_is_named_by_text_travels_with_whose_it_is(tmp_path: Path) -> None:
    write(tmp_path / "flow_undos.py", "def back(): ...\n")
    write(tmp_path / "flow_work.py", "def go(): ...\n")
    text = """
from wonder_ray.definitions.builder import Workflow
child = Workflow("child")
child.node("a", "flow_work:go", undo="flow_undos:back")
parent = Workflow("parent")
parent.subworkflow("b", child)
"""
    loaded = load_flow(write(tmp_path / "flow_family.py", text))
    assert loaded.flow.name == "parent"
    started = loaded.startable(tmp_path / "storage")
    assert isinstance(started, Workflow)
    child = started.descendants()[0]
    assert isinstance(child, Workflow)
    assert [module.__name__ for module in child.modules] == ["flow_undos", "flow_work"]
    assert started.modules == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "no Workflow at module level"),
        ("x = 1\nraise ValueError('unlucky')\n", r"flow_bad\.py:2: ValueError: unlucky"),
        ("import sys\n\nsys.exit(3)\n", r"flow_bad\.py:3: SystemExit: 3"),
        ("def f(:\n", r"flow_bad\.py:1: SyntaxError"),
        ("import nothing_of_this_name\n", r"flow_bad\.py:1: ModuleNotFoundError"),
        ("from wonder_ray.definitions.builder import Workflow\nf = Workflow('w')\nf.node('a', 5)\n", r"flow_bad\.py:3: node 'a'"),
    ],
)
def test_a_python_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "flow_bad.py", text)
    with pytest.raises(DefinitionError, match=message):
        load_flow(file)


def test_a_name_that_something_else_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="rename the file"):
        load_flow(write(tmp_path / "json.py", FLOW.format(name="w")))


def test_a_missing_file_and_an_unknown_kind_are_told(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no such file"):
        load_flow(tmp_path / "flow_none.py")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_flow(tmp_path / "none.yaml")
    with pytest.raises(DefinitionError, match=r"\.json"):
        load_flow(write(tmp_path / "w.toml", ""))
    with pytest.raises(DefinitionError, match=r"only a \.py"):
        load_flow(write(tmp_path / "w.yaml", ""), "w")


def test_the_modules_beside_a_definition_travel_with_it(tmp_path: Path) -> None:
    write(tmp_path / "flow_steps.py", "def fetch(url):\n    return url\n")
    file = write(
        tmp_path / "w.yaml", "name: w\nnodes: {a: {action: 'flow_steps:fetch', input: {url: input}}, b: {action: 'json:dumps'}}\n"
    )
    loaded = load_flow(file)
    assert [module.__name__ for module in loaded.modules] == ["flow_steps"]
    started = loaded.startable(tmp_path / "storage")
    assert not isinstance(started, Workflow)
    assert started.bundle is not None
    assert b"flow_steps.py" in BundleStore(tmp_path / "storage").read(started.bundle)


def test_an_action_that_its_module_lacks_is_told_before_anything_starts(tmp_path: Path) -> None:
    write(tmp_path / "flow_lacking.py", "def fetch(url):\n    return url\n")
    file = write(tmp_path / "w.yaml", "name: w\nnodes: {a: {action: 'flow_lacking:ftech'}}\n")
    with pytest.raises(DefinitionError, match=r"flow_lacking\.py has no 'ftech'"):
        load_flow(file)


def test_inputs_come_from_the_argument_a_file_or_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "in.json", '\ufeff{"n": 2}')
    monkeypatch.setattr(sys, "stdin", io.StringIO("[3]"))
    assert [parse_input(text) for text in (None, '{"n": 1}', f"@{file}", "-", "null")] == [None, {"n": 1}, {"n": 2}, [3], None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{n: 1}", "--input: not a JSON text.*quote it"),
        ("", "not a JSON"),
        ("NaN", "not a JSON"),
        ("@none.json", "cannot be read"),
    ],
)
def test_an_input_that_is_no_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        parse_input(text)


@pytest.mark.parametrize("text", ["team", "=data", ""])
def test_a_label_has_a_name_and_a_value(text: str) -> None:
    assert parse_labels(["a=", "b=c=d"]) == {"a": "", "b": "c=d"}
    with pytest.raises(WonderError, match="name=value"):
        parse_labels([text])
