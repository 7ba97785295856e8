"""What an installation chooses by environment variables: how long things are kept, and how often that is seen to.

They are read by whoever makes the services (`wonder up`, or the first client) and handed to them, so that all nodes agree.

>>> Retention.from_environment({"WONDER_RETENTION_TRACE_DAYS": "3", "WONDER_RETENTION_EVENTS_DAYS": "never"}).trace_days
3
>>> Retention.from_environment({"WONDER_RETENTION_LOGS_DAYS": "soon"})
Traceback (most recent call last):
wonder_ray.errors.WonderError: WONDER_RETENTION_LOGS_DAYS is 'soon': say a number of days, at least 1, or never
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "WONDER_RETENTION_"
NEVER: Final = "never"
MINUTE_S: Final = 60


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """For how many days things are kept; None is for ever. `WONDER_RETENTION_<NAME>` sets each.

    Days count from the end of a run, and whole days are removed: what is here is never kept for less.
    """

    events_days: int | None = 90
    """Workflow events."""
    trace_days: int | None = 10
    """Trace events."""
    run_files_days: int | None = 90
    """The SQLite files of runs that have ended; their events tell the same."""
    logs_days: int | None = 30
    """Log lines, before they go into the compressed archive."""
    log_archive_days: int | None = None
    """The archive."""
    every_s: int = 3600
    """How often the services look, seconds; 0 is never: then `wonder storage --apply` does it by hand."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Retention:
        """What the environment says, and the defaults for the rest; a `WonderError` names a variable that cannot be read."""
        given = os.environ if environment is None else environment
        known = {PREFIX + name.upper(): name for name in cls.__struct_fields__}
        found: dict[str, int | None] = {}
        for variable, name in known.items():
            text = given.get(variable, "").strip()
            if text:
                found[name] = _seconds(variable, text) if name == "every_s" else _days(variable, text)
        for variable in given:
            if variable.startswith(PREFIX) and variable not in known:
                raise WonderError(f"{variable} sets nothing; there are {', '.join(known)}")
        return cls(**found)  # type: ignore[arg-type] # `every_s` alone is never None, and _seconds says so


def _days(variable: str, text: str) -> int | None:
    if text.lower() == NEVER:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise WonderError(f"{variable} is {text!r}: say a number of days, at least 1, or never")
    return int(text)


def _seconds(variable: str, text: str) -> int:
    if text != "0" and not (text.isascii() and text.isdigit() and int(text) >= MINUTE_S):
        raise WonderError(f"{variable} is {text!r}: say a number of seconds, at least {MINUTE_S}, or 0")
    return int(text)
