"""Values against JSON Schemas (draft 2020-12), within bounds: nothing is fetched, and no validation goes on for ever.

Schemas may come from strangers, and inputs, answers and payloads from anybody; who judges them is a service or a coordinator,
which many others wait for.

>>> [error.message for error in errors_of({"type": "integer", "minimum": 18}, 15, most=5)]
['15 is less than the minimum of 18']
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.limits import REFERENCES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema.exceptions import ValidationError

_REFERENCES: Final = ("$ref", "$dynamicRef")
_followed: ContextVar[list[int]] = ContextVar("followed references of the validation that is under way")


class UnusableSchemaError(ValueError):
    """A schema cannot be used to judge a value; the message says why ("its schema ...")."""


class DanglingReferenceError(UnusableSchemaError):
    """It refers to something that is not in it."""


def errors_of(schema: Mapping[str, Any], value: Any, *, most: int) -> list[ValidationError]:
    """The first few things that a sound schema has against a value, which may break it a million times.

    Raises:
        UnusableSchemaError: The schema refers to itself without end, or to what it does not hold, or has a pattern that
            Python does not know.
    """
    from referencing.exceptions import Unresolvable

    token = _followed.set([0])
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
    except re.error as error:
        msg = f"its schema has a pattern that is no regular expression of Python: {error}"
        raise UnusableSchemaError(msg) from None
    finally:
        _followed.reset(token)


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
    return extend(Draft202012Validator, counting)  # type: ignore[no-untyped-call] # the stubs leave it untyped


def _counting(rule: Any) -> Any:
    def follow(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        counter = _followed.get()
        counter[0] += 1
        if counter[0] > REFERENCES_MAX:
            raise _TooManyReferencesError
        yield from rule(validator, target, instance, schema)

    return follow
