"""Expressions: what they give, what they refuse, and what they cost."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wonder_ray.definitions import expressions
from wonder_ray.definitions.expressions import Expression, compile_expression, render_mapping
from wonder_ray.errors import ExpressionError

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6)
KEYS = st.sampled_from(["a", "b", "c-d", "", "in", "x.y"])
SCALARS = st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda of: st.lists(of, max_size=3) | st.dictionaries(KEYS, of, max_size=4), max_leaves=12)
STEPS = st.sampled_from([".a", ".b", "['a']", '["c-d"]', "['']", "['in']", "['x.y']", "[0]", "[1]", "[-1]", "[99]"])
PATHS = st.builds(
    lambda root, steps: root + "".join(steps), st.sampled_from(["state", "item", ".state"]), st.lists(STEPS, max_size=4)
)
LITERALS = st.sampled_from(
    ["1", "-1", '"x"', r"'\u0041\''", "true", "false", "null", "[]", "{}", "1.5", "0x1F", "-9223372036854775808"]
)
ATOMS = PATHS | LITERALS
PLAIN = (
    ATOMS
    | st.lists(ATOMS, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]")
    | st.dictionaries(st.sampled_from(["'a'", "'b'", '"c-d"']), ATOMS, max_size=3).map(
        lambda parts: "{" + ", ".join(f"{key}: {value}" for key, value in parts.items()) + "}"
    )
)


def evaluate(text: str, **scope: Any) -> Any:
    return compile_expression(text).evaluate(scope)


def outcome(call: Any, *args: Any) -> tuple[str, Any]:
    try:
        return ("value", typed(call(*args)))
    except ExpressionError:
        return ("error", None)


def typed(value: Any) -> Any:
    """JSON text: tells 1 from 1.0 and True, unlike ==."""
    return json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("text", "scope", "expected"),
    [
        ("state.a > 1.5 && size(state.l) == 2", {"state": {"a": 2, "l": [1, 2]}}, True),
        ("state.l.map(x, x * 2)", {"state": {"l": [1, 2]}}, [2, 4]),
        ("has(state.q) ? 1 : 2", {"state": {}}, 2),
        ("has(state.q) ? 1 : 2", {"state": {"q": None}}, 1),
        ("has(state.a.b) && state.a.b == 3", {"state": {"a": {"b": 3}}}, True),
        ("state['x-y'] + 1", {"state": {"x-y": 1}}, 2),
        ("item", {"item": [1, {"a": None}]}, [1, {"a": None}]),
        ("item.page.url", {"item": {"page": {"url": "/"}}}, "/"),
        ("'a' + string(index)", {"index": 3}, "a3"),
        ("double(state.a) / 2.0", {"state": {"a": 7}}, 3.5),
        ("timestamp('2026-01-01T00:00:00.5Z')", {}, "2026-01-01T00:00:00.500000Z"),
        ("[timestamp('2026-01-01T01:00:00+01:00')]", {}, ["2026-01-01T00:00:00Z"]),
        ("duration('90s')", {}, 90.0),
        ("3u", {}, 3),
        ("error.type == 'Timeout' || run.attempt > 2", {"error": {"type": "Timeout"}, "run": {"attempt": 1}}, True),
        ("google.protobuf.Int32Value{value: 3}", {}, 3),
        ("1 // a comment", {}, 1),
    ],
)
def test_evaluates_cel_to_json(text: str, scope: dict[str, Any], expected: Any) -> None:
    assert typed(evaluate(text, **scope)) == typed(expected)


@pytest.mark.parametrize(
    "text", ["b'x'", "[b'x']", "type(1)", "int", "{1: 2}", "{true: 1}", "[{1: 2}]", "18446744073709551615u", "0.0 / 0.0", "1e400"]
)
def test_refuses_values_that_are_no_json(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text)


def test_a_plain_path_gives_the_very_object() -> None:
    scope = {"state": {"urls": [1, 2], "m": {"z": 1, "a": 2}}}
    assert evaluate("state.urls", **scope) is scope["state"]["urls"]
    assert evaluate("{'a': state.urls}", **scope)["a"] is scope["state"]["urls"]
    assert list(evaluate("state['m']", **scope)) == ["z", "a"]


def test_literals_are_fresh_each_time() -> None:
    assert evaluate("[]") is not evaluate("[]")
    assert evaluate("{}") is not evaluate("{}")


@settings(max_examples=300, deadline=None)
@given(text=PLAIN, state=JSON, item=JSON)
@example(text="state[0]", state={"0": 1}, item=None)
@example(text="state.a", state=None, item=None)
@example(text="state['a']", state=[1], item=None)
def test_paths_and_literals_agree_with_cel(text: str, state: Any, item: Any) -> None:
    expression = compile_expression(text)
    scope = {"state": state, "item": item}
    assert outcome(expression.evaluate, scope) == outcome(expression.evaluate_in_cel, scope)


@settings(max_examples=200, deadline=None)
@given(
    template=st.sampled_from(
        [
            "has({p}.a)", "has({p}.a) ? {p}.a : null", "{p} == {q}", "{p} == {q} || {p}.b == 1", "size({p}) > size({q})",
            "[{p}, {q}].map(x, x)",
            "{p}.exists(state, state == {q})", "{p}.all(x, has(x.a))", "{p}.map(item, [item, .item])", "{p}[{q}]",
            "{p}.a[{q}]", "{p}.filter(x, x != {q})",
        ]
    ),
    p=PATHS, q=PATHS, state=JSON, item=JSON,
)  # fmt: skip
def test_passing_only_the_used_keys_changes_no_outcome(template: str, p: str, q: str, state: Any, item: Any) -> None:
    try:
        expression = compile_expression(template.format(p=p, q=q))
    except ExpressionError:
        return  # CEL refuses negative indexes of has(), and the like
    whole = compile_expression(f"[{template.format(p=p, q=q)}, state, item][0]")
    scope = {"state": state, "item": item}
    assert outcome(expression.evaluate, scope) == outcome(whole.evaluate, scope)


def test_evaluating_changes_nothing_in_the_scope() -> None:
    scope = {"state": {"m": {"b": 1, "a": [3]}, "n": 1}}
    before = copy.deepcopy(scope)
    evaluate("state.m.map(k, state.m[k]).size() + state.n", **scope)
    assert scope == before


# ------------------------------------------------------------------------------------------- determinism


def test_maps_are_walked_and_returned_in_the_order_of_their_keys() -> None:
    keys = [f"k{i}" for i in range(30)]
    scope = {"state": {"m": dict.fromkeys(reversed(keys), 1)}}
    assert evaluate("state.m.map(k, k)", **scope) == sorted(keys)
    assert evaluate("state.m.filter(k, k != 'k3')", **scope) == sorted(set(keys) - {"k3"})
    assert evaluate("{'z': 1, 'b': 2, 'y': 3}.map(k, k)") == ["b", "y", "z"]
    assert evaluate("(true ? state : item).m.map(k, k)", **scope, item={}) == sorted(keys)
    assert evaluate("[0].map(i, state.m.map(k, k))", **scope) == [sorted(keys)]
    assert evaluate("[state].map(s, s.m.map(k, k))", **scope) == [sorted(keys)]
    assert list(evaluate("[state.m][0 + 0]", **scope)) == sorted(keys)
    assert evaluate("state.m.all(k, state.m[k] == 1)", **scope) is True


def test_another_process_gives_the_same_order() -> None:
    text = "state.m.map(k, k) + state.m.filter(k, true) + {'b': 1, 'a': 2}.map(k, k)"
    state = {"m": {f"k{i}": i for i in range(20)}}
    code = (
        "from wonder_ray.definitions.expressions import compile_expression as c\n"
        f"import json; print(json.dumps(c({text!r}).evaluate({{'state': {state!r}}})))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(other.stdout) == evaluate(text, state=state)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("text", "scope", "words"),
    [
        ("state.missing", {"state": {"a": 1}}, ["no key 'missing'", "has(...)"]),
        ("state.missing > 1", {"state": {"a": 1}}, ['Key not found in map : "missing"', "has(...)"]),
        ("state.a", {}, ["'state' has no value here"]),
        ("state.a + 1", {"item": 1}, ["state", "there are item"]),
        ("state.l[5]", {"state": {"l": [1]}}, ["index 5 is out of range", "1 items"]),
        ("state.a.b", {"state": {"a": 3}}, ["'b' is selected on an int"]),
        ("state.a + 1.5", {"state": {"a": 2}}, ["CEL does not mix int and double: write double(x) or 1.0", "'a': 2"]),
        ("state.a + 1", {"state": {"a": 2.5}}, ["CEL does not mix int and double"]),
        ("9223372036854775807 + index", {"index": 1}, ["overflow"]),
        ("1 / index", {"index": 0}, ["divide by zero"]),
        ("item", {"item": 2**70}, ["64 bits"]),
        ("item + 1", {"item": 2**70}, ["out of range"]),
        ("item == [1]", {"item": [{"a": 2**70}]}, ["out of range"]),
        ("item", {"item": float("nan")}, ["nan", "JSON"]),
        ("item + 1.0", {"item": float("inf")}, ["inf", "JSON"]),
        ("item == 'admin'", {"item": "admin\x00"}, ["NUL"]),
        ("item.size()", {"item": {"a": [{"b\x00": 1}]}}, ["NUL"]),
        ("item == 'x'", {"item": "\ud800"}, ["surrogates"]),
        ("item == 1", {"item": object()}, ["unsupported", "item"]),
        ("item ? 1 : 2", {"item": 3}, ["No matching overload"]),
        ("int(item)", {"item": "x"}, ["cannot convert"]),
        ("item.matches('(')", {"item": "x"}, ["regular expression"]),
    ],
)
def test_a_failing_evaluation_says_what_and_with_which_value(text: str, scope: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, **scope)
    message = str(caught.value)
    assert f"`{text}`" in message
    assert [word for word in words if word not in message] == []


def test_an_error_shows_little_of_a_large_value() -> None:
    state = {"a": "x" * 10**6, "l": [{"k": "y" * 1000}] * 10**5}
    with pytest.raises(ExpressionError) as caught:
        evaluate("state.a + 1 == state.l", state=state)
    assert len(str(caught.value)) < 700


def test_a_slash_u0000_in_a_text_is_no_nul() -> None:
    assert evaluate("item.size()", item=r"\u0000") == 6


def test_the_item_may_have_a_name_of_its_own() -> None:
    assert compile_expression("page.url + '/'", extra_names=frozenset({"page"})).evaluate({"page": {"url": "x"}}) == "x/"
    with pytest.raises(ExpressionError, match=r"page\.url is unknown; names in scope are error, index, input"):
        compile_expression("page.url")


@pytest.mark.parametrize("name", ["a-b", "", "in", "int", "map", "x\n", "__x", "1a", "google"])
def test_refuses_item_names_that_cel_cannot_have(name: str) -> None:
    with pytest.raises(ExpressionError, match="cannot name an item"):
        compile_expression("1", extra_names=frozenset({name}))


def test_a_syntax_error_has_a_caret_below_its_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("state.a +\n  * 3")
    lines = str(caught.value).splitlines()
    assert lines[-2:] == ["    * 3", "    ^"]


@pytest.mark.parametrize("value", [3, "true", None, [], 1.0])
def test_a_condition_is_true_or_false(value: Any) -> None:
    with pytest.raises(ExpressionError, match="a condition is true or false; this gave"):
        compile_expression("item").evaluate_bool({"item": value})
    assert compile_expression("item").evaluate_bool({"item": True}) is True


@pytest.mark.parametrize("text", [None, 3, b"x", ("a",)])
def test_only_texts_are_expressions(text: Any) -> None:
    with pytest.raises(ExpressionError, match="an expression is a text"):
        compile_expression(text)


# ------------------------------------------------------------------------------------------ the object


def test_expressions_tell_the_names_they_use() -> None:
    assert compile_expression("state.a > index && has(input.x)").names == {"state", "index", "input"}
    assert compile_expression("item.exists(index, index > 1)").names == {"item"}
    assert compile_expression("[1].map(state, .state.a)").names == {"state"}
    assert compile_expression("1").names == frozenset()


def test_expressions_are_equal_by_text_cached_and_picklable() -> None:
    first = compile_expression("state.a > 1")
    assert compile_expression("state.a > 1") is first
    assert pickle.loads(pickle.dumps(first)) == first
    assert len({first, pickle.loads(pickle.dumps(first))}) == 1
    assert first != compile_expression("state.a > 2")
    assert repr(first) == "Expression('state.a > 1')"


def test_a_mapping_is_rendered_key_by_key() -> None:
    mapping = {"b": compile_expression("item.url"), "a": compile_expression("index + 1")}
    assert list(render_mapping(mapping, {"item": {"url": "/"}, "index": 1}).items()) == [("b", "/"), ("a", 2)]


def test_many_threads_may_evaluate_and_compile() -> None:
    def work(n: int) -> list[Any]:
        return [
            compile_expression(f"state.l.map(x, x + {i}).size() + {n % 3}").evaluate({"state": {"l": [1, 2]}}) for i in range(50)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [[2 + n % 3] * 50 for n in range(24)]


# ------------------------------------------------------------------------------------- limits and cost


def test_comprehensions_stop_before_ten_thousand_steps() -> None:
    assert evaluate("item.all(x, true)", item=[1] * 9_999) is True
    with pytest.raises(ExpressionError, match=r"more than 9,999 steps .* foreach"):
        evaluate("item.all(x, true)", item=[1] * 10_000)
    with pytest.raises(ExpressionError, match="more than 9,999 steps"):
        evaluate("item.all(x, item.all(y, item.all(z, true)))", item=list(range(100)))


def test_long_texts_are_refused() -> None:
    assert evaluate("'" + "x" * (expressions.TEXT_LENGTH_MAX - 2) + "'")
    with pytest.raises(ExpressionError, match="4097 characters"):
        compile_expression("'" + "x" * (expressions.TEXT_LENGTH_MAX - 1) + "'")


@pytest.mark.parametrize("text", ["(" * 40 + "1" + ")" * 40, "1" + "+1" * 100, "item" + ".a" * 40, "[" * 40 + "]" * 40])
def test_deep_texts_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="nested deeper than 32"):
        compile_expression(text)


@pytest.mark.parametrize("step", ["s + s", "[s, s]", "[s] + [s]", "{'a': s, 'b': s}", "s + s + s + s", "[s + s][0]"])
def test_values_that_double_again_and_again_are_refused(step: str) -> None:
    with pytest.raises(ExpressionError, match="build it in an action"):
        compile_expression("['x']" + f".map(s, {step})" * 20)
    with pytest.raises(ExpressionError):
        compile_expression("size(['x']" + f".map(s, {step})" * 24 + ") > 0")


def test_ordinary_comprehensions_are_not_refused() -> None:
    compile_expression("state.rows.map(r, {'a': r.a, 'b': r.b, 'c': r.c + r.d}).filter(r, r.a > 1).map(r, r.b + '-' + r.c)")


def microseconds(expression: Expression, scope: dict[str, Any]) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(200):
            expression.evaluate(scope)
        best = min(best, (time.perf_counter() - started) / 200 * 1e6)
    return best


@pytest.mark.parametrize(
    "text",
    ["state.n > 1", "state['n'] > 1", "state.urls", "has(state.urls)", "state.deep.n == 2", "{'u': state.urls, 'n': state.n}"],
)
def test_large_neighbours_cost_nothing(text: str) -> None:
    large = list(range(100_000))
    scope = {"state": {"n": 2, "urls": large, "m": {str(i): i for i in large}, "deep": {"n": 2, "l": large}}, "input": large}
    assert microseconds(compile_expression(text), scope) < 500  # about 7; converting the lists takes over 20,000


HOSTILE = [
    "", " ", "\x00", "1\x00+1", "\ufeff1", "\u202e1", "é", "\U0001f600", "\ud800", "item\u200b", "'\ud800'", "\\",
    "'", '"""', "`", "`a`",
    "item.__class__", "item.__class__.__mro__[1].__subclasses__()", "__import__('os').system('x')", "state.__dict__",
    "[].__len__()",
    "9" * 4000, "1e" + "9" * 100, "0x" + "f" * 4000, "-" * 4000 + "1", "!" * 4000 + "true", "'" + "x" * 10**6 + "'",
    "(" * 10**5 + "1" + ")" * 10**5, "(" * 4000, "[" * 4000, "{" * 4000, ")" * 4000, "item" + "[0]" * 1000, "item" + ".a" * 2000,
    "a?" * 1300 + "b" + ":c" * 1300, "true" + "||true" * 600, "1" + "+1" * 2000, "[" + "1," * 2000 + "1]",
    "{" + "'a':1," * 500 + "'b':2}",
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab'.matches('^(a+)+$')", "'a'.matches('" + "(a*)*" * 700 + "b')",
    "'a'.matches('(((a{1,1000}){1,1000}){1,1000})')",
    "[1,2,3].map(a,[1,2,3].map(b,[1,2,3].map(c,[1,2,3].map(d,[1,2,3].map(e,[1,2,3].map(f,[1,2,3].map(g,[1,2,3].map(h,[1,2,3].map(i,1)))))))))",
    "wonder_ordered(1)", "wonder_ordered({'b': 1, 'a': 2})", "has(1)", "has(item)", "item.map(1, 2)", "item.map(x.y, 2)",
    "optional.of(1)", "item.?a",
    "timestamp('9999-12-31T23:59:59.999999999Z') + duration('1s')", "duration('999999999999999h')",
    "timestamp(-62135596800)", "timestamp(99999999999999)",
    "google.protobuf.Any{}", "google.protobuf.Struct{}", "google.protobuf.Duration{seconds: 9}", "cel.bind(x, 1, x)",
    "b'\\xff'", "'%s'.format([1])",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_end_soon_in_a_value_or_an_error(text: str) -> None:
    started = time.perf_counter()
    try:
        value = compile_expression(text).evaluate({"item": [{"a": 1}], "state": {"a": "x"}})
        json.dumps(value, allow_nan=False)
    except ExpressionError as error:
        message = str(error)
        assert len(message) < 2000
    assert time.perf_counter() - started < 5


TOKENS = st.sampled_from(
    ["item", "state", ".a", "['a']", "[0]", "(", ")", "[", "]", "{", "}", ",", ":", "?", "+", "-", "*", "/", "%", "==",
    "<", "&&", "||", "!", "in", "1",
     "1.5", "2u", "'a'", "b'a'", "null", "true", ".map(x, x)", ".all(x, x > 1)", ".filter(x, has(x.a))", "has(item.a)",
     "size(", "x", " ", "\n", "\x00", "//"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=st.lists(TOKENS, max_size=20).map("".join) | st.text(max_size=40), item=JSON)
def test_no_text_raises_anything_but_expression_errors(text: str, item: Any) -> None:
    try:
        expression = compile_expression(text)
    except ExpressionError:
        return
    scope = {"item": item, "state": {"a": item}}
    assert outcome(expression.evaluate, scope) == outcome(expression.evaluate_in_cel, scope)
    if outcome(expression.evaluate, scope)[0] == "value":
        json.dumps(expression.evaluate(scope), allow_nan=False)
