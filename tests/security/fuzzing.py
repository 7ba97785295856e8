"""The doors that a fuzzer knocks at, and what it holds against them: only clear errors come out, and nothing else than data."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.actions.test_policy import NO_URL
from tests.actions.test_templates import ESCAPES
from tests.security.hostile import EVALUATED, EXPRESSIONS, IDS, JSON_TEXTS, NODE, TARGETS, YAML_TEXTS
from wonder_ray.actions.policy import Policy
from wonder_ray.actions.templates import render_header, render_json, render_text, render_url
from wonder_ray.definitions.expressions import NAMES, compile_expression
from wonder_ray.definitions.files import parse_definition
from wonder_ray.definitions.patterns import PatternError, matches
from wonder_ray.definitions.targets import parse_target
from wonder_ray.errors import ExpressionError, WonderError
from wonder_ray.ids import check_name, check_run_id
from wonder_ray.storage.layout import Layout
from wonder_ray.values import check_json, decode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from wonder_ray.values import Json

ROWS: Final[list[Json]] = [{"a": 1, "b": ["x", None], "c": {"d": 1.5}}, {"a": 2, "b": [], "c": {}}, {}]
SCOPE: Final[dict[str, Json]] = {"item": ROWS, "state": {"a": "x" * 100, "n": 3, "l": list(range(50))}, "index": 1, "input": {}}
VALUES: Final[dict[str, Json]] = {"x": {"y": 1}, "l": [1, "a\nb"], "s": "a/../b?c#d", "none": None}
HOST: Final = "https://example.com/"
MESSAGE_MAX: Final = 25_000
LENGTH_MAX: Final = 4096
"""Longer ones teach a fuzzer nothing."""
ODD: Final = "\0\n\"'\\{}[]().,:?+-*%$#@/é\u202e\ud800"
GOOD: Final = (
    "item.map(x, has(x.a) ? x.a : 0)", "item.filter(x, 'd' in x.c)", "item.exists(x, x.a > index)", "size(state.l) > state.n * 2",
    "state.l.map(x, state.l.map(y, x + y))", "state.a.matches('^x{3,}')", "{'a': item[0].a, 'l': [1, 2.5, true, null]}",
    "timestamp('2026-01-01T00:00:00Z') + duration('1h')", "string(state.n) + state.a", "state.l[index] % 2 == 0 ? 'a' : 'b'",
)  # fmt: skip
MERGE: Final = [{"source": "result", "target": "state.m"}]
GOOD_DEFINITIONS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "w", "nodes": [NODE], "output": {"n": "state.n"}},
    {
        "name": "w",
        "input": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]},
        "nodes": [
            NODE | {"output": {"state.l": "result"}, "retry": [{"max_attempts": 3}], "timeout_s": 5},
            {"id": "b", "kind": "action", "action": "m:g", "input": {"x": "item"}},
            {"id": "c", "kind": "gate", "assignee": "input.who"},
            {"id": "d", "kind": "timer", "duration_s": 5},
            {"id": "e", "kind": "terminate", "status": "failed"},
        ],
        "transitions": [
            {"from": "a", "to": "b", "foreach": "state.l", "group": "g", "max_concurrency": 3, "tolerated_failures": 0.5},
            {
                "from": "b",
                "to": "c",
                "join": {"strategy": "all", "over": "g", "merge": [{"source": "result", "target": "state.m"}]},
            },
            {"from": "c", "to": "d", "when": "state.m.size() > 1", "priority": 1, "on": "completed"},
            {"from": "c", "to": "e", "on": "failed[Bad]", "max_iterations": 3},
        ],
    },
)
DICTIONARY: Final = (
    "item", "state", "input", "result", ".map(", ".filter(", ".all(", ".exists(", ".matches(", "has(", "size(", "string(",
    "timestamp(", "bytes(", "duration(", "{{", "}}", "&&", "||", "==", "!=", " in ", "null", "true", "'a'", "__class__",
    "[0]", "? ", '"nodes"', '"transitions"', '"kind"', '"action"', '"when"', '"foreach"', '"join"', '"group"', '"$ref"',
    '"pattern"', '"input"', "../", "%2e", "file://", "http://", "https://", "127.0.0.1", "[::1]", "@", "state.", "state['",
    "{1,1000}", "&a ", "*a", "<<: ",
)  # fmt: skip
LAYOUT: Final = Layout(Path("/nonexistent/storage"))


class BrokenRuleError(AssertionError):
    """What came out is nothing that may."""


def _held(rule: object, what: str) -> None:
    if not rule:
        raise BrokenRuleError(what)


def _outcome(call: Callable[[Any], Any]) -> tuple[str, str]:
    try:
        return "value", json.dumps(call(SCOPE), allow_nan=False, sort_keys=True)
    except ExpressionError:
        return "error", ""


def _expression(text: str) -> None:
    expression = compile_expression(text)
    _held(expression.names <= NAMES, f"{expression.names} are names in scope")
    first = _outcome(expression.evaluate)
    _held(first == _outcome(expression.evaluate_in_cel), "the short cut gives what CEL gives")
    if first[0] == "error":
        expression.evaluate(SCOPE)


def _template(text: str) -> None:
    refused = list[WonderError]()
    for render in (render_text, render_header):
        with suppress(ExpressionError):
            _held(isinstance(render(text, VALUES), str), "a text comes out")
    try:
        json.dumps(render_json({"a": text, "b": [text]}, VALUES), allow_nan=False)
    except ExpressionError as error:
        refused.append(error)
    try:
        url = render_url(HOST + text, VALUES)
        _held(url.startswith(HOST), "a template stays at its host")
    except ExpressionError as error:
        refused.append(error)
    if refused:
        raise refused[0]


def _pattern(text: str) -> None:
    pattern, _, value = text.partition("\n")
    try:
        _held(matches(pattern, value * 20) in {True, False}, "a match is yes or no")
    except PatternError as error:
        raise WonderError(str(error)) from None


def _id(text: str) -> None:
    with suppress(WonderError):
        check_name(text, "name")
        _held("/" not in text and text not in {".", ".."} and text.isprintable(), "a name is one word")
    _held(check_run_id(text).isascii(), "a run id is plain")
    _held(LAYOUT.run_file(text).parent == LAYOUT.runs, "a run's file lies among them")


def _url(text: str) -> None:
    target = Policy().check(text)
    _held(target.scheme in {"http", "https"} and target.host, "a URL has a host")


DOORS: Final[dict[str, Callable[[str], None]]] = {
    "expression": _expression,
    "template": _template,
    "json": lambda text: check_json(decode(text.encode("utf-8", "surrogatepass"))),
    "definition": lambda text: _definition(text, "json"),
    "yaml": lambda text: _definition(text, "yaml"),
    "target": lambda text: _held(parse_target(text), "a target has a path"),
    "pattern": _pattern,
    "id": _id,
    "url": _url,
}


def _definition(text: str, form: Any) -> None:
    definition = parse_definition(text, form)
    again = parse_definition(definition.model_dump_json(by_alias=True, exclude_unset=True), "json")
    _held(again == definition, "a definition is written and read again")


def knock(door: str, text: str) -> str:
    """`accepted` or `refused`; anything else is a finding, and raises."""
    try:
        DOORS[door](text)
    except WonderError as error:
        said = str(error)
        _held(said.strip() and len(said) <= MESSAGE_MAX, f"a message of {len(said)} characters")
        return "refused"
    return "accepted"


def mutated(text: str, chance: random.Random) -> str:
    """A text that is a little different: letters and words taken out, doubled, swapped or put in."""
    letters = list(text[:LENGTH_MAX])
    for _ in range(chance.randrange(1, 5)):
        at, end = sorted(chance.randrange(len(letters) + 1) for _ in range(2))
        change = chance.randrange(4)
        if change == 0:
            del letters[at : min(end, at + 20)]
        elif change == 1:
            letters[at:at] = letters[at:end]
        elif change == 2:
            letters[at:at] = chance.choice(DICTIONARY)
        elif letters:
            letters[at - 1] = chance.choice(ODD)
    return "".join(letters)[:LENGTH_MAX]


def seeds(door: str) -> list[str]:
    """Where a fuzzer starts from."""
    documents = [json.dumps(document, indent=1) for document in GOOD_DEFINITIONS]
    pages = [text if isinstance(text, str) else text.decode("latin-1") for text in JSON_TEXTS]
    texts: dict[str, Iterable[str]] = {
        "expression": [*GOOD, *EXPRESSIONS, *EVALUATED],
        "template": [*ESCAPES, *(f"{{{{ {text} }}}}" for text in (*ESCAPES, *GOOD)), "a {{ x.y }} b {{ s }}?q={{ l }}"],
        "json": [*pages, *documents],
        "definition": [*documents, *pages],
        "yaml": [*documents, *YAML_TEXTS, "name: w\nnodes:\n- {id: a, kind: action, action: 'm:f'}\n"],
        "target": [*TARGETS, "state.a", "output['x y'].b"],
        "pattern": [
            f"{first}\n{then}" for first, then in pairwise(("^(a+)+$", "a{2,5}", "[^b]*c", r"\d+\.\w", "(?i)x|y", "aaaa"))
        ],
        "id": [*IDS, "run_0192f0c1a2b3_0123456789abcdef", "a-name_1.x"],
        "url": [*NO_URL, "https://example.com:8443/a/b?c=d#e", "http://[2606:4700::1111]/"],
    }
    return [text for text in texts[door] if len(text) <= 4096]
