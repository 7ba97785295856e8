"""`wonder doctor`: what it finds, and what it says to do."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cli.conftest import invoke
from tests.cli.prepared import OPEN, QUEUED, Prepared, prepare
from wonder_ray.cli.checking import check_disk, check_folder, check_python, check_ray, check_sqlite
from wonder_ray.cli.openness import check_auth
from wonder_ray.clock import SystemClock
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.reading import Reader
from wonder_ray.storage.lock import RunLock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call, Called

NAMES = [
    *("python", "ray", "sqlite", "auth", "dashboard", "storage", "filesystem", "disk"),
    *("files", "master key", "keys", "secrets", "runs", "event log", "logs"),
]


def state_of(found: Called, name: str) -> tuple[str, str]:
    check = next(check for check in found.json["checks"] if check["name"] == name)
    return check["state"], f"{check['message']} {check['mend']}"


def test_everything_is_checked(look: Call) -> None:
    found = look("doctor", "--json")
    assert found.code == 0
    assert found.json["ok"]
    assert [check["name"] for check in found.json["checks"]] == NAMES
    people = look("doctor")
    assert all(f" {name}: " in people.out for name in NAMES)


def test_an_empty_storage_is_fine(wonder: Call, tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        found = wonder("doctor", "--json", "--storage", folder)
        assert found.code == 0
        assert {check["state"] for check in found.json["checks"]} <= {"ok", "warn"}


def test_runs_without_a_coordinator_are_to_be_resumed(look: Call, prepared: Prepared) -> None:
    state, text = state_of(look("doctor", "--json"), "runs")
    assert (state, f"wonder resume {OPEN}" in text, QUEUED in text) == ("warn", True, True)
    locks = [RunLock(Reader(prepared.storage).layout.lock_file(run_id)) for run_id in (OPEN, QUEUED)]
    assert all(lock.try_acquire({"pid": 1}) for lock in locks)
    try:
        assert state_of(look("doctor", "--json"), "runs") == ("ok", "2 unfinished, each with its coordinator ")
    finally:
        for lock in locks:
            lock.release()


def test_events_left_in_a_dead_services_log_are_told(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "s")
    rows = prepared.open.rows
    service = EventService(prepared.storage)
    service.open(OPEN, 1)
    lines = b"\n".join(msgspec.json.encode(row) for row in rows)
    service.submit([EventBatch(RunInfo(OPEN, "default", "default", OPEN, None, "crawl", "v"), "events", 1, 1, len(rows), lines)])
    service.abandon()
    state, text = state_of(invoke("doctor", "--json", "--storage", prepared.storage), "event log")
    assert state == "warn"
    assert "left by a service that is gone" in text


def test_lost_log_lines_are_told(tmp_path: Path) -> None:
    storage = prepare(tmp_path / "s").storage
    now_us = SystemClock().now_us()
    store = LogStore(Reader(storage).layout.logs, "doctor")
    store.append(
        [LogLine(timestamp=now_us, level="warning", service="executor", event_type="log_lines_dropped", message="7 lines")],
        now_us,
    )
    store.close()
    state, text = state_of(invoke("doctor", "--json", "--storage", storage), "logs")
    assert (state, "7 lines" in text) == ("warn", True)


def test_a_damaged_registry_fails(wonder: Call, tmp_path: Path) -> None:
    (tmp_path / "resources.sqlite").write_bytes(b"garbage" * 1000)
    found = wonder("doctor", "--json", "--storage", tmp_path)
    assert found.code == 1
    assert not found.json["ok"]
    assert state_of(found, "runs")[0] == "fail"
    assert "fail  runs: " in wonder("doctor", "--storage", tmp_path).out


def test_a_folder_that_is_none_or_open_to_others_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert check_folder(file).state == "fail"
    tmp_path.chmod(0o755)
    assert (check_folder(tmp_path).state, check_folder(tmp_path).mend) == ("warn", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert check_folder(tmp_path).state == "ok"
    assert check_folder(tmp_path / "a" / "b").state == "ok"


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert check_folder(tmp_path).state == "fail"
    assert check_folder(tmp_path / "none").state == "fail"


@pytest.mark.parametrize(("version", "state"), [("2.54.1", "fail"), ("2.55.0", "ok"), ("3.0.0rc1", "ok"), ("2.9", "fail")])
def test_an_old_ray_fails(version: str, state: str) -> None:
    assert check_ray(version).state == state


@pytest.mark.parametrize(("version", "state"), [("3.51.2.0", "fail"), ("3.51.3.0", "ok"), ("3.54.1.0", "ok")])
def test_an_sqlite_that_can_lose_data_fails(version: str, state: str) -> None:
    assert check_sqlite(version).state == state


@pytest.mark.parametrize(("free", "state"), [(2**20, "fail"), (2**30, "warn"), (2**40, "ok")])
def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path, free: int, state: str) -> None:
    assert check_disk(tmp_path, free).state == state


def test_a_ray_without_a_token_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_auth(()).state == "warn"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert check_auth(()).state == "ok"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert check_auth(()).state == "warn"


def test_what_is_not_installed_fails(monkeypatch: pytest.MonkeyPatch, look: Call) -> None:
    monkeypatch.setattr("importlib.metadata.version", _missing)
    found = look("doctor", "--json")
    assert found.code == 1
    assert state_of(found, "ray") == ("fail", "ray is not installed pip install ray")


def _missing(name: str) -> str:
    raise PackageNotFoundError(name)


def test_this_python_will_do() -> None:
    assert check_python().state == "ok"
