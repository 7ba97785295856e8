r"""Regular expressions of strangers, matched in time that grows with the text alone.

Python's own `re` goes back and tries again: `^(a+)+$` takes longer than anybody lives for forty letters. Patterns come with JSON
Schemas, and texts with inputs, so they are matched by RE2, which the expression library (CEL's `matches`) brings along. It knows
neither lookaround nor backreferences; `$` is the end of the text, and `\d` and `\w` are ASCII, as JSON Schema has them.

>>> matches("^(a+)+$", "a" * 10_000 + "!")
False
>>> problem_of("(?!a)b")
'invalid perl operator: (?!'
"""

from __future__ import annotations

from wonder_ray.definitions.expressions import TOO_DEAR, compile_expression
from wonder_ray.errors import ExpressionError

_PREFIX = "invalid regular expression: "


class PatternError(ValueError):
    """A text is no regular expression that can be matched in bounded time."""


def matches(pattern: str, text: str) -> bool:
    """Whether a match of the pattern is anywhere in the text; a text with a NUL character, which RE2 gets cut, never matches.

    Raises:
        PatternError: The pattern cannot be used.
    """
    if "\0" in pattern:
        raise PatternError("a pattern holds a NUL character")
    if "\0" in text:
        return False
    try:
        found = compile_expression("input.matches(state)").evaluate({"input": text, "state": pattern})
    except ExpressionError as error:
        raise PatternError(_why(str(error))) from None
    return found is True


def problem_of(pattern: str) -> str | None:
    """What is wrong with a pattern, if something is."""
    try:
        matches(pattern, "")
    except PatternError as error:
        return str(error)
    return None


def _why(message: str) -> str:
    """What RE2 says, of all that an expression's error says."""
    if TOO_DEAR in message:
        return "the text is too long for a pattern with so many repetitions"
    return message.partition(_PREFIX)[2].partition(" (with ")[0][:200] or "it cannot be read"
