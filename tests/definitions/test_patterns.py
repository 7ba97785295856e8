"""Patterns of JSON Schemas: matched in bounded time, as JSON Schema means them."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.json_schemas import UnusableSchemaError, errors_of
from wonder_ray.definitions.patterns import PatternError, matches, problem_of

WITHOUT_END = ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "^(.*?,){11}P"]
UNUSABLE = ["(?!a)b", "(?<=a)b", r"(a)\1", "(", "[", "a**", "(?P<n", "a{1001}", "((a{100}){100}){100}", "a\0b", "\\"]
LONG = "a" * 5000 + "!"


def messages(schema: dict[str, Any], value: Any) -> list[str]:
    began = time.process_time()
    found = [error.message for error in errors_of(schema, value, most=5)]
    assert time.process_time() - began < 2
    return found


@pytest.mark.parametrize("pattern", WITHOUT_END)
def test_a_pattern_that_would_go_back_for_ever_is_matched_at_once(pattern: str) -> None:
    assert not matches(pattern, LONG)
    assert messages({"type": "string", "pattern": pattern}, LONG)
    assert messages({"patternProperties": {pattern: False}}, {LONG: 1}) == []
    assert messages({"patternProperties": {pattern: True}, "additionalProperties": False}, {LONG: 1})
    assert messages({"propertyNames": {"pattern": pattern}}, {LONG: 1})


@pytest.mark.parametrize("pattern", UNUSABLE)
def test_a_pattern_that_cannot_be_used_is_told_when_it_is_defined(pattern: str) -> None:
    assert problem_of(pattern)
    with pytest.raises(PatternError):
        matches(pattern, "a")
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: True}}):
        with pytest.raises(UnusableSchemaError, match="cannot be used"):
            errors_of(schema, "a" if "pattern" in schema else {"a": 1}, most=5)
        flow = Workflow("w", input=schema)
        flow.compute("a")
        (problem,) = flow.problems()
        assert "bounded time" in str(problem)


@given(st.sampled_from(["^a", "b$", "[a-c]+d?", "^(ab|c)*$", "a.c", "x{2,3}", "[^a]b", ""]), st.text("abcdx", max_size=12))
def test_what_both_know_is_matched_as_python_does(pattern: str, text: str) -> None:
    assert matches(pattern, text) is (re.search(pattern, text) is not None)


def test_what_is_meant_otherwise_is_meant_as_in_json_schema() -> None:
    assert not matches("^b$", "b\n")
    assert not matches(r"\d", "\N{ARABIC-INDIC DIGIT THREE}")
    assert matches(r"^\p{L}+$", "né")
    assert not matches("a", "a\0")


def test_objects_are_judged_by_the_names_that_match() -> None:
    schema = {
        "properties": {"a": {}},
        "patternProperties": {"^x": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    assert messages(schema, {"a": None, "x1": 1, "b": "b"}) == []
    assert messages(schema, {"x1": "1"}) == ["'1' is not of type 'integer'"]
    assert messages(schema, {"b": 1}) == ["1 is not of type 'string'"]
    closed = {"patternProperties": {"^x": True}, "additionalProperties": False}
    assert messages(closed, {"x": 1, "b": 1}) == ["Additional properties are not allowed ('b' was unexpected)"]
    assert messages({"additionalProperties": False}, dict.fromkeys("abcdefg")) == [
        "Additional properties are not allowed ('a', 'b', 'c', 'd', 'e' and 2 more were unexpected)"
    ]
    assert messages(schema, 7) == []


def test_unevaluated_properties_go_only_without_patterns() -> None:
    assert messages({"properties": {"a": {}}, "unevaluatedProperties": False}, {"a": 1}) == []
    elsewhere = {"$defs": {"p": {"patternProperties": {"^(a+)+$": True}}}, "$ref": "#/$defs/p", "unevaluatedProperties": False}
    with pytest.raises(UnusableSchemaError, match="use additionalProperties"):
        errors_of(elsewhere, {LONG: 1}, most=5)
