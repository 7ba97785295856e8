"""What a check of `wonder doctor` finds."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One thing that was looked at: `state` is ok, warn or fail; `mend` is what to do about it."""

    name: str
    state: str
    message: str
    mend: str = ""
