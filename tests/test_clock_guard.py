"""Clocks that leap are not believed by who deletes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.clock_guard import AHEAD_US_MAX, BACK_US_MAX, DAY_US, FILE_NAME, STEADY_US, Noted, consult, judge
from wonder_ray.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

NOW_US = 20_000 * DAY_US
HOUR_US = DAY_US // 24
YEAR_US = 365 * DAY_US


def test_a_clock_that_ticks_is_believed() -> None:
    noted = Noted(NOW_US)
    for hour in range(100):
        judgement = judge(noted, NOW_US + hour * HOUR_US)
        assert judgement.trusted
        noted = judgement.noted
    assert noted == Noted(NOW_US + 99 * HOUR_US)


def test_ten_years_ahead_and_back_again_deletes_nothing() -> None:
    noted = Noted(NOW_US)
    for hour in range(20):
        judgement = judge(noted, NOW_US + 10 * YEAR_US + hour * HOUR_US)
        assert not judgement.trusted
        assert "ahead of what was noted" in judgement.why
        noted = judgement.noted
    assert judge(noted, NOW_US + 20 * HOUR_US) == (True, Noted(NOW_US + 20 * HOUR_US), "")


def test_a_clock_that_is_behind_is_not_believed_either() -> None:
    assert judge(Noted(NOW_US), NOW_US - BACK_US_MAX).trusted
    judgement = judge(Noted(NOW_US), NOW_US - 10 * YEAR_US)
    assert not judgement.trusted
    assert "behind what it was before" in judgement.why
    assert judgement.noted == Noted(NOW_US)


def test_a_storage_that_nobody_has_used_for_a_year_is_trusted_after_a_day() -> None:
    noted, opened = Noted(NOW_US), NOW_US + YEAR_US
    answers = []
    for hour in range(30):
        judgement = judge(noted, opened + hour * HOUR_US)
        answers.append(judgement.trusted)
        noted = judgement.noted
    assert answers == [False] * 24 + [True] * 6


def test_every_leap_begins_its_day_anew() -> None:
    noted = judge(Noted(NOW_US), NOW_US + YEAR_US).noted
    noted = judge(noted, NOW_US + 3 * YEAR_US).noted
    assert not judge(noted, NOW_US + YEAR_US + STEADY_US).trusted
    assert not judge(noted, NOW_US + 3 * YEAR_US + STEADY_US - 1).trusted
    assert judge(noted, NOW_US + 3 * YEAR_US + STEADY_US).trusted


@given(steps=st.lists(st.integers(-5 * YEAR_US, 5 * YEAR_US), max_size=40))
def test_whatever_a_clock_does_a_leap_is_trusted_only_after_a_steady_day(steps: list[int]) -> None:
    noted, now = Noted(NOW_US), NOW_US
    for step in steps:
        now = max(0, now + step)
        judgement = judge(noted, now)
        if judgement.trusted and now > noted.believed_us + AHEAD_US_MAX:
            assert noted.suspect_since_us is not None
            assert now - noted.suspect_since_us >= STEADY_US
        assert judgement.trusted or judgement.noted.believed_us == noted.believed_us
        noted = judgement.noted


def test_what_is_noted_outlives_the_process(tmp_path: Path) -> None:
    first = consult(tmp_path, NOW_US)
    assert (first.trusted, first.why.partition(";")[0]) == (False, "no time was noted here before")
    assert consult(tmp_path, NOW_US + STEADY_US).trusted
    assert not consult(tmp_path, NOW_US + YEAR_US).trusted
    assert consult(tmp_path, NOW_US + YEAR_US, trust=True).trusted
    assert consult(tmp_path, NOW_US + YEAR_US + HOUR_US).trusted
    assert json.loads((tmp_path / FILE_NAME).read_bytes())["believed_us"] == NOW_US + YEAR_US + HOUR_US


def test_a_torn_note_is_as_good_as_none(tmp_path: Path) -> None:
    consult(tmp_path, NOW_US, trust=True)
    (tmp_path / FILE_NAME).write_text('{"believed')
    assert not consult(tmp_path, NOW_US).trusted


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is the folder writable"):
        consult(tmp_path / "none", NOW_US)
