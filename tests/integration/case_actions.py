"""The actions of the behaviour cases, with the delays that force an order of arrival."""

from __future__ import annotations

import time
from typing import Any

from tests.cases.words import action


def run_case(ref: str, seconds: float, given: dict[str, Any]) -> Any:
    """Call the action that a node names."""
    if seconds:
        time.sleep(seconds)
    return action(ref)(**given)
