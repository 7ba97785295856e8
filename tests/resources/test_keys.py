from __future__ import annotations

import pickle
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from wonder_ray.errors import AuthenticationError, ConflictError, DefinitionError, ForbiddenError, NotFoundError, WonderError
from wonder_ray.resources.access_records import SCOPES
from wonder_ray.resources.master_key import MasterKeys
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.resources.lines import Lines
    from wonder_ray.clock import SimulatedClock

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def service(place: str, clock: SimulatedClock, log: Lines) -> Iterator[ResourcesService]:
    service = ResourcesService(place, log=log, clock=clock, master_keys=lambda: MasterKeys([OLD]))
    service.create_workspace("team")
    log.lines.clear()
    yield service
    service.close()


def refused(service: ResourcesService, token: str, log: Lines) -> str:
    """Why a key was refused, according to the log: whoever sent it is told the same whatever it was."""
    with pytest.raises(AuthenticationError) as caught:
        service.authorize(token)
    assert str(caught.value).startswith("the API key is unknown, expired or revoked, or there is none: send")
    level, kind, _, fields = log.lines[-1]
    assert (level, kind) == ("warning", "api_key_refused")
    return str(fields["why"])


def test_a_key_is_good_for_its_scopes_in_its_workspace(service: ResourcesService) -> None:
    made = service.create_api_key("ci", ("runs:read", "runs:write"), workspace_id="team")
    found = service.authorize(made.token, scope="runs:write")
    assert (found.key_id, found.name, found.workspace_id, found.scopes) == (
        made.record.key_id, "ci", "team", ("runs:read", "runs:write"),
    )  # fmt: skip
    assert service.authorize(made.token, scope="runs:read", workspace_id="team").rate is None
    with pytest.raises(ForbiddenError, match="lacks the scope 'admin'"):
        service.authorize(made.token, scope="admin")
    with pytest.raises(ForbiddenError, match="not for workspace 'default'"):
        service.authorize(made.token, scope="runs:read", workspace_id="default")


@pytest.mark.parametrize("scope", SCOPES)
def test_admin_is_every_scope(service: ResourcesService, scope: str) -> None:
    token = service.create_api_key("root", ("admin",), workspace_id="team").token
    assert service.authorize(token, scope=scope).workspace_id == "team"


def test_a_key_for_all_workspaces_says_which_one_it_means(service: ResourcesService) -> None:
    token = service.create_api_key("root", ("admin",), workspace_id=None).token
    assert service.authorize(token, scope="admin", workspace_id="default").workspace_id == "default"
    assert service.authorize(token, scope="admin", workspace_id="team").workspace_id == "team"
    with pytest.raises(ForbiddenError, match="say which"):
        service.authorize(token, scope="admin")
    with pytest.raises(NotFoundError, match="'gone'"):
        service.authorize(token, scope="admin", workspace_id="gone")
    found = service.authorize(token, scope="admin", reach="any")
    assert (found.workspace_id, found.all_workspaces) == (None, True)
    assert service.authorize(token, scope="admin", workspace_id="team", reach="any").workspace_id == "team"
    assert service.authorize(token, scope="admin", reach="all").workspace_id is None


def test_a_key_of_one_workspace_reaches_no_further(service: ResourcesService) -> None:
    token = service.create_api_key("ci", ("admin",), workspace_id="team").token
    found = service.authorize(token, scope="admin", reach="any")
    assert (found.workspace_id, found.all_workspaces) == ("team", False)
    with pytest.raises(ForbiddenError, match="--all-workspaces"):
        service.authorize(token, scope="admin", reach="all")


def test_a_key_is_256_random_bits_of_which_only_a_hash_is_stored(service: ResourcesService) -> None:
    tokens = [service.create_api_key("ci", ("runs:read",)).token for _ in range(3)]
    parts = [token.split("_") for token in tokens]
    assert {(len(key_id), len(secret)) for _, key_id, secret in parts} == {(16, 64)}
    assert len({secret for _, _, secret in parts}) == 3
    with service._store._database.engine.connect() as sql:
        stored = str([dict(row._mapping) for row in sql.execute(text("SELECT * FROM api_keys"))])
    for _, key_id, secret in parts:
        assert key_id in stored
        assert secret not in stored
        assert bytes.fromhex(secret) not in stored.encode()


def test_what_is_no_good_key_is_refused_without_saying_why(service: ResourcesService, log: Lines, clock: SimulatedClock) -> None:
    token = service.create_api_key("ci", ("runs:read",), expires_us=clock.now_us() + 1_000_000).token
    _, key_id, secret = token.split("_")
    other = service.create_api_key("other", ("runs:read",)).token.split("_")[2]
    for bad in (
        "",
        "Bearer x",
        "wonder_",
        token[:-1],
        token + "0",
        token.upper(),
        f" {token}",
        token.replace("_", "-"),
        token + "\n",
    ):
        assert refused(service, bad, log) == "malformed", bad
    assert refused(service, f"wonder_{secrets.token_hex(8)}_{secret}", log) == "unknown"
    for wrong in (other, secret[::-1], "0" * 64):
        assert refused(service, f"wonder_{key_id}_{wrong}", log) == "wrong"
    clock.advance(seconds=1)
    assert refused(service, token, log) == "expired"
    assert log.lines[-1][3]["key_id"] == key_id
    service.revoke_api_key(key_id)
    assert refused(service, token, log) == "revoked"
    assert secret not in str(log.lines)


