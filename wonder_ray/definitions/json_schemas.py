"""Values against JSON Schemas (draft 2020-12), within bounds: nothing is fetched, and no validation goes on for ever.

Schemas may come from strangers, and inputs, answers and payloads from anybody; who judges them is a service or a coordinator,
which many others wait for.

>>> [error.message for error in errors_of({"type": "integer", "minimum": 18}, 15, most=5)]
['15 is less than the minimum of 18']
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.limits import REFERENCES_MAX
from wonder_ray.definitions.patterns import PatternError, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema.exceptions import ValidationError

_REFERENCES: Final = ("$ref", "$dynamicRef")
_SHOWN_MAX: Final = 5


class _Validation:
    """One that is under way."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self.followed = 0
        """References."""

    @cached_property
    def has_patterns(self) -> bool:
        """Whether `patternProperties` is anywhere in its schema."""
        stack: list[Any] = [self._schema]
        while stack:
            at = stack.pop()
            if isinstance(at, dict):
                if "patternProperties" in at:
                    return True
                stack += at.values()
            elif isinstance(at, list):
                stack += at
        return False


_under_way: ContextVar[_Validation] = ContextVar("wonder_validation")


class UnusableSchemaError(ValueError):
    """A schema cannot be used to judge a value; the message says why ("its schema ...")."""


class DanglingReferenceError(UnusableSchemaError):
    """It refers to something that is not in it."""


def errors_of(schema: Mapping[str, Any], value: Any, *, most: int) -> list[ValidationError]:
    """The first few things that a sound schema has against a value, which may break it a million times.

    Raises:
        UnusableSchemaError: The schema refers to itself without end, or to what it does not hold, or has a pattern that
            cannot be matched in bounded time.
    """
    from referencing.exceptions import Unresolvable

    token = _under_way.set(_Validation(schema))
    try:
        return list(islice(_validator(dict(schema)).iter_errors(value), most))
    except _TooManyReferencesError:
        msg = f"its schema needs more than {REFERENCES_MAX:,} references: simplify the schema"
        raise UnusableSchemaError(msg) from None
    except RecursionError:
        msg = "its schema refers to itself without end: mend the schema"
        raise UnusableSchemaError(msg) from None
    except Unresolvable as unresolvable:
        msg = f"its schema refers to {unresolvable.ref[:200]!r}, which is not in it"
        raise DanglingReferenceError(msg) from None
    except PatternError as error:
        msg = f"its schema has a pattern that cannot be used: {error}"
        raise UnusableSchemaError(msg) from None
    finally:
        _under_way.reset(token)


class _TooManyReferencesError(Exception):
    """A validation was stopped."""


def _validator(schema: dict[str, Any]) -> Any:
    from referencing import Registry

    return _bounded()(schema, registry=Registry())


@cache
def _bounded() -> Any:
    from jsonschema import Draft202012Validator  # 60 ms, and few runs need it
    from jsonschema.validators import extend

    counting = {name: _counting(Draft202012Validator.VALIDATORS[name]) for name in _REFERENCES}
    bounded = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "unevaluatedProperties": _no_patterns_besides(Draft202012Validator.VALIDATORS["unevaluatedProperties"]),
    }
    return extend(Draft202012Validator, counting | bounded)  # type: ignore[no-untyped-call] # the stubs leave it untyped


def _counting(rule: Any) -> Any:
    def follow(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        validation = _under_way.get()
        validation.followed += 1
        if validation.followed > REFERENCES_MAX:
            raise _TooManyReferencesError
        yield from rule(validator, target, instance, schema)

    return follow


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, schema in patterns.items():
            for key, value in instance.items():
                if matches(pattern, key):
                    yield from validator.descend(value, schema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, additional: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [key for key in instance if key not in named and not any(matches(pattern, key) for pattern in patterns)]
    if isinstance(additional, dict):
        for extra in extras:
            yield from validator.descend(instance[extra], additional, path=extra)
    elif not additional and extras:
        shown = ", ".join(map(repr, sorted(extras)[:_SHOWN_MAX]))
        more = f" and {len(extras) - _SHOWN_MAX} more" if len(extras) > _SHOWN_MAX else ""
        were = "was" if len(extras) == 1 else "were"
        yield ValidationError(f"Additional properties are not allowed ({shown}{more} {were} unexpected)")


def _no_patterns_besides(rule: Any) -> Any:
    """The library's rule, which matches `patternProperties` by Python's `re`; so where the schema has some it is refused."""

    def judge(validator: Any, unevaluated: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if _under_way.get().has_patterns:
            raise PatternError("unevaluatedProperties beside patternProperties: use additionalProperties")
        yield from rule(validator, unevaluated, instance, schema)

    return judge
