"""What the environment chooses."""

from __future__ import annotations

import pytest

from wonder_ray.errors import WonderError
from wonder_ray.settings import PREFIX, Retention


def test_the_defaults_are_those_of_the_specification() -> None:
    kept = Retention.from_environment({})
    assert (kept.events_days, kept.trace_days, kept.logs_days) == (90, 10, 30)
    assert kept == Retention()


def test_every_setting_has_a_variable() -> None:
    names = [name for name in Retention.__struct_fields__ if name != "every_s"]
    given = {f"{PREFIX}{name.upper()}": str(number) for number, name in enumerate(names, 1)}
    kept = Retention.from_environment(given | {f"{PREFIX}EVERY_S": "600", "HOME": "x", "WONDER_STORAGE": "y"})
    assert [getattr(kept, name) for name in names] == list(range(1, len(names) + 1))
    assert kept.every_s == 600
    never = Retention.from_environment(dict.fromkeys(given, "Never") | {f"{PREFIX}EVERY_S": "0"})
    assert {getattr(never, name) for name in names} == {None}
    assert never.every_s == 0


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "\uff19", "90d"])
def test_what_is_no_number_of_days_is_refused(text: str) -> None:
    with pytest.raises(WonderError, match=r"WONDER_RETENTION_EVENTS_DAYS is .*: say a number of days, at least 1, or never"):
        Retention.from_environment({"WONDER_RETENTION_EVENTS_DAYS": text})


@pytest.mark.parametrize("text", ["5", "-1", "hourly"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(WonderError, match="at least 60, or 0"):
        Retention.from_environment({"WONDER_RETENTION_EVERY_S": text})


def test_a_misspelt_variable_is_not_passed_over() -> None:
    with pytest.raises(WonderError, match="WONDER_RETENTION_EVENT_DAYS sets nothing; there are WONDER_RETENTION_EVENTS_DAYS"):
        Retention.from_environment({"WONDER_RETENTION_EVENT_DAYS": "3"})
