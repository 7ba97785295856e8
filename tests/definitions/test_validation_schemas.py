"""JSON Schemas of a run's input that are none, or that nothing can satisfy."""

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
]

SOUND_SCHEMAS: list[dict[str, Any]] = [
    {"type": "number", "enum": [1, 1.5]},
    {"type": "integer", "const": 1.0},
    {"not": {"minimum": 2, "maximum": 1}},
    {"required": ["ab"], "patternProperties": {"^a": {}}, "additionalProperties": False},
    {"allOf": [{"type": "number"}, {"type": "integer"}]},
    {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}, "y": {"$ref": "#"}}},
    {"prefixItems": [{}], "items": {"$ref": "#/prefixItems/0"}},
]


@pytest.mark.parametrize(("schema", "field", "message"), SCHEMAS, ids=named)
def test_schemas_that_contradict_themselves(schema: dict[str, Any], field: str, message: str) -> None:
    found = validate(models.WorkflowDefinition(name="w", nodes=(models.ActionNode(id="a", action="m:f"),), input=schema))
    assert [problem.field for problem in found] == [field], [str(problem) for problem in found]
    assert message in found[0].message


@pytest.mark.parametrize("schema", SOUND_SCHEMAS)
def test_sound_schemas(schema: dict[str, Any]) -> None:
    assert problems(A | {"input": schema}) == []
