"""What a JSON Schema has against a value.

>>> problems_of({"type": "integer", "minimum": 18}, 15)
('15 is less than the minimum of 18',)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.json_schemas import UnusableSchemaError, errors_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROBLEMS_MAX: Final = 5
_SHOWN_MAX: Final = 300


def problems_of(schema: Mapping[str, Any] | None, value: Any) -> tuple[str, ...]:
    """The first few problems, with their places; none where there is no schema."""
    if schema is None:
        return ()
    try:
        found = errors_of(schema, value, most=_PROBLEMS_MAX)
    except UnusableSchemaError as error:
        return (str(error),)
    return tuple(
        f"{error.json_path}: {error.message}"[:_SHOWN_MAX] if error.path else error.message[:_SHOWN_MAX] for error in found
    )
