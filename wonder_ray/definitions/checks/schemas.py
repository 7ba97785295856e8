"""JSON Schemas (of inputs, states, answers, payloads): whether each is one, and whether any value could satisfy it."""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from wonder_ray.definitions.checks.references import MISSING, below, endless, every_below, resolve
from wonder_ray.definitions.limits import SCHEMA_BYTES_MAX
from wonder_ray.definitions.models import GateNode, SignalNode
from wonder_ray.definitions.patterns import problem_of
from wonder_ray.errors import PayloadError
from wonder_ray.values import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.models import WorkflowDefinition

Finding: TypeAlias = "tuple[Place, str, str]"
"""Where in the schema, what is wrong, and the mend."""
_RANGES = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
)
_OPEN_RANGES = (("exclusiveMinimum", "exclusiveMaximum"), ("exclusiveMinimum", "maximum"), ("minimum", "exclusiveMaximum"))
_BROKEN_MAX = 50
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "null": (type(None),),
        "boolean": (bool,),
        "string": (str,),
        "array": (list,),
        "object": (dict,),
        "number": (int, float),
        "integer": (int, float),
    }
)


def check_schemas(survey: Survey) -> None:
    """Note what is wrong with any schema of the definition; equal ones are looked at once."""
    known: dict[bytes, list[Finding]] = {}
    for place, schema in _schemas(survey.definition):
        try:
            text = canonical(schema)
        except PayloadError as error:
            survey.add(place, str(error), "use JSON values only")
            continue
        if len(text) > SCHEMA_BYTES_MAX:
            message = f"the schema has {len(text):,} bytes, more than {SCHEMA_BYTES_MAX:,}"
            survey.add(place, message, "simplify it: what is checked here is checked with every value")
            continue
        if text not in known:
            known[text] = list(_findings(schema))
        for inside, message, mend in known[text]:
            survey.add((*place, *inside), message, mend)


def _schemas(definition: WorkflowDefinition) -> Iterator[tuple[Place, dict[str, Any]]]:
    if definition.input is not None:
        yield ("input",), definition.input
    if definition.state is not None:
        yield ("state",), definition.state
    for i, node in enumerate(definition.nodes):
        if isinstance(node, GateNode) and node.answer is not None:
            yield ("nodes", i, "answer"), node.answer
        elif isinstance(node, SignalNode) and node.payload is not None:
            yield ("nodes", i, "payload"), node.payload


def _findings(schema: dict[str, Any]) -> Iterator[Finding]:
    broken = _broken(schema)
    if broken:
        yield from broken
        return
    yield from _contradictions(schema, ())
    dangling = list(_dangling(schema, schema, ()))
    for place, ref in dangling:
        mend = "point to a part of this schema, such as #/$defs/Page"
        yield (*place, "$ref"), f"{ref[:80]!r} points to nothing in this schema", mend
    if not dangling:
        yield from endless(schema)


def _broken(schema: dict[str, Any]) -> list[Finding]:
    """What the meta-schema says against it."""
    if schema.keys() == {"type"} and isinstance(schema["type"], str) and schema["type"] in _PYTHON_TYPES:
        return []  # `answer: boolean`, in thousands of nodes
    from jsonschema import Draft202012Validator  # 60 ms, and few definitions have a schema

    dialect = schema.get("$schema", "")
    if dialect and "2020-12" not in str(dialect):
        mend = "write it in draft 2020-12, or leave $schema out"
        return [(("$schema",), f"{str(dialect)[:80]!r} is another dialect of JSON Schema", mend)]
    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    return [
        (tuple(error.absolute_path), error.message[:200], "see JSON Schema draft 2020-12") for error in islice(found, _BROKEN_MAX)
    ]


def _contradictions(schema: Any, place: Place) -> Iterator[Finding]:
    """Keywords of one schema that no value can satisfy together, here and below (not in `not` and `if`)."""
    if not isinstance(schema, dict):
        return
    yield from _ranges(schema, place)
    yield from _values(schema, place)
    yield from _properties(schema, place)
    yield from _patterns(schema, place)
    for at, inner in below(schema, place):
        yield from _contradictions(inner, at)


