from __future__ import annotations

import pickle
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from wonder_ray.errors import NotFoundError, RunNotFoundError, SecretError, StorageError, WonderError
from wonder_ray.resources.master_key import MasterKeys, load_master_keys
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.resources.lines import Lines
    from wonder_ray.clock import SimulatedClock

OLD, NEW = b"o" * 32, b"n" * 32
VALUE = "canary-5f2a-ä-value"


@pytest.fixture
def service(place: str, clock: SimulatedClock, log: Lines) -> Iterator[ResourcesService]:
    service = ResourcesService(place, log=log, clock=clock, master_keys=lambda: MasterKeys([OLD]))
    service.create_workspace("other")
    yield service
    service.close()


def run_in(service: ResourcesService, workspace_id: str = "default") -> str:
    service.put_definition(b'{"name":"crawl","nodes":[]}', workspace_id=workspace_id)
    return service.start_run(StartRequest(workflow_name="crawl", workspace_id=workspace_id))[0].run_id


def dump(service: ResourcesService) -> str:
    with service._store._database.engine.connect() as sql:
        return str([dict(row._mapping) for row in sql.execute(text("SELECT * FROM secrets"))])


def test_a_stored_secret_is_given_to_runs_of_its_workspace_only(service: ResourcesService) -> None:
    service.put_secret("openai", value=VALUE, description="of the team")
    granted = service.grant_secret(run_in(service), "openai")
    assert (granted.value, granted.provider, granted.location) == (VALUE, "stored", None)
    with pytest.raises(SecretError, match="no secret 'openai' in workspace 'other'"):
        service.grant_secret(run_in(service, "other"), "openai")
    with pytest.raises(RunNotFoundError):
        service.grant_secret(f"run_{0:012x}_{0:016x}", "openai")


def test_a_secret_of_the_environment_or_a_file_is_granted_by_its_place(service: ResourcesService) -> None:
    run_id = run_in(service)
    service.put_secret("a", env="OPENAI_KEY")
    service.put_secret("b", file="/run/secrets/openai")
    assert [(g.provider, g.location, g.value) for g in (service.grant_secret(run_id, name) for name in "ab")] == [
        ("env", "OPENAI_KEY", None),
        ("file", "/run/secrets/openai", None),
    ]


def test_nothing_shows_the_value(service: ResourcesService, log: Lines) -> None:
    put = service.put_secret("openai", value=VALUE)
    granted = service.grant_secret(run_in(service), "openai")
    shown = [put, service.get_secret("openai"), service.list_secrets(), repr(granted), str(granted), log.lines, dump(service)]
    assert VALUE not in str(shown)
    assert VALUE.encode() not in pickle.dumps((put, service.list_secrets()))
    kinds = [kind for _, kind in log.kinds() if kind.startswith("secret")]
    assert kinds == ["secret_put", "secret_granted"]


def test_a_value_is_not_in_the_file(tmp_path: Path) -> None:
    service = ResourcesService(tmp_path / "r.sqlite", master_keys=load_master_keys(tmp_path / "master.key"))
    service.put_secret("openai", value=VALUE)
    service.close()
    assert VALUE.encode() not in (tmp_path / "r.sqlite").read_bytes()


