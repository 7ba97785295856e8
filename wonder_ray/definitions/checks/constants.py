"""Expressions that use no name: what they give is known now, and must fit what it is taken for."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.checks.texts import uses
from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.limits import SECONDS_MAX, SPAWN_MAX
from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.checks.texts import Meaning, Use


def check_constants(survey: Survey, names: Mapping[str, frozenset[str]]) -> None:
    """Note constants of the wrong kind, and guards that never hold."""
    for use in uses(survey):
        if use.meaning != "value" and names.get(use.text) == frozenset():
            _constant(survey, use)


def _constant(survey: Survey, use: Use) -> None:
    try:
        value = compile_expression(use.text).evaluate({})
    except ExpressionError as error:
        survey.add(use.place, str(error), "correct the expression")
        return
    wrong = trouble(use.meaning, value)
    if wrong is not None:
        survey.add(use.place, f"{use.text[:80]!r} gives {value!r:.80}: {wrong[0]}", wrong[1])
    elif use.place[-1] == "guard" and value is False:
        survey.warn(use.place, "the guard never holds, so nothing ever starts here", "remove the guard, or the node")


def trouble(meaning: Meaning, value: Any) -> tuple[str, str] | None:
    """Why a value cannot be taken for this, and what to do about it; None when it can.

    >>> trouble("moment", "2026-11-25T09:00:00")
    ('a time without its zone', "add Z, or an offset, as in '2026-11-25T09:00:00Z'")
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match meaning:
        case "condition" if not isinstance(value, bool):
            return "a condition is true or false", "compare it with something"
        case "list" if not isinstance(value, list):
            return "foreach takes a list", "write a list, such as [1, 2], or use spawn_count"
        case "key" if isinstance(value, bool) or not isinstance(value, str | int):
            return "a key is a text or a whole number", "write such an expression, as in input.user or 'one at a time'"
        case "count" if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SPAWN_MAX:
            return "it must be a whole number of at least 0, and at most 1,000,000", "correct it"
        case "seconds" if not is_number or not 0 <= value <= SECONDS_MAX:
            return "it must be a number of seconds of at least 0", "write it in seconds, as in 90 or input.minutes * 60"
        case "moment":
            return _moment_trouble(value, is_number=is_number)
    return None


def _moment_trouble(value: Any, *, is_number: bool) -> tuple[str, str] | None:
    if is_number and 0 <= value <= SECONDS_MAX:
        return None
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        return "it is no time", "write RFC 3339 text, as in '2026-11-25T09:00:00Z', or seconds since 1970"
    return None if moment.tzinfo is not None else ("a time without its zone", f"add Z, or an offset, as in '{value}Z'")
