"""API keys in the registry, and what a request with one may do.

A key is `wonder_<id>_<secret>`: 64 random bits that name it, 256 random bits that are never stored. What is stored is their
HMAC-SHA256 with a pepper that lies elsewhere (`master_key`), and it is compared in constant time.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from wonder_ray.errors import AuthenticationError, ConflictError, ForbiddenError, NotFoundError
from wonder_ray.resources.access_records import ADMIN, SAY_WHICH, ApiKeyRecord, Identity, NewApiKey, Rate, StoredKey
from wonder_ray.resources.limits import Limit, limit_of, take
from wonder_ray.resources.tables import API_KEYS
from wonder_ray.resources.workspaces import bucket_name, need_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Row

    from wonder_ray.clock import Clock
    from wonder_ray.resources.access_records import Reach
    from wonder_ray.resources.master_key import MasterKeys
    from wonder_ray.resources.transactions import Transactions

TOKEN_PATTERN: Final = re.compile(r"wonder_([0-9a-f]{16})_([0-9a-f]{64})")
USED_EVERY_US: Final = 60_000_000
"""How exact `used_us` is: noting every use would be a write for every request."""
_SECRET_BYTES: Final = 32
_KEY: Final = select(API_KEYS).where(API_KEYS.c.key_id == bindparam("b_key_id"))
_REFUSED: Final = (
    "the API key is unknown, expired or revoked, or there is none: send `Authorization: Bearer wonder_...` "
    "(`wonder` takes it from WONDER_API_KEY)"
)


class RefusedKeyError(AuthenticationError):
    """An API key that was refused; `why` and `key_id` are for the log, not for whoever sent it."""

    why: str = ""
    key_id: str | None = None


class _Known(NamedTuple):
    """A key that was accepted, as it is stored."""

    row: Row[Any]
    rehashed: dict[str, Any]
    """Columns to be written anew, since a newer master key has come."""


class ApiKeys:
    """Makes, rotates, revokes and accepts them."""

    def __init__(self, transactions: Transactions, clock: Clock, master_keys: Callable[[], MasterKeys]) -> None:
        self._transactions = transactions
        self._clock = clock
        self._master_keys = master_keys

    def create(
        self,
        name: str,
        scopes: tuple[str, ...],
        workspace_id: str | None,
        *,
        expires_us: int | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
    ) -> NewApiKey:
        """A new key, for one workspace or (None) for all."""
        key_id, secret = secrets.token_hex(8), secrets.token_hex(_SECRET_BYTES)
        made = ApiKeyRecord(
            key_id=key_id,
            workspace_id=workspace_id,
            name=name,
            scopes=scopes,
            rate_per_s=rate_per_s,
            burst=burst,
            created_us=self._clock.now_us(),
            expires_us=expires_us,
        )
        values = {field: getattr(made, field) for field in made.__struct_fields__}
        row = values | {"scopes": " ".join(scopes)} | self._hashed(secret)

        def work(connection: Connection) -> NewApiKey:
            if workspace_id is not None:
                need_workspace(connection, workspace_id)
            connection.execute(insert(API_KEYS), row)
            return NewApiKey(record=made, token=_token(key_id, secret))

        return self._transactions.write("create_api_key", work)

    def rotate(self, key_id: str, grace_s: float) -> NewApiKey:
        """A new secret for a key; the old one stays good for `grace_s` seconds."""
        secret, now_us = secrets.token_hex(_SECRET_BYTES), self._clock.now_us()

        def work(connection: Connection) -> NewApiKey:
            row = _need(connection, key_id)
            if row.revoked_us is not None:
                raise ConflictError(f"API key {key_id} is revoked: create a new one")
            until = {"previous_until_us": now_us + int(grace_s * 1e6), "rotated_us": now_us}
            previous = {"previous_hash": row.hash, "previous_pepper_id": row.pepper_id}
            _change(connection, key_id, self._hashed(secret) | previous | until)
            return NewApiKey(record=_record(_need(connection, key_id)), token=_token(key_id, secret))

        return self._transactions.write("rotate_api_key", work)

    def revoke(self, key_id: str) -> ApiKeyRecord:
        """End a key at once; one that is revoked stays so."""
        now_us = self._clock.now_us()

        def work(connection: Connection) -> ApiKeyRecord:
            if _need(connection, key_id).revoked_us is None:
                _change(connection, key_id, {"revoked_us": now_us, "previous_hash": None, "previous_until_us": None})
            return _record(_need(connection, key_id))

        return self._transactions.write("revoke_api_key", work)

    def get(self, key_id: str) -> ApiKeyRecord:
        """A key, without its secret."""
        return self._transactions.read("get_api_key", lambda c: _record(_need(c, key_id)))

    def all(self, workspace_id: str | None) -> list[ApiKeyRecord]:
        """The keys of a workspace, or (None) those for all workspaces; oldest first."""
        mine = API_KEYS.c.workspace_id.is_(None) if workspace_id is None else API_KEYS.c.workspace_id == workspace_id
        query = select(API_KEYS).where(mine).order_by(API_KEYS.c.created_us, API_KEYS.c.key_id)

        def work(connection: Connection) -> list[ApiKeyRecord]:
            if workspace_id is not None:
                need_workspace(connection, workspace_id)
            return [_record(row) for row in connection.execute(query)]

        return self._transactions.read("list_api_keys", work)

    def authorize(self, token: str, scope: str | None, workspace_id: str | None, reach: Reach, cost: float) -> Identity:
        """Who sends this key, if it is good for this scope in this workspace (by default its own), and has requests left.

        Raises:
            AuthenticationError: It is no good key.
            ForbiddenError: It is one, but not for this.
            NotFoundError: It is good for all workspaces, but there is none of this name.
            RateLimitedError: Its requests, or those of its workspace, are used up for now.
        """

        def look(connection: Connection) -> tuple[_Known, str | None, list[Limit]]:
            known = self._accept(connection, token)
            where = _allowed(known.row, scope, workspace_id, reach)
            limits = limit_of(f"key:{known.row.key_id}", known.row.rate_per_s, known.row.burst)
            if where is not None:
                workspace = need_workspace(connection, where)
                limits += limit_of(bucket_name(where), workspace.rate_per_s, workspace.burst)
            return known, where, limits

        known, where, limits = self._transactions.read("authorize", look)
        rate = self._note_use(known, limits, cost)
        row = known.row
        return Identity(
            key_id=row.key_id,
            name=row.name,
            workspace_id=where,
            all_workspaces=row.workspace_id is None,
            scopes=tuple(row.scopes.split()),
            rate=rate,
        )

    def _note_use(self, known: _Known, limits: list[Limit], cost: float) -> Rate | None:
        """Pay for a request, and note that the key was used; nothing is written when neither is due."""
        row, now_us = known.row, self._clock.now_us()
        used = {} if _is_recent(row, now_us) else {"used_us": now_us}
        if not limits and not used and not known.rehashed:
            return None

        def pay(connection: Connection) -> Rate | None:
            rate = take(connection, limits, cost, now_us) if limits else None
            if used:
                _change(connection, row.key_id, used)
            if known.rehashed:  # unless the key was rotated meanwhile
                same = (API_KEYS.c.key_id == row.key_id) & (API_KEYS.c.hash == row.hash)
                connection.execute(update(API_KEYS).where(same).values(**known.rehashed))
            return rate

        return self._transactions.write("pay_rate", pay)

    def _accept(self, connection: Connection, token: str) -> _Known:
        match = TOKEN_PATTERN.fullmatch(token)
        if match is None:
            raise _refused("malformed")
        key_id, secret = match.groups()
        row = connection.execute(_KEY, {"b_key_id": key_id}).first()
        keys, now_us = self._master_keys(), self._clock.now_us()
        if row is None:
            hmac.compare_digest(keys.hash(secret, keys.newest), b"\0" * 32)  # takes as long as for a known one
            raise _refused("unknown", key_id)
        rehashed: dict[str, Any] = {}
        if not self._fits(row.hash, row.pepper_id, secret):
            if not (_is_before(now_us, row.previous_until_us) and self._fits(row.previous_hash, row.previous_pepper_id, secret)):
                raise _refused("wrong" if keys.knows(row.pepper_id) else "its master key is not at hand", key_id)
        elif row.pepper_id != keys.newest:
            rehashed = self._hashed(secret)
        if row.revoked_us is not None:
            raise _refused("revoked", key_id)
        if row.expires_us is not None and row.expires_us <= now_us:
            raise _refused("expired", key_id)
        return _Known(row, rehashed)

    def _fits(self, stored: bytes | None, pepper_id: str | None, secret: str) -> bool:
        keys = self._master_keys()
        if stored is None or pepper_id is None or not keys.knows(pepper_id):
            return False
        return hmac.compare_digest(stored, keys.hash(secret, pepper_id))

    def _hashed(self, secret: str) -> dict[str, Any]:
        keys = self._master_keys()
        return {"pepper_id": keys.newest, "hash": keys.hash(secret, keys.newest)}


def stored_keys(connection: Connection) -> tuple[StoredKey, ...]:
    """All keys, of all workspaces, with which master key they were hashed."""
    rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.created_us, API_KEYS.c.key_id))
    return tuple(StoredKey(record=_record(row), pepper_id=row.pepper_id) for row in rows)


def _allowed(row: Row[Any], scope: str | None, workspace_id: str | None, reach: Reach) -> str | None:
    """The workspace that is meant (None: all of them), if the key is good for this scope there."""
    where = workspace_id or row.workspace_id
    if where is None and reach == "one":
        raise ForbiddenError(f"API key {row.key_id} is for all workspaces: {SAY_WHICH}")
    if row.workspace_id is not None and reach == "all":
        wanted = "this takes one for all workspaces (`wonder key create NAME --all-workspaces`)"
        raise ForbiddenError(f"API key {row.key_id} is for workspace {row.workspace_id!r}: {wanted}")
    if row.workspace_id not in {None, where}:
        raise ForbiddenError(f"API key {row.key_id} is not for workspace {where!r}: use one of that workspace")
    scopes = row.scopes.split()
    if scope is not None and scope not in scopes and ADMIN not in scopes:
        raise ForbiddenError(f"API key {row.key_id} lacks the scope {scope!r}: it has {', '.join(scopes) or 'none'}")
    return None if where is None else str(where)


def _refused(why: str, key_id: str | None = None) -> RefusedKeyError:
    error = RefusedKeyError(_REFUSED)
    error.why, error.key_id = why, key_id
    return error


def _is_before(now_us: int, until_us: int | None) -> bool:
    return until_us is not None and now_us < until_us


def _is_recent(row: Row[Any], now_us: int) -> bool:
    return row.used_us is not None and now_us - row.used_us < USED_EVERY_US


def _need(connection: Connection, key_id: str) -> Row[Any]:
    row = connection.execute(_KEY, {"b_key_id": key_id}).first()
    if row is None:
        raise NotFoundError("API key", f"there is no API key {key_id[:40]!r}: see the list of keys")
    return row


def _change(connection: Connection, key_id: str, values: dict[str, Any]) -> None:
    connection.execute(update(API_KEYS).where(API_KEYS.c.key_id == key_id).values(**values))


def _record(row: Row[Any]) -> ApiKeyRecord:
    values = row._asdict()
    known = {field: values[field] for field in ApiKeyRecord.__struct_fields__}
    return ApiKeyRecord(**known | {"scopes": tuple(values["scopes"].split())})


def _token(key_id: str, secret: str) -> str:
    return f"wonder_{key_id}_{secret}"