def test_keys_are_compared_in_constant_time(service: ResourcesService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of the right form is hashed and compared, known or not, right or wrong; and by nothing else."""
    import hmac

    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return original(one, other)

    original = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    token = service.create_api_key("ci", ("runs:read",)).token
    service.authorize(token)
    for bad in (f"wonder_{'0' * 16}_{'0' * 64}", f"{token[:-64]}{'0' * 64}"):
        with pytest.raises(AuthenticationError):
            service.authorize(bad)
    assert compared == [(32, 32)] * 3


def test_a_rotated_key_stays_good_for_its_grace_and_no_longer(
    service: ResourcesService, log: Lines, clock: SimulatedClock
) -> None:
    first = service.create_api_key("ci", ("runs:read",))
    key_id = first.record.key_id
    second = service.rotate_api_key(key_id, grace_s=60)
    assert second.record.key_id == key_id
    assert [service.authorize(each.token).key_id for each in (first, second)] == [key_id] * 2
    clock.advance(seconds=60)
    assert refused(service, first.token, log) == "wrong"
    third = service.rotate_api_key(key_id, grace_s=0)
    assert refused(service, second.token, log) == "wrong"
    service.authorize(third.token)
    service.revoke_api_key(key_id)
    assert refused(service, third.token, log) == "revoked"
    with pytest.raises(ConflictError, match="revoked"):
        service.rotate_api_key(key_id)
    assert [kind for level, kind in log.kinds() if level == "info"] == [
        "api_key_created", "api_key_rotated", "api_key_rotated", "api_key_revoked",
    ]  # fmt: skip


def test_a_revoked_key_is_dead_within_the_grace_of_a_rotation_too(service: ResourcesService, log: Lines) -> None:
    first = service.create_api_key("ci", ("runs:read",))
    service.rotate_api_key(first.record.key_id, grace_s=60)
    service.revoke_api_key(first.record.key_id)
    assert refused(service, first.token, log) in {"wrong", "revoked"}
    assert service.revoke_api_key(first.record.key_id) == service.get_api_key(first.record.key_id)


def test_lists_show_no_keys(service: ResourcesService) -> None:
    mine = service.create_api_key("mine", ("runs:read",), workspace_id="team")
    everywhere = service.create_api_key("everywhere", ("admin",), workspace_id=None)
    assert service.list_api_keys(workspace_id="team") == [mine.record]
    assert service.list_api_keys(workspace_id=None) == [everywhere.record]
    assert service.list_api_keys() == []
    for shown in (repr(mine), str(mine), repr(service.list_api_keys(workspace_id="team"))):
        assert mine.token.split("_")[2] not in shown
    with pytest.raises(NotFoundError):
        service.list_api_keys(workspace_id="gone")


def test_the_last_use_of_a_key_is_known_to_the_minute(service: ResourcesService, clock: SimulatedClock) -> None:
    made = service.create_api_key("ci", ("runs:read",))
    used: list[int | None] = []
    for seconds in (0, 30, 30, 59):
        clock.advance(seconds=seconds)
        service.authorize(made.token)
        used.append(service.get_api_key(made.record.key_id).used_us)
    first = clock.now_us() - 119_000_000
    assert used == [first, first, first + 60_000_000, first + 60_000_000]


@pytest.mark.parametrize(
    ("name", "scopes", "options"),
    [
        ("a b", ("admin",), {}),
        ("a", (), {}),
        ("a", ("everything",), {}),
        ("a", ("admin",), {"workspace_id": "a/b"}),
        ("a", ("admin",), {"workspace_id": "gone"}),
        ("a", ("admin",), {"rate_per_s": -1}),
        ("a", ("admin",), {"burst": 5}),
        ("a", ("admin",), {"expires_us": 2**70}),
    ],
)
def test_a_malformed_key_is_refused(
    service: ResourcesService, name: str, scopes: tuple[str, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(WonderError):
        service.create_api_key(name, scopes, **options)
    assert service.list_api_keys() == []


def test_what_names_no_key_or_scope_is_told(service: ResourcesService) -> None:
    for ask in (service.get_api_key, service.rotate_api_key, service.revoke_api_key):
        for key_id in ("0" * 16, "x", "", "a\0"):
            with pytest.raises(WonderError, match=r"API key|an id"):
                ask(key_id)
    token = service.create_api_key("ci", ("admin",)).token
    for scope in ("", "everything"):
        with pytest.raises(WonderError, match="no scope"):
            service.authorize(token, scope=scope)
    with pytest.raises(DefinitionError):
        service.create_api_key("", ("admin",))
    with pytest.raises(WonderError, match="stay good"):
        service.rotate_api_key("0" * 16, grace_s=-1)


def test_keys_outlive_a_change_of_the_master_key_and_move_to_the_new_one(
    shared_place: str, clock: SimulatedClock, log: Lines
) -> None:
    def opened(*keys: bytes) -> ResourcesService:
        return ResourcesService(shared_place, log=log, clock=clock, master_keys=lambda: MasterKeys(keys))

    before, both, after = opened(OLD), opened(NEW, OLD), opened(NEW)
    used, idle = (before.create_api_key(name, ("runs:read",)) for name in ("used", "idle"))
    assert refused(after, used.token, log) == "its master key is not at hand"
    both.authorize(used.token)  # is hashed anew, with the new one
    after.authorize(used.token)
    assert refused(after, idle.token, log) == "its master key is not at hand"
    both.rotate_api_key(idle.record.key_id, grace_s=100)
    both.authorize(idle.token)
    for each in (before, both, after):
        each.close()


def test_refusals_cross_processes_intact(service: ResourcesService) -> None:
    with pytest.raises(AuthenticationError) as caught:
        service.authorize("")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
    missing = pickle.loads(pickle.dumps(NotFoundError("secret", "gone")))
    assert (missing.what, str(missing)) == ("secret", "gone")
