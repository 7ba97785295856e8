"""A run's input against the JSON Schema (draft 2020-12) of its workflow, within bounds.

Schemas may come from strangers: they fetch nothing (references stay within the schema), are bounded in size and depth, and
a validation that keeps following references is stopped.

>>> schema = InputSchema.of("crawl", {"type": "object", "required": ["site"], "properties": {"site": {"type": "string"}}})
>>> schema.check({"site": 5})
Traceback (most recent call last):
wonder_ray.errors.InputError: input of workflow 'crawl', at /site: 5 is not of type 'string'; make it a value of type string
"""

from __future__ import annotations

from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match

from wonder_ray.definitions.json_schemas import DanglingReferenceError, UnusableSchemaError, errors_of
from wonder_ray.definitions.limits import SCHEMA_BYTES_MAX
from wonder_ray.errors import DefinitionError, InputError, PayloadError
from wonder_ray.values import encode

_ERRORS_MAX: Final = 50
"""Of this many errors the most telling one is shown; a large input can break a schema a million times."""
_SHOWN_MAX: Final = 300
_REFERENCES: Final = ("$ref", "$dynamicRef")


class InputSchema:
    """The compiled schema of one workflow version; None admits every input."""

    def __init__(self, workflow: str, schema: dict[str, Any] | None) -> None:
        self._workflow = workflow
        self._schema = schema

    @classmethod
    def of(cls, workflow: str, schema: Any) -> InputSchema:
        """Compile a schema.

        Raises:
            DefinitionError: It is no JSON Schema, too large, too deep, or refers to something outside itself.
        """
        if schema is None:
            return cls(workflow, None)
        where = f"workflow {workflow!r}: its input schema"
        if not isinstance(schema, dict):
            raise DefinitionError(f"{where} is a {type(schema).__name__}, not an object")
        try:
            size = len(encode(schema))
            if size > SCHEMA_BYTES_MAX:
                raise DefinitionError(f"{where} has {size:,} bytes, more than {SCHEMA_BYTES_MAX:,}: simplify it")
            _refuse_foreign_references(schema, where)
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            place = "/".join(map(str, error.absolute_path)) or "the top"
            raise DefinitionError(f"{where} is no JSON Schema (2020-12): at {place}: {_shown(error.message)}") from None
        except (PayloadError, RecursionError) as error:
            raise DefinitionError(f"{where} cannot be used: {error or 'it is nested too deep'}") from None
        return cls(workflow, schema)

    def check(self, value: Any) -> None:
        """Raise an `InputError` that names the place and the mend, unless the value fits."""
        if self._schema is None:
            return
        where = f"input of workflow {self._workflow!r}"
        try:
            error = best_match(errors_of(self._schema, value, most=_ERRORS_MAX))
        except DanglingReferenceError as unusable:
            raise DefinitionError(f"{where}: {unusable}") from None
        except UnusableSchemaError as unusable:
            raise InputError(f"{where}: {unusable}") from None
        if error is not None:
            raise _input_error(where, error)


def _input_error(where: str, error: ValidationError) -> InputError:
    pointer = json_pointer(error)
    found = InputError(f"{where}, at {pointer or '(the whole)'}: {_shown(error.message)}; {_mend(error)}")
    found.pointer = pointer
    return found


def json_pointer(error: ValidationError) -> str:
    """Where in the input the error is, as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path)


def _mend(error: ValidationError) -> str:
    """What to do about the most usual errors; for the others, where the broken rule stands."""
    rule = str(error.validator)
    value: Any = error.validator_value
    schema: Any = error.schema
    if rule == "type":
        return f"make it a value of type {' or '.join(value) if isinstance(value, list) else value}"
    if rule == "required" and isinstance(error.instance, dict):
        return f"add {', '.join(name for name in value if name not in error.instance)}"
    if rule == "additionalProperties":
        return f"the schema knows {', '.join(schema.get('properties', {})) or 'no properties'}: remove the others"
    if rule == "enum":
        return f"use one of {_shown(encode(value).decode())}"
    return f"see {'/'.join(map(str, error.absolute_schema_path))} in the schema"


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."


def _refuse_foreign_references(schema: Any, where: str) -> None:
    if isinstance(schema, dict):
        for name in _REFERENCES:
            if isinstance(target := schema.get(name), str) and not target.startswith("#"):
                raise DefinitionError(f"{where} refers to {target[:200]!r}, which is not within it: use #/...")
        for value in schema.values():
            _refuse_foreign_references(value, where)
    elif isinstance(schema, list):
        for value in schema:
            _refuse_foreign_references(value, where)