def test_a_secret_is_changed_and_removed(service: ResourcesService, clock: SimulatedClock) -> None:
    run_id = run_in(service)
    first = service.put_secret("openai", value=VALUE)
    clock.advance(seconds=1)
    second = service.put_secret("openai", value="another-value")
    assert (first.version, second.version, second.created_us) == (1, 2, first.created_us)
    assert second.updated_us > first.updated_us
    assert service.grant_secret(run_id, "openai").value == "another-value"
    service.put_secret("openai", env="OPENAI_KEY")
    assert service.grant_secret(run_id, "openai").value is None
    assert "sealed': None" in dump(service)
    assert [each.reference for each in service.list_secrets()] == ["secret://openai"]
    service.delete_secret("openai")
    for ask in (service.get_secret, service.delete_secret):
        with pytest.raises(NotFoundError, match="no secret 'openai'"):
            ask("openai")
    with pytest.raises(SecretError):
        service.grant_secret(run_id, "openai")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"value": VALUE, "env": "A"},
        {"env": "A", "file": "/a"},
        {"value": "x7!"},
        {"value": "with a \0 within"},
        {"value": "\ud800" * 10},
        {"value": "x" * 10_000},
        {"value": "ä" * 5_000},
        {"env": "A B"},
        {"env": ""},
        {"env": "1A"},
        {"file": "relative"},
        {"file": ""},
        {"file": "/a\0"},
        {"value": VALUE, "name": "a/b"},
        {"value": VALUE, "workspace_id": "gone"},
        {"value": VALUE, "description": "x" * 3000},
    ],
)
def test_a_malformed_secret_is_refused_and_not_quoted(service: ResourcesService, log: Lines, given: dict[str, Any]) -> None:
    with pytest.raises(WonderError) as caught:
        service.put_secret(**{"name": "openai"} | given)
    assert service.list_secrets() == []
    value = given.get("value")
    assert value is None or value not in str(caught.value) + str(log.lines)


def test_a_sealed_value_opens_only_where_it_was_put(shared_place: str) -> None:
    """Whoever can write to the database, and has no master key, cannot have another workspace's secret opened for his run."""
    service = ResourcesService(shared_place, master_keys=lambda: MasterKeys([OLD]))
    service.create_workspace("other")
    service.put_secret("openai", value=VALUE)
    service.put_secret("mine", value="of the attacker", workspace_id="other")
    with service._store._database.writing() as sql:
        sql.execute(text("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'openai') WHERE name = 'mine'"))
    with pytest.raises(SecretError, match="damaged"):
        service.grant_secret(run_in(service, "other"), "mine")
    service.close()


def test_secrets_move_to_a_new_master_key(shared_place: str) -> None:
    def opened(*keys: bytes) -> ResourcesService:
        return ResourcesService(shared_place, master_keys=lambda: MasterKeys(keys))

    before, both, after = opened(OLD), opened(NEW, OLD), opened(NEW)
    before.put_secret("openai", value=VALUE)
    run_id = run_in(before)
    with pytest.raises(SecretError, match="not at hand"):
        after.grant_secret(run_id, "openai")
    assert both.grant_secret(run_id, "openai").value == VALUE
    assert (both.reseal_secrets(), both.reseal_secrets()) == (1, 0)
    assert after.grant_secret(run_id, "openai").value == VALUE
    for each in (before, both, after):
        each.close()


# --- the master key --------------------------------------------------------------------------------------------------------


def test_the_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(load_master_keys(path)().newest)) for _ in range(8)]
    assert not path.exists(), "it is made when it is needed"
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert len(ids) == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["master.key"]
    assert load_master_keys(path)().newest == ids[0]


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master.key"
    monkeypatch.setenv("WONDER_MASTER_KEY", f" {NEW.hex()} , {OLD.hex()}")
    keys = load_master_keys(path)()
    assert keys.newest == MasterKeys([NEW]).newest
    assert keys.knows(MasterKeys([OLD]).newest)
    assert not path.exists()


@pytest.mark.parametrize("given", ["x", "ab" * 31, "ab" * 33, ",", f"{OLD.hex()},x"])
def test_a_malformed_master_key_is_refused_and_not_quoted(tmp_path: Path, given: str) -> None:
    with pytest.raises(StorageError, match="64 hex digits") as caught:
        load_master_keys(None, environment=given)()
    assert OLD.hex() not in str(caught.value)
    (tmp_path / "master.key").write_text(given)
    with pytest.raises(StorageError, match=r"master\.key"):
        load_master_keys(tmp_path / "master.key")()


def test_a_key_shows_its_id_only() -> None:
    keys = MasterKeys([OLD, NEW])
    assert OLD.hex() not in repr(keys)
    assert repr(OLD)[2:-1] not in repr(keys)
