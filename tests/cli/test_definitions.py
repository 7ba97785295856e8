"""`wonder validate` and `wonder import`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.prepared import crawl
from wonder_ray.definitions.files import dump_definition, load_definition

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call

PROBLEM_KEYS = {"severity", "message", "workflow", "node", "transition", "field", "mend", "text"}
FLOW_YAML = """
name: w
nodes: {a: {action: 'm:f', input: {n: 'inputt.n'}}, b: {action: 'm:g'}}
transitions: [{from: a, to: c}]
"""
WFFORMAT = {
    "name": "tiny",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "one", "id": "one", "parents": [], "children": ["two"], "inputFiles": [], "outputFiles": []},
                {"name": "two", "id": "two", "parents": ["one"], "children": [], "inputFiles": [], "outputFiles": []},
            ],
            "files": [],
        },
        "execution": {
            "makespanInSeconds": 3,
            "executedAt": "2026-01-01T00:00:00Z",
            "tasks": [{"id": "one", "runtimeInSeconds": 1.0}, {"id": "two", "runtimeInSeconds": 2.0}],
            "machines": [],
        },
    },
}


def test_a_sound_definition_is_ok(wonder: Call, tmp_path: Path) -> None:
    dump_definition(crawl(), tmp_path / "w.json")
    found = wonder("validate", tmp_path / "w.json", "--json")
    assert (found.code, found.json["ok"], found.json["workflows"]) == (0, True, ["crawl"])
    people = wonder("validate", tmp_path / "w.json")
    assert (people.code, people.err) == (0, "")
    assert "crawl: " in people.out


def test_every_problem_has_its_node_field_and_mend(wonder: Call, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(FLOW_YAML, encoding="utf-8")
    found = wonder("validate", file, "--json")
    assert found.code == 2
    problems = found.json["problems"]
    assert all(set(problem) == PROBLEM_KEYS for problem in problems)
    errors = [problem for problem in problems if problem["severity"] == "error"]
    assert {(problem["node"], problem["transition"], problem["field"]) for problem in errors} >= {(None, "a->c", "to")}
    assert all(problem["mend"] for problem in errors)
    people = wonder("validate", file)
    assert people.code == 2
    assert "error: transition 'a->c', to: unknown node 'c'" in people.err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.json", "{", "not a JSON text"),
        ("w.json", '{"name": "w", "nodes": [{"id": "a", "acton": "m:f"}]}', "did you mean 'action'?"),
        ("w.yaml", "", "is empty"),
        ("none.json", None, "cannot be read"),
        ("flow_validated_bad.py", "1/0", "flow_validated_bad.py:1: ZeroDivisionError"),
    ],
)
def test_what_is_no_definition_is_one_problem(wonder: Call, tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = wonder("validate", tmp_path / name, "--json")
    assert (found.code, found.json["ok"], len(found.json["problems"])) == (2, False, 1)
    assert message in found.json["problems"][0]["message"]
    assert message in wonder("validate", tmp_path / name).err


def test_a_python_file_is_checked_with_all_its_workflows(wonder: Call, tmp_path: Path) -> None:
    file = tmp_path / "flow_validated.py"
    file.write_text(
        "from wonder_ray.definitions.builder import Workflow\n"
        "good = Workflow('good', output={'n': 'state.n'})\ngood.compute('a', output={'state.n': '1'})\n"
        "bad = Workflow('bad')\nbad.compute('a')\nbad.transition('a', 'b')\n",
        encoding="utf-8",
    )
    both = wonder("validate", file, "--json")
    assert (both.code, both.json["workflows"]) == (2, ["good", "bad"])
    assert {problem["workflow"] for problem in both.json["problems"] if problem["severity"] == "error"} == {"bad"}
    assert [told["workflow"] for told in both.json["soundness"]] == ["good"]
    assert wonder("validate", file, "--name", "good").code == 0


RISKY_YAML = """
name: risky
nodes: {a: {action: "m:a"}, b: {action: "m:b"}, c: {action: "m:c"}, j: {action: "m:j"}}
transitions:
  - {from: a, to: b, group: g}
  - {from: a, to: c, group: g}
  - {from: b, to: j, join: {over: g, strategy: m_of_n, m: 2}, when: input.x}
  - {from: c, to: j, join: {over: g, strategy: m_of_n, m: 2}}
"""


def test_what_can_happen_in_a_run_is_explored(wonder: Call, tmp_path: Path) -> None:
    file = tmp_path / "risky.yaml"
    file.write_text(RISKY_YAML, encoding="utf-8")
    found = wonder("validate", file, "--json")
    assert (found.code, found.json["ok"]) == (0, True)
    [told] = found.json["soundness"]
    assert set(told) == {"workflow", "verdict", "states", "bound", "complete", "reason", "problems", "undecided"}
    assert (told["verdict"], told["complete"]) == ("unsound", True)
    assert {problem["kind"] for problem in told["problems"]} == {"waits_for_ever", "left_behind"}
    lines = wonder("validate", file).out.splitlines()
    assert "unsound: a branch of group 'g' can end at 'b' without reaching its join at 'j'" in lines
    assert "    2. 'a' completes and goes on to 'b' and 'c'" in lines
    assert lines[-1] == "risky: unsound (2 problems, 5 states)"


def test_what_data_decides_is_told_as_undecided(wonder: Call, tmp_path: Path) -> None:
    file = tmp_path / "asking.yaml"
    file.write_text(RISKY_YAML.replace("m: 2", "m: input.needed").replace(", when: input.x", ""), encoding="utf-8")
    lines = wonder("validate", file).out.splitlines()
    told = "the join at 'j' fails where its m, which depends on data, asks for more arrivals than come"
    assert f"undecided: {told}" in lines
    assert lines[-1] == f"risky: unknown ({told})"


def test_exploring_has_a_bound_and_can_be_left_out(wonder: Call, tmp_path: Path) -> None:
    dump_definition(crawl(), tmp_path / "w.json")
    sound = wonder("validate", tmp_path / "w.json", "--json").json["soundness"]
    assert [(told["workflow"], told["verdict"]) for told in sound] == [("crawl", "sound")]
    bounded = wonder("validate", tmp_path / "w.json", "--bound", 2)
    assert (bounded.code, bounded.out.splitlines()[-1]) == (0, "crawl: unknown (gave up after 3 states)")
    assert wonder("validate", tmp_path / "w.json", "--no-soundness", "--json").json["soundness"] == []
    assert "sound (" not in wonder("validate", tmp_path / "w.json", "--no-soundness").out


def test_a_recorded_workflow_becomes_a_definition(wonder: Call, tmp_path: Path) -> None:
    pytest.importorskip("wonder_ray.interop.wfformat")
    source, out = tmp_path / "instance.json", tmp_path / "flow.json"
    source.write_text(json.dumps(WFFORMAT), encoding="utf-8")
    found = wonder("import", "wfformat", source, "--out", out, "--runtime-scale", 0.5, "--json")
    assert found.code == 0, found.err
    assert found.json["nodes"] == len(load_definition(out).nodes)
    assert wonder("validate", out).code == 0


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_what_is_no_recorded_workflow_is_refused(wonder: Call, tmp_path: Path, text: str | None) -> None:
    pytest.importorskip("wonder_ray.interop.wfformat")
    source = tmp_path / "instance.json"
    if text is not None:
        source.write_text(text, encoding="utf-8")
    found = wonder("import", "wfformat", source, "--out", tmp_path / "flow.json")
    assert (found.code, found.out) == (2, "")
    assert "instance.json" in found.err
    assert not (tmp_path / "flow.json").exists()
