"""Bugs planted on purpose, at least one per rule and per invariant: what the simulator must find.

Each replaces one function of the production code while it is planted. What it breaks is said by rule (`R1` to `R11`) or
invariant (`I1` to `I11`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tests.simulation import planted_in_failures, planted_in_groups, planted_in_turns, planted_in_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Bug:
    """One planted bug: `replace` makes the wrong function of the right one."""

    breaks: str
    owner: Any
    """The module or class whose attribute is replaced."""
    attribute: str
    replace: Callable[[Any], Any]


PLANTED: Final = MappingProxyType(
    {
        function.__name__.replace("_", " "): Bug(breaks, owner, attribute, function)
        for breaks, owner, attribute, function in (
            *planted_in_groups.BUGS,
            *planted_in_failures.BUGS,
            *planted_in_turns.BUGS,
            *planted_in_waits.BUGS,
        )
    }
)
"""Name -> the bug."""


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug for a while."""
    bug = PLANTED[name]
    original = bug.owner.__dict__[bug.attribute]
    setattr(bug.owner, bug.attribute, bug.replace(original))
    try:
        yield
    finally:
        setattr(bug.owner, bug.attribute, original)
