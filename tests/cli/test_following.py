"""Watching a run, with a run that is told what to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cli.test_progress import MIDDLE, Fake
from wonder_ray.cli import following
from wonder_ray.cli.following import Display, follow, result_json, tell, watch
from wonder_ray.errors import RunNotFoundError
from wonder_ray.planning.queries import Waiting
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

    def record(self) -> RunRecord:
        return record(RunStatus.WAITING, output=None, ended_us=None)

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


GATE = Waiting(kind="gate", node_id="approve", token_id="t_1", assignee="ann", shown={"sum": 5})
STILL = Fake("waiting", {"approve": {"waiting_for_gate": 1}}, waiting=(GATE,))


def test_what_a_run_waits_for_is_said_once_with_the_command_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    again = Fake("waiting", STILL.nodes, waiting=(msgspec.structs.replace(GATE, asked=2),))
    watch(Run(waits=4, statuses=[STILL, STILL, again, again]), hint=" --storage /data")
    said = [line for line in capsys.readouterr().err.splitlines() if "0/1 done" not in line]
    assert said == [
        "gate 'approve' asks ann: {\"sum\":5}",
        f"  wonder answer {RUN_ID} approve JSON --storage /data",
        "gate 'approve' asks ann (asked 2 times): {\"sum\":5}",
        f"  wonder answer {RUN_ID} approve JSON --storage /data",
    ]


def test_a_run_is_watched_until_somebody_has_to_do_something(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(waits=100, statuses=[Fake("running", in_flight=1, waiting=(GATE,)), STILL])
    followed = watch(run, until_wait=True)
    assert (followed.record.status, [need.wait for need in followed.needs], run.waits) == ("waiting", [GATE], 98)
    tell(followed.record, "/data", json=True, needs=followed.needs, reply={"ok": True, "accepted": True})
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["accepted"], found["status"], found["waiting"][0]["node_id"]) == (True, "waiting", "approve")
    tell(followed.record, "/data", json=False, needs=followed.needs)
    assert f"    wonder answer {RUN_ID} approve JSON" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("waiting", "status", "in_flight", "stops"),
    [
        ((GATE,), "running", 0, False),
        ((GATE,), "paused", 1, False),
        ((Waiting(kind="pause"),), "paused", 0, True),
        ((Waiting(kind="timer", node_id="t", deadline_us=1),), "waiting", 0, False),
        ((GATE, Waiting(kind="timer", node_id="t", deadline_us=1)), "waiting", 0, False),
        ((GATE, Waiting(kind="timer", node_id="t", deadline_us=9 * 10**15)), "waiting", 0, True),
        ((Waiting(kind="lock", node_id="l"),), "waiting", 0, False),
        ((Waiting(kind="child", node_id="c", name="run_x"),), "waiting", 0, False),
    ],
)
def test_a_run_that_can_go_on_by_itself_is_watched_on(
    waiting: tuple[Waiting, ...], status: str, in_flight: int, stops: bool
) -> None:
    run = Run(waits=2, statuses=[Fake(status, in_flight=in_flight, waiting=waiting)])
    assert bool(watch(run, until_wait=True).needs) is stops


def test_what_child_runs_wait_for_is_said_too(capsys: pytest.CaptureFixture[str]) -> None:
    parent = Fake("waiting", waiting=(Waiting(kind="child", node_id="page", name="run_c"),))
    found: list[str] = []

    def find(run_id: str) -> Run:
        found.append(run_id)
        if len(found) == 1:
            raise RunNotFoundError("not yet")
        child = Run(waits=0, statuses=[None if len(found) == 2 else STILL])
        child.id = run_id
        return child

    followed = watch(Run(waits=100, statuses=[parent]), find, until_wait=True)
    assert [(need.run_id, need.wait.kind, need.status) for need in followed.needs] == [
        (RUN_ID, "child", "waiting"),
        ("run_c", "gate", None),
    ]
    said = capsys.readouterr().err.splitlines()
    assert said[-3:] == [
        "node 'page' waits for its child run run_c (waiting)",
        "gate 'approve' asks ann: {\"sum\":5}",
        "  wonder answer run_c approve JSON",
    ]


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
