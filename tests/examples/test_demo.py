from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wonder_ray.analytics.events import Events
from wonder_ray.errors import WonderError
from wonder_ray.events.schema import EVENT_SCHEMA
from wonder_ray.examples import demo
from wonder_ray.examples.questions import QUESTIONS

if TYPE_CHECKING:
    from pathlib import Path

RUN: Final = "run_0192f0c1a2b3_0123456789abcdef"
OTHER: Final = "run_0192f0c1a2b3_fedcba9876543210"
REPORT: Final = {
    "winner": "svm C=1",
    "mean": 0.99,
    "held_out_accuracy": 0.98,
    "confused": ["8 read as 1: 2x"],
    "configurations": [{"name": f"c{i}", "mean": i / 10, "std": 0.01} for i in range(8)],
}
PREEMPTED: Final = {"error": {"type": "Preempted", "message": "gone", "node_id": "evaluate"}}
REFUSED: Final = {"error": {"type": "ValueError", "message": "no such combination", "node_id": "evaluate"}}
# event type, node, token, milliseconds, metadata
EVENTS: Final = [
    ("task.retry_scheduled", "evaluate", "t_1", None, PREEMPTED),
    ("task.failed", "evaluate", "t_1", 500.0, PREEMPTED),
    ("task.completed", "evaluate", "t_1", 2500.0, {}),
    ("token.completed", "evaluate", "t_1", None, {}),
    ("task.retry_scheduled", "evaluate", "t_2", None, PREEMPTED),
    ("token.cancelled", "evaluate", "t_2", None, {}),
    ("task.completed", "rank", "t_3", 10.0, {}),
    ("group.failure_tolerated", None, None, None, REFUSED),
    ("workflow.completed", None, None, None, {"output": {"report": REPORT}}),
]


def written(storage: Path) -> Path:
    """A storage with two runs of the same events, as the event service writes it."""
    now = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    rows: list[dict[str, Any]] = []
    for run_id in (RUN, OTHER):
        for number, (event_type, node, token, duration_ms, metadata) in enumerate(EVENTS, 1):
            rows.append(
                dict.fromkeys(EVENT_SCHEMA.names, None)
                | {"workflow_run_id": run_id, "root_run_id": run_id, "workspace_id": "default", "project_id": "default"}
                | {"workflow_name": "w", "workflow_version": "v", "sequence_number": number, "turn": 1, "epoch": 1}
                | {"timestamp": now, "turn_now": now, "event_type": event_type, "node_id": node, "token_id": token}
                | {"duration_ms": duration_ms, "metadata": json.dumps(metadata), "message": "for people"}
            )
    day = storage / "events" / "date=2026-11-23"
    day.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENT_SCHEMA), day / "1.parquet")
    return storage


def answers(storage: Path) -> dict[str, list[tuple[Any, ...]]]:
    events = Events(storage)
    return {heading: events.sql(sql, {"run": RUN}).rows for heading, sql in QUESTIONS.items()}


def test_questions_are_answered_for_one_run(tmp_path: Path) -> None:
    found = answers(written(tmp_path / "it's [odd]"))
    assert found["the winner"] == [("svm C=1", 0.99, 0.98, "8 read as 1: 2x")]
    assert [row[0] for row in found["the five best configurations"]] == ["c7", "c6", "c5", "c4", "c3"]
    assert found["where the time went"] == [("evaluate", 2, 3.0, 1500.0, 2500.0), ("rank", 1, 0.01, 10.0, 10.0)]
    assert sorted(found["attempts that were lost, and made again"]) == [
        ("evaluate", "Preempted", 1, "token.cancelled"),
        ("evaluate", "Preempted", 1, "token.completed"),
    ]
    assert found["failures that were tolerated"] == [("evaluate", "ValueError", "for people")]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "sklearn" else object())
    assert demo.main([]) == demo.REFUSED
    assert "the demo needs scikit-learn: pip install 'wonder-ray[examples]'" in capsys.readouterr().err


def test_a_storage_that_cannot_be_used_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert demo.main(["--storage", str(blocked)]) == demo.REFUSED
    said = capsys.readouterr().err
    assert "demo: the storage folder" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (WonderError("no"), 2)])
def test_how_the_demo_ends_early(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int
) -> None:
    def sweep(*_given: object, **_named: object) -> None:
        raise raised

    monkeypatch.setattr(demo, "_sweep", sweep)
    assert demo.main(["--storage", "my data"]) == code
    said = capsys.readouterr().err
    assert ("resume latest --storage 'my data'" in said) == (code == 130)


@pytest.mark.slow
def test_the_demo_runs_from_start_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wonder_ray.examples.demo", "--quick", "--storage", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=_alone())
    assert done.returncode == 0, done.stderr
    for heading in QUESTIONS:
        assert heading in done.stdout
    assert "neighbors n_neighbors=1" in done.stdout
    assert "wonder_ray.cli show latest" in done.stdout or "wonder show latest" in done.stdout
    assert list((tmp_path / "data" / "events").rglob("*.parquet"))


def _alone() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
