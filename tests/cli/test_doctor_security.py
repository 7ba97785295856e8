"""`wonder doctor`: what is open to others, and how to close it."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import invoke
from wonder_ray.cli import ray_processes as processes
from wonder_ray.cli.openness import check_auth, check_dashboard, check_files, check_master_key, check_secret_files
from wonder_ray.cli.ray_processes import ray_processes
from wonder_ray.clock import SimulatedClock, SystemClock
from wonder_ray.resources.master_key import load_master_keys
from wonder_ray.resources.service import ResourcesService
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY_US = 24 * 3600 * 1_000_000
OLD_KEY, NEW_KEY = "ab" * 32, "cd" * 32


class Proc:
    """A process table of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 100

    def add(self, *words: str, **environment: str) -> int:
        self._pid += 1
        place = self.folder / str(self._pid)
        place.mkdir(parents=True)
        (place / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
        (place / "environ").write_bytes("".join(f"{name}={value}\0" for name, value in environment.items()).encode())
        return self._pid

    def head(self, **environment: str) -> int:
        return self.add("/v/site-packages/ray/core/src/ray/gcs/gcs_server", "--gcs_server_port=6379", **environment)

    def dashboard(self, host: str, **environment: str) -> int:
        script = "/v/site-packages/ray/dashboard/dashboard.py"
        return self.add("/v/bin/python", script, f"--host={host}", "--port=8265", "--modules-to-load=x", **environment)


@pytest.fixture(autouse=True)
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    """No Ray of this machine is seen, and no token of its user."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    table = Proc(tmp_path / "proc")
    monkeypatch.setattr(processes, "PROC", table.folder)
    return table


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "storage").prepare()


@pytest.fixture
def service(layout: Layout) -> Callable[..., ResourcesService]:
    """The registry of the folder, at some time, with some master key."""

    def open_at(days_ago: float = 0, master_key: str | None = None) -> ResourcesService:
        clock = SimulatedClock(start_us=int(SystemClock().now_us() - days_ago * DAY_US))
        keys = load_master_keys(layout.master_key, environment=master_key or "")
        return ResourcesService(layout.resources, clock=clock, master_keys=keys)

    return open_at


def found(layout: Layout, name: str) -> dict[str, Any]:
    called = invoke("doctor", "--json", "--storage", layout.root)
    (check,) = [check for check in called.json["checks"] if check["name"] == name]
    assert called.code == int(any(each["state"] == "fail" for each in called.json["checks"]))
    assert not any(f"{key}" in called.out for key in (OLD_KEY, NEW_KEY))
    return dict(check)


def carry_out(mend: str) -> None:
    """What a user does who copies the line into a shell."""
    for command in mend.split(" && "):
        program, *words = shlex.split(command)
        if program == "wonder":
            assert invoke(*words).code == 0
        else:
            subprocess.run([program, *words], check=True)


def test_what_is_told_to_be_done_closes_what_is_open(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "it's a storage").prepare()
    clock = SimulatedClock(start_us=SystemClock().now_us() - 100 * DAY_US)
    registry = ResourcesService(layout.resources, clock=clock, master_keys=load_master_keys(layout.master_key))
    for name in ("idle", "forgotten"):
        registry.create_api_key(name, ("admin",))
        file = tmp_path / f"the {name} secret"
        file.write_text("sk-12345678")
        file.chmod(0o644)
        registry.put_secret(name, file=str(file))
    registry.close()
    layout.master_key.chmod(0o644)
    layout.root.chmod(0o755)
    for name, state in (("master key", "fail"), ("files", "warn"), ("keys", "warn"), ("secrets", "warn")):
        check = found(layout, name)
        assert check["state"] == state
        carry_out(check["mend"])
        assert found(layout, name)["state"] == "ok", name
    layout.root.chmod(0o755)
    carry_out(found(layout, "storage")["mend"])
    assert found(layout, "storage")["state"] == "ok"


def test_a_ray_that_asks_for_no_token_is_told(proc: Proc, layout: Layout) -> None:
    assert check_auth().state == "warn"  # none runs, and none is set up
    good = proc.head(RAY_AUTH_MODE="token")
    assert (found(layout, "auth")["state"], f"pid {good}" in check_auth().message) == ("ok", True)
    for mode in ({"RAY_AUTH_MODE": "disabled"}, {}):
        bad = proc.head(**mode)
        check = found(layout, "auth")
        assert (check["state"], f"pid {bad}" in check["message"]) == ("warn", True)
        assert "RAY_AUTH_MODE=token" in check["mend"]


def test_a_token_of_ray_that_others_read_is_told(
    proc: Proc, layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proc.head(RAY_AUTH_MODE="token")
    token = tmp_path / "auth_token"
    token.write_text("x" * 64)
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr("wonder_ray.cli.openness.ENTERED", 0o7777)  # the folders of tests are private
    check = found(layout, "auth")
    assert (check["state"], f"{token} (mode 644)" in check["message"]) == ("warn", True)
    carry_out(check["mend"])
    assert found(layout, "auth")["state"] == "ok"


def test_a_token_of_ray_in_a_folder_that_keeps_others_out_is_fine(
    proc: Proc, layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proc.head(RAY_AUTH_MODE="token")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "auth_token").write_text("x" * 64)
    (home / "auth_token").chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "auth_token"))
    assert found(layout, "auth")["state"] == "ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.5.5.5"])
def test_a_dashboard_on_loopback_is_fine(proc: Proc, layout: Layout, host: str) -> None:
    assert found(layout, "dashboard")["message"] == "no dashboard of Ray runs on this host"
    proc.dashboard(host)
    assert found(layout, "dashboard")["state"] == "ok"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.2", "head.example.com", ""])
def test_a_dashboard_that_others_reach_is_told(proc: Proc, layout: Layout, host: str) -> None:
    proc.dashboard("127.0.0.1")
    pid = proc.dashboard(host)
    check = found(layout, "dashboard")
    assert (check["state"], f"{host}:8265 (pid {pid})" in check["message"]) == ("warn", True)
    assert "not known to ask" in check["message"]
    assert "--dashboard-host=127.0.0.1" in check["mend"]


def test_a_wide_dashboard_with_a_token_is_told_as_such(proc: Proc) -> None:
    proc.dashboard("0.0.0.0", RAY_AUTH_MODE="token")
    assert "and asks for a token" in check_dashboard().message


def test_other_processes_are_not_rays(proc: Proc) -> None:
    proc.add("/usr/bin/vim", "/v/ray/dashboard/notes.py")
    proc.add("/home/me/dashboard.py", "--host=0.0.0.0")
    proc.add("grep", "x", "y", "z", "w", "/v/ray/gcs_server")
    (proc.folder / "self").mkdir()
    (proc.folder / "999").mkdir()  # one that ended while it was looked at
    assert ray_processes() == []


def test_files_in_a_folder_that_is_open_to_others_are_told(layout: Layout) -> None:
    layout.resources.write_bytes(b"")
    layout.resources.chmod(0o644)
    assert check_files(layout).state == "ok"
    layout.root.chmod(0o750)
    check = check_files(layout)
    assert (check.state, check.mend) == ("warn", f"chmod -R go= {layout.root}")
    assert "resources.sqlite (644)" in check.message
    layout.resources.chmod(0o600)
    assert check_files(layout).state == "ok"


def test_no_master_key_is_needed_before_there_is_anything_to_protect(layout: Layout) -> None:
    check = found(layout, "master key")
    assert (check["state"], check["message"]) == ("ok", "none is needed yet; the first API key or secret makes one")
    assert not layout.master_key.exists()


def test_a_master_key_that_others_read_is_told(layout: Layout, service: Callable[..., ResourcesService]) -> None:
    service().create_api_key("ci", ("admin",))
    assert found(layout, "master key")["message"] == "in master.key, mode 600; it fits all that was made with it"
    layout.master_key.chmod(0o640)
    check = found(layout, "master key")
    assert (check["state"], check["mend"]) == ("warn", f"chmod 600 {layout.master_key}")
    layout.root.chmod(0o755)
    assert found(layout, "master key")["state"] == "fail"


def test_a_master_key_that_is_away_is_told(layout: Layout, service: Callable[..., ResourcesService]) -> None:
    registry = service(master_key=OLD_KEY)
    registry.create_api_key("ci", ("admin",))
    registry.put_secret("openai", value="sk-12345678")
    registry.close()
    check = found(layout, "master key")
    assert (check["state"], check["message"].startswith("1 API keys and 1 secrets cannot be")) == ("fail", True)
    assert "WONDER_MASTER_KEY" in check["mend"]


def test_a_master_key_from_the_environment(
    layout: Layout, service: Callable[..., ResourcesService], monkeypatch: pytest.MonkeyPatch
) -> None:
    service(master_key=OLD_KEY).create_api_key("ci", ("admin",))
    monkeypatch.setenv("WONDER_MASTER_KEY", f"{NEW_KEY},{OLD_KEY}")
    assert found(layout, "master key")["message"] == "from WONDER_MASTER_KEY; it fits all that was made with it"
    monkeypatch.setenv("WONDER_MASTER_KEY", NEW_KEY)
    assert found(layout, "master key")["state"] == "fail"
    monkeypatch.setenv("WONDER_MASTER_KEY", "no key")
    check = found(layout, "master key")
    assert (check["state"], "64 hex digits" in check["message"]) == ("fail", True)


def test_old_and_idle_api_keys_are_told(layout: Layout, service: Callable[..., ResourcesService]) -> None:
    old = service(days_ago=100).create_api_key("old", ("admin",))
    service(days_ago=100).create_api_key("expired", ("admin",), expires_us=SystemClock().now_us() - DAY_US)
    gone = service(days_ago=100).create_api_key("gone", ("admin",))
    service().revoke_api_key(gone.record.key_id)
    check = found(layout, "keys")
    assert (check["state"], check["mend"]) == ("warn", f"wonder key revoke {old.record.key_id} --storage {layout.root}")
    assert check["message"] == f"API keys were not used for 90 days: {old.record.key_id} (old)"

    service().authorize(old.token)
    check = found(layout, "keys")
    assert (check["state"], check["mend"]) == ("warn", f"wonder key rotate {old.record.key_id} --storage {layout.root}")
    assert check["message"] == f"API keys are older than 90 days: {old.record.key_id} (old)"

    service().rotate_api_key(old.record.key_id)
    assert found(layout, "keys")["message"] == "1 API keys are good, 1 of them without an end"


def test_a_secrets_file_that_others_read_is_told(
    layout: Layout, service: Callable[..., ResourcesService], tmp_path: Path
) -> None:
    file = tmp_path / "api.txt"
    file.write_text("sk-12345678")
    file.chmod(0o600)
    registry = service()
    registry.put_secret("api", file=str(file))
    registry.put_secret("elsewhere", file="/run/secrets/of-another-host")
    assert found(layout, "secrets")["state"] == "ok"
    file.chmod(0o644)
    check = found(layout, "secrets")
    assert (check["state"], check["mend"]) == ("warn", f"chmod 600 {file}")


def test_a_registry_that_cannot_be_read_fails_once(layout: Layout) -> None:
    layout.resources.write_bytes(b"garbage" * 1000)
    assert found(layout, "keys")["state"] == "fail"


def test_a_folder_whose_registry_is_a_postgresql_is_asked_there(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.resources_url.write_text("postgresql://wonder@db.invalid/wonder\n")
    check = found(layout, "keys")
    assert (check["state"], "lives in postgresql://" in check["message"]) == ("fail", True)


def test_nothing_is_made_or_changed(layout: Layout) -> None:
    before = sorted(layout.root.iterdir())
    invoke("doctor", "--storage", layout.root)
    assert sorted(layout.root.iterdir()) == before
    assert (check_secret_files(()).state, check_master_key(layout, (), ()).state) == ("ok", "ok")
