"""What a JSON Schema has against a value.

>>> problems_of({"type": "integer", "minimum": 18}, 15)
('15 is less than the minimum of 18',)
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROBLEMS_MAX: Final = 5
_SHOWN_MAX: Final = 300


def problems_of(schema: Mapping[str, Any] | None, value: Any) -> tuple[str, ...]:
    """The first few problems, with their places; none where there is no schema."""
    if schema is None:
        return ()
    from jsonschema import Draft202012Validator  # 60 ms, and few runs need it

    found = islice(Draft202012Validator(dict(schema)).iter_errors(value), _PROBLEMS_MAX)
    return tuple(
        f"{error.json_path}: {error.message}"[:_SHOWN_MAX] if error.path else error.message[:_SHOWN_MAX] for error in found
    )
