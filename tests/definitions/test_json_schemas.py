"""Judging values by schemas, sound ones and others: an answer always."""

from __future__ import annotations

from typing import Any

import pytest

from wonder_ray.definitions import json_schemas
from wonder_ray.definitions.json_schemas import DanglingReferenceError, UnusableSchemaError, errors_of

DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}},
}


@pytest.fixture(autouse=True)
def _few_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schemas, "REFERENCES_MAX", 1_000)


def test_the_first_few_errors_are_told() -> None:
    schema = {"items": {"type": "integer"}}
    assert errors_of(schema, [1, 2], most=3) == []
    found = errors_of(schema, ["x"] * 1_000, most=3)
    assert [error.json_path for error in found] == ["$[0]", "$[1]", "$[2]"]


@pytest.mark.parametrize(
    ("schema", "kind", "message"),
    [
        (DOUBLING, UnusableSchemaError, "its schema needs more than 1,000 references"),
        ({"$ref": "#"}, UnusableSchemaError, "its schema refers to itself without end"),
        ({"$ref": "#/$defs/x"}, DanglingReferenceError, "its schema refers to '/\\$defs/x', which is not in it"),
        ({"$ref": "https://example.org/schema"}, DanglingReferenceError, "'https://example.org/schema', which is not in it"),
        ({"pattern": "("}, UnusableSchemaError, "its schema has a pattern that cannot be used"),
    ],
)
def test_what_cannot_be_judged_is_told_as_such(schema: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        errors_of(schema, "x", most=3)


def test_one_validation_does_not_count_for_the_next() -> None:
    schema = {"items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "integer"}}}
    for _ in range(3):
        assert errors_of(schema, [1] * 600, most=1) == []
