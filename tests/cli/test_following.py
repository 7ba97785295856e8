"""Watching a run, with a run that is told what to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cli.test_progress import MIDDLE, Fake
from wonder_ray.cli import following
from wonder_ray.cli.following import Display, follow, result_json, tell
from wonder_ray.resources.records import RunRecord
from wonder_ray.state import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_ID = "run_0192f0c1a2b3_0123456789abcdef"


def record(status: RunStatus = RunStatus.COMPLETED, **fields: Any) -> RunRecord:
    given: dict[str, Any] = {
        "run_id": RUN_ID,
        "workspace_id": "default",
        "project_id": "default",
        "key": None,
        "workflow_name": "w",
        "workflow_version": "v",
        "root_run_id": RUN_ID,
        "parent_run_id": None,
        "input": b"null",
        "trace": False,
        "labels": {},
        "created_us": 0,
        "epoch": 1,
        "placement": None,
        "status": status,
        "output": b'{"n":1}',
        "tokens": 4,
        "events": 9,
        "duration_ms": 1_500.0,
        "ended_us": 5,
    }
    return RunRecord(**given | fields)


class Run:
    """Answers from lists; the last answer of `statuses` is repeated."""

    def __init__(self, waits: int, statuses: list[Fake | None], missing: int = 0) -> None:
        self.id = RUN_ID
        self.waits = waits
        self.statuses = statuses
        self.missing = missing
        self.asked_after: list[int] = []
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> RunRecord | None:
        self.pauses.append(timeout)
        self.waits -= 1
        return record() if self.waits < 0 else None

    def status(self) -> Fake | None:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[Any]:
        self.asked_after.append(after)
        self.missing -= 1
        return iter(()) if self.missing >= 0 else iter(["the last event"])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.0)


def test_a_run_is_watched_to_its_end_and_until_its_events_are_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(waits=3, statuses=[MIDDLE], missing=2)
    assert follow(run).status == "completed"
    assert run.asked_after == [8, 8, 8]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, "what has not changed is not said again"
    assert "41/101 done" in said.err


def test_a_silent_coordinator_is_told_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SILENT_SECONDS", 0.0)
    follow(Run(waits=3, statuses=[None]))
    assert capsys.readouterr().err.count("wonder logs") == 1


def test_events_that_stay_away_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SETTLE_SECONDS", 0.0)
    follow(Run(waits=0, statuses=[None], missing=1_000_000))
    assert "has not got all events" in capsys.readouterr().err


def test_what_is_dear_to_look_at_is_looked_at_rarely() -> None:
    with Display() as display:
        assert display.pause(0.0) < 0.01
        assert display.pause(0.03) == pytest.approx(0.03 / following.COST_SHARE)
        assert display.pause(60.0) == following.PAUSE_MAX


def test_the_rate_is_that_of_the_last_seconds() -> None:
    display = Display()
    assert display._rate(0.0, 100) == 0.0
    assert display._rate(5.0, 110) == 2.0
    assert display._rate(11.0, 110) == 0.0
    assert display._rate(12.0, 100) == 0.0


def test_a_summary_is_for_people_or_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    tell(record(), "/data", json=True)
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found == result_json(record(), "/data")
    assert found["output"] == {"n": 1}
    tell(record(), "/data", json=False, hint=" --storage /data")
    assert capsys.readouterr().out.splitlines() == [
        f"run {RUN_ID} completed in 1.5 s",
        '  output   {"n":1}',
        "  tokens   4, events 9",
        "  storage  /data",
        f"  look     wonder show | events | logs {RUN_ID} --storage /data",
    ]
    error = b'{"type":"Boom","message":"no\\nway","kind":"user","node_id":"a"}'
    tell(record(RunStatus.FAILED, output=None, error=error), "/data", json=False)
    assert "  error    Boom: no\\nway (node a)" in capsys.readouterr().out.splitlines()
