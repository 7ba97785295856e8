"""What `on` of a transition says: after which outcome of its source node it may fire.

>>> parse_trigger("failed[TimeoutError]")
Trigger(outcome='failed', error_type='TimeoutError', group=None)
>>> parse_trigger("group_failed(pages)[ValueError]").group
'pages'
"""

from __future__ import annotations

import re

import msgspec

from wonder_ray.errors import DefinitionError

OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "group_failed")
GRAMMAR = "completed, failed, failed[ErrorType], timed_out, cancelled, group_failed(group) or group_failed(group)[ErrorType]"

_PLAIN = re.compile(r"(completed|timed_out|cancelled)|(failed)(?:\[([\w.:\-]{1,200})\])?")
_GROUP = re.compile(r"group_failed\(([A-Za-z0-9][\w.\-]{0,127})\)(?:\[([\w.:\-]{1,200})\])?", re.ASCII)


class Trigger(msgspec.Struct, frozen=True):
    """The outcome a transition waits for.

    Fields:
        outcome: One of `OUTCOMES`.
        error_type: The only error type that matches, or None for any.
        group: For `group_failed`, the group whose failure is meant; else None.
    """

    outcome: str
    error_type: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        group = "" if self.group is None else f"({self.group})"
        error_type = "" if self.error_type is None else f"[{self.error_type}]"
        return f"{self.outcome}{group}{error_type}"


def parse_trigger(text: str) -> Trigger:
    """The `Trigger` that an `on` text means; a `DefinitionError` that shows the grammar when it means none.

    >>> str(parse_trigger("group_failed(pages)[ValueError]"))
    'group_failed(pages)[ValueError]'
    """
    plain = _PLAIN.fullmatch(text)
    if plain:
        return Trigger(plain[1] or plain[2], plain[3])
    group = _GROUP.fullmatch(text)
    if group:
        return Trigger("group_failed", group[2], group[1])
    msg = f"on: {text[:80]!r} is no outcome; write {GRAMMAR}"
    raise DefinitionError(msg)
