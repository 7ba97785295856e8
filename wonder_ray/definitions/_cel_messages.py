"""What the CEL library says, in words that say what to do."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Final

from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Iterable

NESTING_MAX: Final = 32
ITERATIONS_MAX: Final = 9_999
_SHOWN_MAX: Final = 200
_AT: Final = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']+)'")
_MIXED: Final = re.compile(r"\((?:int(?:64)?, double|double, int(?:64)?)\)")
_CODE: Final = re.compile(r"\A[A-Z_]+: |(?: \[[A-Z_]+\])\Z")


def compile_error(text: str, message: str, names: Iterable[str]) -> ExpressionError:
    """What is wrong with a text, and where."""
    if undeclared := _UNDECLARED.findall(message):
        what = f"{', '.join(sorted(set(undeclared)))} is unknown; names in scope are {', '.join(sorted(names))}"
    elif "recursion" in message:
        what = f"nested deeper than {NESTING_MAX}; split it over several steps (a chain of + counts, too: use a list)"
    elif found := _AT.search(message):
        what = found[3]
    else:
        what = _CODE.sub("", message)
    return ExpressionError(f"expression `{shortened(text)}`: {shortened(what)}{_hint(message)}{_caret(text, message)}")


def _caret(text: str, message: str) -> str:
    """The line the library objects to, with a caret below the place."""
    found = _AT.search(message)
    lines = text.split("\n")
    if not found or not 1 <= int(found[1]) <= len(lines) or int(found[2]) < 1:
        return ""
    column = int(found[2]) - 1
    first = max(0, column - _SHOWN_MAX // 4)
    return f"\n  {lines[int(found[1]) - 1][first : first + _SHOWN_MAX // 2]}\n  {' ' * (column - first)}^"


def mended(message: str, names: Iterable[str]) -> str:
    """What the library said, with what to do about it."""
    if "budget" in message:
        return f"more than {ITERATIONS_MAX:,} steps in all, exists, map, filter; fan out with foreach, or do it in an action"
    if "found in Activation" in message:
        return f"{_CODE.sub('', message)}; there are {', '.join(sorted(names)) or 'none'}"
    if "Key not found" in message:
        return f"{_CODE.sub('', message)}; write has(...) to test for it"
    return shortened(_CODE.sub("", message)) + _hint(message)


def _hint(message: str) -> str:
    return "; CEL does not mix int and double: write double(x) or 1.0" if _MIXED.search(message) else ""


def shown(value: object) -> str:
    """A value for a message: cheap and short however large it is."""
    shorten = reprlib.Repr()
    shorten.maxlevel, shorten.maxdict, shorten.maxlist, shorten.maxstring, shorten.maxother = 4, 6, 6, 80, 80
    return shortened(shorten.repr(value))


def shortened(text: str) -> str:
    """A text for a message."""
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
