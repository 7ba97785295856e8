from __future__ import annotations

from typing import Any

import pytest

from wonder_ray.errors import DefinitionError, InputError
from wonder_ray.resources.schema import InputSchema

OBJECT = {
    "type": "object",
    "required": ["site"],
    "additionalProperties": False,
    "properties": {
        "site": {"type": "string"},
        "mode": {"enum": ["fast", "slow"]},
        "a/b~c": {"type": "array", "items": {"type": "integer"}},
    },
}


@pytest.mark.parametrize(
    ("value", "pointer", "mend"),
    [
        ({"site": 5}, "/site", "of type string"),
        ({}, "", "add site"),
        ({"site": "x", "more": 1}, "", "remove the others"),
        ({"site": "x", "mode": "lazy"}, "/mode", 'one of \\["fast","slow"\\]'),
        ({"site": "x", "a/b~c": [1, "2"]}, "/a~1b~0c/1", "of type integer"),
        ([], "", "of type object"),
    ],
)
def test_an_error_names_the_place_and_the_mend(value: Any, pointer: str, mend: str) -> None:
    with pytest.raises(InputError, match=mend) as caught:
        InputSchema.of("crawl", OBJECT).check(value)
    assert caught.value.pointer == pointer


def test_what_fits_passes_and_no_schema_admits_everything() -> None:
    InputSchema.of("crawl", OBJECT).check({"site": "x", "mode": "fast"})
    InputSchema.of("crawl", None).check([1, {"x": None}])


def test_references_within_the_schema_are_followed() -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    InputSchema.of("crawl", tree).check([[], [[]]])
    with pytest.raises(InputError) as caught:
        InputSchema.of("crawl", tree).check([[], [[5]]])
    assert caught.value.pointer == "/1/0/0"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"$ref": "https://example.com/schema.json"},
        {"properties": {"a": {"anyOf": [{"$ref": "file:///etc/passwd"}]}}},
        {"description": "x" * 300_000},
        [],
        "text",
    ],
)
def test_a_schema_that_is_none_or_reaches_outside_or_is_huge_is_refused(schema: Any) -> None:
    with pytest.raises(DefinitionError):
        InputSchema.of("crawl", schema)


def test_a_schema_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(DefinitionError):
        InputSchema.of("crawl", schema)


def test_a_dangling_reference_is_the_fault_of_the_definition() -> None:
    with pytest.raises(DefinitionError, match="nowhere"):
        InputSchema.of("crawl", {"$ref": "#/$defs/nowhere"}).check(1)


def test_a_schema_that_refers_to_itself_ends() -> None:
    with pytest.raises(InputError, match="without end"):
        InputSchema.of("crawl", {"$ref": "#"}).check(1)


def test_an_exponential_schema_is_stopped() -> None:
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}}
    with pytest.raises(InputError, match="references"):
        InputSchema.of("crawl", {"$ref": "#/$defs/d0", "$defs": defs}).check(1)


def test_the_value_in_a_message_is_cut() -> None:
    with pytest.raises(InputError) as caught:
        InputSchema.of("crawl", {"type": "object"}).check("x" * 100_000)
    assert len(str(caught.value)) < 1000
