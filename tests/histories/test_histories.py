"""What was recorded once folds to what it was, and comes out of today's planners as it was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.histories.recording import ALL, Change, as_of_today, dump, load, paths, plain, record
from tests.histories.scenarios import join_all
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.fold import fold
from wonder_ray.planning import synchronization
from wonder_ray.replay import replay, state_differences
from wonder_ray.workflow_events import EVENT_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.histories.recording import History

PATHS = paths()


def unlisted(history: History) -> list[str]:
    """The turns that come out differently and are not listed, and the listed ones that do not."""
    found = replay(compile_graph(history.model), history.run_id, history.rows).differences
    differing = {difference.turn: str(difference) for difference in found}
    listed = {change.turn: change.why for change in history.changes}
    extra = [f"turn {turn} differs: {text}" for turn, text in differing.items() if turn not in listed]
    return extra + [f"turn {turn} does not differ: {why}" for turn, why in listed.items() if turn not in differing]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_history_folds_to_its_state_and_replays_to_its_events(path: Path) -> None:
    history = load(path)
    assert all(change.why for change in history.changes)
    assert state_differences(as_of_today(history.state), plain(fold(history.run_id, history.rows).durable())) == []
    assert unlisted(history) == []


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_every_scenario_has_been_recorded_and_still_runs(scenario: object) -> None:
    run = scenario()  # type: ignore[operator] # it is a function
    run.check()
    assert scenario.__name__ in {path.stem for path in PATHS}, "python -m tests.histories.recording"  # type: ignore[attr-defined] # as above


def test_every_event_type_occurs() -> None:
    seen = {row["event_type"] for path in PATHS for row in load(path).rows}
    assert set(EVENT_TYPES) - seen == set()


def test_a_history_comes_back_from_its_file(tmp_path: Path) -> None:
    history = record("a join", join_all())
    path = tmp_path / "x.json"
    path.write_text(dump(history), encoding="utf-8")
    assert load(path) == history


def test_a_change_of_the_planners_is_found_and_can_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    history = record("a join", join_all())
    fires = history.rows[[row["event_type"] for row in history.rows].index("fan_in.completed")]["turn"]
    assert unlisted(history) == []
    monkeypatch.setattr(synchronization, "in_branch_order", lambda _state, _graph, arrivals: list(arrivals)[::-1])
    assert [found.split(":")[0] for found in unlisted(history)] == [f"turn {fires} differs"]
    history.changes.append(Change(turn=fires, why="the order of merges was turned round"))
    assert unlisted(history) == []
    monkeypatch.undo()
    assert unlisted(history) == [f"turn {fires} does not differ: the order of merges was turned round"]
