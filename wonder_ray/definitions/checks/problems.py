"""What is wrong with a definition, where, and how to mend it."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

Severity = Literal["error", "warning"]
Place = tuple[str | int, ...]
"""Where in the file form: `("transitions", 3, "when")`."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Fields:
        severity: An `error` makes the definition unusable; a `warning` is probably not meant.
        message: What is wrong.
        mend: What to do about it.
        node: The node it is about, if it is about one.
        transition: The transition it is about, if it is about one: `a->b`, or `a->b#2` for the second between the two.
        place: Where it stands in the file form, as keys and list positions from the top.

    Example:
        >>> print(
        ...     Problem(
        ...         severity="error", message="unknown node 'c'", mend="add it", transition="a->c", place=("transitions", 0, "to")
        ...     )
        ... )
        transition 'a->c', to: unknown node 'c'; add it
    """

    severity: Severity
    message: str
    mend: str
    node: str | None = None
    transition: str | None = None
    place: Place = ()

    @property
    def field(self) -> str:
        """The field within its node, transition or workflow, dotted: `retry.0.backoff_s`; "" for the whole."""
        inside = self.place if self.node is None and self.transition is None else self.place[2:]
        return ".".join(map(str, inside))

    def __str__(self) -> str:
        if self.node is not None:
            where = f"node {_short(self.node)!r}"
        elif self.transition is not None:
            where = f"transition {_short(self.transition)!r}"
        else:
            where = "workflow"
        field = f", {_short(self.field)}" if self.field else ""
        mend = f"\n  {_short(self.mend)}" if "\n" in self.message else f"; {_short(self.mend)}"
        return f"{where}{field}: {_short(self.message)}{mend}"


def _short(text: str) -> str:
    """What is wrong may be that a name has megabytes."""
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX // 2] + "..." + text[-_TEXT_MAX // 4 :]


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`did you mean 'x'?` when a known name is close, else the first few known names.

    >>> did_you_mean("ftech", ["fetch", "report"])
    "did you mean 'fetch'?"
    """
    close = _closest(name, known)
    return list_some(known) if close is None else f"did you mean {close!r}?"


def list_some(known: Collection[str]) -> str:
    """The first few known names.

    >>> list_some(["fetch", "report"])
    "known are 'fetch', 'report'"
    """
    some = ", ".join(repr(name[:_NAME_MAX]) for name in islice(known, _SHOWN_MAX))
    if not some:
        return "there are none"
    return f"known are {some}" + (", ..." if len(known) > _SHOWN_MAX else "")


def _closest(name: str, known: Collection[str]) -> str | None:
    if len(known) > _COMPARED_MAX:  # comparing takes 10 us each, and a large definition may have thousands of such errors
        folded = name.casefold()
        return next((other for other in known if other.casefold() == folded), None)
    if len(name) > _NAME_MAX:
        return None
    found = difflib.get_close_matches(name, [other for other in known if len(other) <= _NAME_MAX], n=1)
    return found[0] if found else None


_SHOWN_MAX = 5
_TEXT_MAX = 600
_COMPARED_MAX = 300
_NAME_MAX = 200
