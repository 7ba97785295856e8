"""The behaviour cases S1 to S11 and A1 to A8 as definitions, with what must come of them: for the core and for a real cluster.

Every action is a pure function of `tests.cases.words`, named by its node (`ActionNode.action`), so that any runner can call it.
`Case.seconds` are the delays that force the arrival order a case is about; a node that is not named takes next to no time.
"""

from __future__ import annotations

from tests.cases.a_definitions import a_cases
from tests.cases.s_definitions import s_cases
from tests.cases.words import Case, action

__all__ = ["Case", "a_cases", "action", "all_cases", "s_cases"]


def all_cases() -> list[Case]:
    """Every case."""
    return [*s_cases(), *a_cases()]
