"""JSON Schemas that are none, that nothing can satisfy, or that judging a value by would never end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.definitions_by_hand import (
    A,
    named,
    problems,
)
from wonder_ray.definitions import models
from wonder_ray.definitions.validation import validate

SCHEMAS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "objekt"}, "input.type", "'objekt' is not valid"),
    ({"minimum": "1"}, "input.minimum", "is not of type 'number'"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "input.$schema", "another dialect"),
    ({"minimum": 2, "maximum": 1}, "input.minimum", "minimum 2 is more than maximum 1"),
    ({"properties": {"a": {"minLength": 2, "maxLength": 1}}}, "input.properties.a.minLength", "minLength 2 is more than"),
    ({"items": {"exclusiveMinimum": 1, "maximum": 1}}, "input.items.exclusiveMinimum", "no number lies between"),
    ({"type": "string", "enum": ["a", 1]}, "input.enum.1", "1 is no string"),
    ({"enum": []}, "input.enum", "an empty enum"),
    ({"type": "integer", "const": 1.5}, "input.const", "1.5 is no integer"),
    ({"type": ["null", "boolean"], "const": 0}, "input.const", "0 is no null or boolean"),
    ({"enum": [1, 2], "const": 3}, "input.const", "3 is not in enum"),
    ({"enum": [1], "const": True}, "input.const", "True is not in enum"),
    ({"required": ["a"], "properties": {"a": False}}, "input.required.0", "'a' is required, and its schema is false"),
    ({"required": ["a"], "additionalProperties": False}, "input.required.0", "additionalProperties: false forbids it"),
    ({"required": ["a", "b"], "maxProperties": 1}, "input.maxProperties", "2 properties are required"),
    ({"allOf": [{"type": "string"}, {"type": "number"}]}, "input.allOf", "exclude each other"),
    ({"properties": {"a": {"$ref": "#/$defs/X"}}}, "input.properties.a.$ref", "'#/$defs/X' points to nothing"),
    ({"if": {"$ref": "https://example.org/s"}}, "input.if.$ref", "points to nothing in this schema"),
    ({"x": 1.5, "y": {1, 2}}, "input", "value is no JSON: set"),
    ({"pattern": "(", "items": {"minLength": 1}}, "input.pattern", "'(' is no regular expression that can be matched in bounded"),
    ({"patternProperties": {"(?!a)": {}}}, "input.patternProperties.(?!a)", "bounded time: invalid perl operator: (?!"),
    ({"$ref": "#"}, "input", "it refers to itself at the same value"),
    (
        {"$defs": {"a": {"anyOf": [{}, {"$ref": "#/$defs/b"}]}, "b": {"if": {"$ref": "#/$defs/a"}}}},
        "input.$defs.a",
        "it refers to itself at the same value",
    ),
    (
        {"$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)} | {"d30": {}}},
        "input.$defs.d0",
        "judging one value would look at more than 200,000 schemas",
    ),
    ({"description": "x" * 300_000}, "input", "the schema has 300,018 bytes, more than 262,144"),
    ({"properties": {f"p{i}": {"type": "string"} for i in range(20_000)}}, "input", "bytes, more than 262,144"),
]

SOUND_SCHEMAS: list[dict[str, Any]] = [
    {"type": "number", "enum": [1, 1.5]},
    {"type": "integer", "const": 1.0},
    {"not": {"minimum": 2, "maximum": 1}},
    {"required": ["ab"], "patternProperties": {"^a": {}}, "additionalProperties": False},
    {"allOf": [{"type": "number"}, {"type": "integer"}]},
    {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}, "y": {"$ref": "#"}}},
    {"prefixItems": [{}], "items": {"$ref": "#/prefixItems/0"}},
    {"anyOf": [{"type": "null"}, {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}]},
    {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"pattern": "^x+$"}}},
]


@pytest.mark.parametrize(("schema", "field", "message"), SCHEMAS, ids=named)
def test_schemas_that_contradict_themselves(schema: dict[str, Any], field: str, message: str) -> None:
    found = validate(models.WorkflowDefinition(name="w", nodes=(models.ActionNode(id="a", action="m:f"),), input=schema))
    assert [problem.field for problem in found] == [field], [str(problem) for problem in found]
    assert message in found[0].message


def test_every_schema_of_a_definition_is_checked_at_its_place() -> None:
    broken: dict[str, Any] = {"properties": {"x": {"enum": []}}}
    document = {
        "nodes": {"a": {"answer": broken}, "b": {"payload": broken}, "c": {"kind": "gate", "answer": {"type": "string"}}},
        "input": broken,
        "state": broken,
    }
    fields = [(problem.node, problem.field) for problem in problems(document) if problem.message.startswith("an empty enum")]
    assert fields == [
        (None, "input.properties.x.enum"),
        (None, "state.properties.x.enum"),
        ("a", "answer.properties.x.enum"),
        ("b", "payload.properties.x.enum"),
    ]


@pytest.mark.parametrize("schema", SOUND_SCHEMAS)
def test_sound_schemas(schema: dict[str, Any]) -> None:
    assert problems(A | {"input": schema}) == []
