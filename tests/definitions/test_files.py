"""Definition files: lossless in both forms, and every mistake named with its line."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from tests.strategies import definitions, json_values, sound_definitions
from wonder_ray.definitions import models
from wonder_ray.definitions.documents import parse_json, parse_yaml, write_json, write_yaml
from wonder_ray.definitions.files import (
    FILE_BYTES_MAX,
    Format,
    definition_from_json,
    dump_definition,
    format_definition,
    inspect_definition,
    load_definition,
    parse_definition,
)
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.validation import check
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from pathlib import Path

CRAWL = """\
name: crawl
output: {pages: state.pages}
nodes:
- {id: list, kind: action, action: "crawl:list_urls", output: {state.urls: result}}
- id: fetch
  kind: action
  action: crawl:fetch
  input: {url: item}
  retry:
  - {max_attempts: 3}
- {id: report, kind: action, action: "crawl:report", input: {pages: state.pages}}
transitions:
- {from: list, to: fetch, foreach: state.urls, group: pages}
- from: fetch
  to: report
  join:
    over: pages
    merge:
    - {target: state.pages}
- {from: fetch, to: report, on: 'failed[ValueError]', join: {over: pages, merge: [{target: state.pages}]}}
"""


class TestRoundTrips:
    @given(definitions())
    @settings(max_examples=200, deadline=None)
    def test_any_definition_comes_back_equal_in_both_forms(self, definition: models.WorkflowDefinition) -> None:
        for form in ("json", "yaml"):
            again = parse_definition(format_definition(definition, form), form, checked=False)
            assert again == definition
            assert again.version == definition.version

    @given(json_values)
    @settings(max_examples=300, deadline=None)
    def test_any_json_value_comes_back_the_same(self, value: Any) -> None:
        for again in (parse_json(write_json(value)), parse_yaml(write_yaml(value)), parse_yaml(write_yaml([value, value]))[1]):
            assert repr(again) == repr(value)

    @given(sound_definitions())
    @settings(max_examples=50, deadline=None)
    def test_generated_sound_definitions_are_sound(self, definition: models.WorkflowDefinition) -> None:
        assert check(definition) is definition
        compile_graph(definition)

    @pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".JSON"])
    def test_through_a_file(self, tmp_path: Path, suffix: str) -> None:
        definition = parse_definition(CRAWL, "yaml")
        path = tmp_path / f"crawl{suffix}"
        path.write_text("an older one")
        dump_definition(definition, path)
        assert load_definition(path) == definition
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


class TestShortForms:
    def test_they_mean_the_same_as_the_full_form(self) -> None:
        short = """
            name: crawl
            output: {pages: state.pages}
            nodes:
              list: {action: "crawl:list_urls", output: {state.urls: result}}
              fetch: {action: "crawl:fetch", input: {url: item}, retry: {max_attempts: 3}}
              report: {action: "crawl:report", input: {pages: state.pages}}
            transitions:
            - {from: list, to: fetch, foreach: state.urls, group: pages}
            - {from: fetch, to: report, join: {over: pages, merge: state.pages}}
            - {from: fetch, to: report, on: 'failed[ValueError]', join: {over: pages, merge: {target: state.pages}}}
        """
        assert parse_definition(short, "yaml").version == parse_definition(CRAWL, "yaml").version

    def test_values_stand_for_expressions(self) -> None:
        text = """
            name: w
            nodes:
              a: {action: "m:f", input: {n: 3, flag: true, list: [1, "x"], map: {k: 0.5}}}
              b:
            transitions: [{from: a, to: b, when: true, foreach: [1, 2]}]
        """
        definition = parse_definition(text, "yaml")
        node = definition.nodes[0]
        assert isinstance(node, models.ActionNode)
        assert node.input == {"n": "3", "flag": "true", "list": '[1, "x"]', "map": '{"k": 0.5}'}
        assert (definition.transitions[0].when, definition.transitions[0].foreach) == ("true", "[1, 2]")
        assert definition.nodes[1] == models.ComputeNode(id="b")

    def test_lists_of_ends_single_start_and_hoisted_resources(self) -> None:
        document = {
            "name": "w",
            "start": "a",
            "nodes": [
                {"id": "a", "action": "m:f", "num_cpus": 2, "resources": {"num_gpus": 1}},
                {"id": "b", "steps": [{"name": "s", "action": "m:f"}]},
                {"id": "c"},
            ],
            "transitions": [{"from": "a", "to": ["b", "c"], "group": "g"}, {"from": ["b", "c"], "to": "a", "max_iterations": 1}],
        }
        definition = definition_from_json(document)
        first = definition.nodes[0]
        assert isinstance(first, models.ActionNode)
        assert (first.resources.num_cpus, first.resources.num_gpus) == (2, 1)
        assert [node.kind for node in definition.nodes] == ["action", "steps", "compute"]
        ends = [(each.source, each.target) for each in definition.transitions]
        assert ends == [("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")]
        assert definition.start == ("a",)

    def test_kinds_that_a_field_tells_and_things_alone_instead_of_lists(self) -> None:
        text = """
            name: w
            nodes:
              ask: {answer: boolean, escalate: {after_s: 60, assignee: "'boss'"}, guard: true, mutex: desk}
              choose: {assignee: "'alice'", answer: [yes, no]}
              paid: {payload: {type: integer}, concurrency_key: 1}
              go: {signal: go, retained: false}
              pause: {duration_s: 5}
              dawn: {until: 1800000000}
              stop: {status: failed, message: no}
              child: {workflow: other, input: {n: 3}, retry: {max_attempts: 2}, undo: "m:undo"}
              work: {action: "m:f", undo: {action: "m:undo", input: {n: 3}, num_cpus: 2, retry: {max_attempts: 3}}}
            transitions:
            - {from: ask, to: choose, cancel: go, close_groups: g, complete_groups: [g], cancel_groups: h}
        """
        definition = parse_definition(text, "yaml", checked=False)
        undo = models.Undo(action="m:undo")
        assert definition.nodes == (
            models.GateNode(
                id="ask",
                answer={"type": "boolean"},
                escalate=(models.Escalation(after_s=60, assignee="'boss'"),),
                guard="true",
                mutex=("desk",),
            ),
            models.GateNode(id="choose", assignee="'alice'", answer={"enum": ["yes", "no"]}),
            models.SignalNode(id="paid", payload={"type": "integer"}, concurrency_key="1"),
            models.SignalNode(id="go", signal="go", retained=False),
            models.TimerNode(id="pause", duration_s=5),
            models.TimerNode(id="dawn", until="1800000000"),
            models.TerminateNode(id="stop", status="failed", message="no"),
            models.SubworkflowNode(
                id="child", workflow="other", input={"n": "3"}, retry=(models.Retry(max_attempts=2),), undo=undo
            ),
            models.ActionNode(
                id="work",
                action="m:f",
                undo=models.Undo(
                    action="m:undo",
                    input={"n": "3"},
                    retry=(models.Retry(max_attempts=3),),
                    resources=models.Resources(num_cpus=2),
                ),
            ),
        )
        edge = definition.transitions[0]
        assert (edge.cancel, edge.close_groups, edge.complete_groups, edge.cancel_groups) == (("go",), ("g",), ("g",), ("h",))

    def test_anchors_and_merge_keys(self) -> None:
        text = """
            name: w
            nodes:
              a: &usual {action: "m:f", retry: &patient {max_attempts: 5}}
              b: {<<: *usual, timeout_s: 5}
              c: {action: "m:g", retry: *patient}
              d: {<<: [{action: "m:first"}, *usual]}
        """
        nodes = parse_definition(text, "yaml").nodes
        found = [(n.action, n.timeout_s, n.retry[0].max_attempts) for n in nodes if isinstance(n, models.ActionNode)]
        assert found == [("m:f", None, 5), ("m:f", 5, 5), ("m:g", None, 5), ("m:first", None, 5)]


class TestUnknownFields:
    @pytest.mark.parametrize(
        ("node", "message"),
        [
            ("{answer: boolean, timeout: 5}", "node 'a', timeout: unknown field; did you mean 'timeout_s'?"),
            ("{kind: gaet}", "node 'a', kind: 'gaet' is no kind of node; did you mean 'gate'?"),
            ("{duration_s: 5, timeout_s: 5}", "timeout_s: unknown field of a node of kind timer; action and steps and gate and"),
            ("{gaurd: true}", "node 'a', gaurd: unknown field; did you mean 'guard'?"),
            ("{action: 'm:f', undo: {actoin: 'm:u'}}", "node 'a', undo.actoin: unknown field; did you mean 'action'?"),
            ("{action: 'm:f', undo: {}}", "node 'a', undo.action: is missing; add it"),
            ("{answer: boolean, escalate: {after: 5}}", "escalate.0.after: unknown field; did you mean 'after_s'?"),
            ("{workflow: w2, vresion: latest}", "node 'a', vresion: unknown field; did you mean 'version'?"),
            ("{duration_s: [1]}", "node 'a', duration_s: input should be a valid"),
            ("{status: maybe}", "node 'a', status: input should be 'completed' or 'failed'; it is 'maybe'"),
        ],
    )
    def test_they_are_told_with_what_may_be_meant(self, node: str, message: str) -> None:
        with pytest.raises(DefinitionError) as raised:
            parse_definition(f"name: w\nnodes:\n  a: {node}\n", "yaml")
        assert message in str(raised.value)
        assert "<text>:3: " in str(raised.value)

    def test_of_a_transition_and_of_the_whole(self) -> None:
        text = "name: w\nmax_dept: 3\nnodes: [{id: a}]\ntransitions: [{from: a, to: a, rase: r}]\n"
        with pytest.raises(DefinitionError) as raised:
            parse_definition(text, "yaml")
        assert "max_dept: unknown field; did you mean 'max_depth'?" in str(raised.value)
        assert "transition 'a->a', rase: unknown field; did you mean 'race'?" in str(raised.value)


class TestYaml:
    def test_scalars_are_those_of_yaml_1_2(self) -> None:
        text = "on: 1, off: no, yes: 012, d: 2026-11-23, t: 12:30, u: 1_0, h: 0x1F, o: 0o17, e: 1e3, n: ~, f: .5"
        text += ", b: True, q: '1', 2: x"
        assert parse_yaml(f"{{{text}}}") == {
            "on": 1,
            "off": "no",
            "yes": 12,
            "d": "2026-11-23",
            "t": "12:30",
            "u": "1_0",
            "h": 31,
            "o": 15,
            "e": 1000.0,
            "n": None,
            "f": 0.5,
            "b": True,
            "q": "1",
            "2": "x",
        }

    def test_what_is_written_reads_alike_in_yaml_1_1(self) -> None:
        yaml = pytest.importorskip("yaml")
        value = {"on": "no", "a": ["1e3", "0o7", "1.5", 1.5, 1e20, "~", "<<", None, True, 2**70]}
        assert yaml.safe_load(write_yaml(value)) == value

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice in one map"),
            ("a: 1\n---\nb: 2", "line 2: a second document"),
            (
                "a: !!python/object/apply:os.system [ls]",
                "line 1: tag 'tag:yaml.org,2002:python/object/apply:os.system' is not supported",
            ),
            ("a: !mine 1", "tag '!mine' is not supported"),
            ("a: &x [*x]", r"line 1: alias \*x names no complete value before it"),
            ("a: *x", "not a YAML text: found undefined alias|names no complete value"),
            ("? [a]\n: 1", "a key is a list or map"),
            ("a: .nan", r"\.nan is no JSON value"),
            ("a: 1e999", "1e999 is no JSON value"),
            ("a: [1", "line 2: not a YAML text: did not find expected"),
            ("a: \x00", "not a YAML text"),
            ("<<: 1", "<< takes in maps only"),
            ("[" * 100 + "]" * 100, "nested deeper than 64"),
            ("a: " + "9" * 400, "an integer of 400 digits"),
        ],
    )
    def test_refusals(self, text: str, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            parse_yaml(text)

    def test_alias_bombs_are_refused_at_once(self) -> None:
        bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
        )
        began = time.monotonic()
        with pytest.raises(DefinitionError, match="aliases repeat more than 1,000,000 values"):
            parse_yaml(bomb)
        assert time.monotonic() - began < 2


class TestJson:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"a": 1, "a": 2}', "key 'a' stands twice in one object"),
            ('{\n"a": }', "line 2: not a JSON text"),
            ('{"a": NaN}', "NaN is no JSON value"),
            ("[" * 100_000, "not a usable JSON text"),
            ('{"a": "\\ud800"}', "surrogates not allowed"),
            ('{"a": 1e999}', "value is no JSON: inf"),
        ],
    )
    def test_refusals(self, text: str, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            parse_definition(text, "json")


class TestErrors:
    def broken(self, old: str, new: str) -> str:
        assert old in CRAWL
        with pytest.raises(DefinitionError) as raised:
            parse_definition(CRAWL.replace(old, new), "yaml", source="crawl.yaml")
        return str(raised.value)

    def test_an_unknown_field(self) -> None:
        message = self.broken("  - {max_attempts: 3}", "  - {max_atempts: 3}")
        assert message == "crawl.yaml:10: node 'fetch', retry.0.max_atempts: unknown field; did you mean 'max_attempts'?"

    def test_a_missing_field(self) -> None:
        message = self.broken("  to: report\n  join", "  join")
        assert message == "crawl.yaml:14: transition 'fetch->?', to: is missing; add it"

    def test_a_wrong_value(self) -> None:
        message = self.broken("max_attempts: 3", "max_attempts: 0")
        assert message == (
            "crawl.yaml:10: node 'fetch', retry.0.max_attempts: input should be greater than or equal to 1; it is 0"
        )

    def test_what_validation_finds(self) -> None:
        message = self.broken("    over: pages\n", "    over: page\n")
        assert message.startswith("crawl.yaml:17: transition 'fetch->report', join.over: no transition opens group 'page'; ")
        assert message.endswith("did you mean 'pages'?")

    def test_several_are_listed(self) -> None:
        lines = self.broken("to: report\n", "to: rapport\n  when: nope.x\n").splitlines()
        assert lines[0] == "workflow 'crawl.yaml' cannot be used, for 3 reasons:"
        assert "  crawl.yaml:15: transition 'fetch->rapport', to: unknown node 'rapport'; did you mean 'report'?" in lines

    def test_expressions_are_shown_with_a_caret(self) -> None:
        message = self.broken("{url: item}", "{url: 'item +'}")
        assert message.startswith("crawl.yaml:8: node 'fetch', input.url: expression `item +`: Syntax error")
        assert "\n  item +\n        ^" in message

    def test_the_line_of_a_short_form(self) -> None:
        text = "name: w\nnodes:\n  a:\n    action: 'm:f'\n  b: {}\ntransitions:\n- {from: a, to: [b, c]}\n"
        with pytest.raises(DefinitionError, match="w:7: transition 'a->c', to: unknown node 'c'"):
            parse_definition(text, "yaml", source="w")
        with pytest.raises(DefinitionError, match="w:4: node 'a', acton: unknown field"):
            parse_definition(text.replace("action", "acton"), "yaml", source="w")

    @pytest.mark.parametrize("form", ["json", "yaml"])
    @pytest.mark.parametrize(
        "text", ["[]", "1", "null", '"x"', '{"nodes": 1}', '{"nodes": [1]}', '{"name": "w", "transitions": [1]}']
    )
    def test_nonsense(self, text: str, form: Format) -> None:
        with pytest.raises(DefinitionError, match=r"^(<text>|workflow '<text>')"):
            parse_definition(text, form)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(DefinitionError, match="cannot be read: No such file"):
            load_definition(tmp_path / "none.yaml")
        with pytest.raises(DefinitionError, match=r"a definition is a \.json, \.yaml, \.yml file"):
            load_definition(tmp_path / "flow.py")
        (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
        with pytest.raises(DefinitionError, match=r"is not UTF-8 \(byte 6\)"):
            load_definition(tmp_path / "latin.yaml")
        with (tmp_path / "big.json").open("wb") as file:
            file.truncate(FILE_BYTES_MAX + 1)
        with pytest.raises(DefinitionError, match="67,108,865 bytes, more than 67,108,864"):
            load_definition(tmp_path / "big.json")


def test_a_file_is_inspected_with_the_line_of_every_finding(tmp_path: Path) -> None:
    path = tmp_path / "crawl.yaml"
    path.write_text(CRAWL.replace("output: {pages: state.pages}", "output: {pages: state.page}").replace("item}", "itm}"))
    found = inspect_definition(path)
    assert found.definition.name == "crawl"
    assert [(line, problem.severity, problem.field) for line, problem in found.findings] == [
        (8, "error", "input.url"),
        (2, "warning", "output.pages"),
    ]


def test_ten_thousand_nodes_load_in_seconds(tmp_path: Path) -> None:
    nodes = [
        {"id": f"n{i}", "kind": "action", "action": "m:f", "input": {"x": "input.x"}, "output": {f"state.s{i}": "result"}}
        for i in range(10_000)
    ]
    transitions = [{"from": f"n{i}", "to": f"n{i + 1}"} for i in range(9_999)]
    path = tmp_path / "big.yaml"
    path.write_text(write_yaml({"name": "big", "nodes": nodes, "transitions": transitions}))
    began = time.monotonic()
    definition = load_definition(path)
    assert time.monotonic() - began < 10
    assert len(definition.nodes) == 10_000
    assert json.loads(format_definition(definition, "json"))["nodes"][9_999]["id"] == "n9999"