def _ranges(schema: dict[str, Any], place: Place) -> Iterator[Finding]:
    for low, high in _RANGES:
        if low in schema and high in schema and schema[low] > schema[high]:
            yield (*place, low), f"{low} {schema[low]} is more than {high} {schema[high]}", "swap or correct them"
    for low, high in _OPEN_RANGES:
        if low in schema and high in schema and schema[low] >= schema[high]:
            yield (*place, low), f"no number lies between {low} {schema[low]} and {high} {schema[high]}", "correct them"


def _values(schema: dict[str, Any], place: Place) -> Iterator[Finding]:
    types = _types(schema)
    if schema.get("enum") == []:
        yield (*place, "enum"), "an empty enum allows no value", "list the allowed values, or remove it"
    for i, value in enumerate(schema.get("enum", [])):
        if types and not _is_of(value, types):
            yield (*place, "enum", i), f"{_text(value)} is no {' or '.join(types)}", "correct the value or the type"
    if "const" in schema:
        if types and not _is_of(schema["const"], types):
            yield (*place, "const"), f"{_text(schema['const'])} is no {' or '.join(types)}", "correct the value or the type"
        if "enum" in schema and not any(_same(schema["const"], value) for value in schema["enum"]):
            yield (*place, "const"), f"{_text(schema['const'])} is not in enum", "keep one of the two"
    both = [set(_types(part)) for part in schema.get("allOf", []) if isinstance(part, dict) and _types(part)]
    both += [set(types)] if types else []
    if len(both) > 1 and not set.intersection(*map(_widened, both)):
        yield (*place, "allOf"), "its parts demand types that exclude each other", "use anyOf, or one type"


def _properties(schema: dict[str, Any], place: Place) -> Iterator[Finding]:
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    closed = closed and not schema.get("patternProperties")  # what patterns take is told when a value comes
    for i, name in enumerate(schema.get("required", [])):
        at = (*place, "required", i)
        if properties.get(name) is False:
            yield at, f"{name!r} is required, and its schema is false", "remove it from required, or give it a schema"
        elif closed and name not in properties:
            message = f"{name!r} is required, and additionalProperties: false forbids it"
            yield at, message, "add it to properties, or remove it from required"
    wanted = len(schema.get("required", []))
    if wanted > schema.get("maxProperties", wanted):
        yield (*place, "maxProperties"), f"{wanted} properties are required, and maxProperties is less", "raise it"


def _patterns(schema: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Patterns that cannot be matched would only fail when a value comes."""
    patterns = [((*place, "pattern"), schema["pattern"])] if "pattern" in schema else []
    patterns += [((*place, "patternProperties", pattern), pattern) for pattern in schema.get("patternProperties", {})]
    for at, pattern in patterns:
        if (problem := problem_of(pattern)) is not None:
            message = f"{pattern[:80]!r} is no regular expression that can be matched in bounded time: {problem}"
            yield at, message, "correct it (there is no lookaround and no backreference)"


def _types(schema: dict[str, Any]) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _widened(types: set[str]) -> set[str]:
    return types | {"integer"} if "number" in types else types


def _is_of(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, float) and not value.is_integer() and "number" not in types:
        return False
    return any(isinstance(value, _PYTHON_TYPES[name]) for name in types if name != "boolean")


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _text(value: Any) -> str:
    return repr(value)[:80]


def _dangling(schema: Any, root: dict[str, Any], place: Place) -> Iterator[tuple[Place, str]]:
    """References that lead nowhere; other documents are never fetched, so they count."""
    if not isinstance(schema, dict):
        return
    ref = schema.get("$ref")
    if isinstance(ref, str) and not _resolves(ref, root):
        yield place, ref
    for at, inner in every_below(schema, place):
        yield from _dangling(inner, root, at)


def _resolves(ref: str, root: dict[str, Any]) -> bool:
    if not ref.startswith("#"):
        return "$id" in root  # relative to an id: not ours to judge
    return not ref.startswith("#/") or resolve(ref, root) is not MISSING
