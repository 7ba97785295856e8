"""Secrets in the registry: by reference to where executors find the value, or the value, encrypted. Lists never show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, insert, select, update

from wonder_ray.errors import NotFoundError, SecretError
from wonder_ray.resources.access_records import SecretGrant, SecretRecord, StoredSecret
from wonder_ray.resources.runs import need_run
from wonder_ray.resources.tables import SECRETS
from wonder_ray.resources.workspaces import need_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Row

    from wonder_ray.clock import Clock
    from wonder_ray.resources.master_key import MasterKeys
    from wonder_ray.resources.transactions import Transactions

_OF_WORKSPACE: Final = SECRETS.c.workspace_id == bindparam("b_workspace")
_SECRET: Final = select(SECRETS).where(_OF_WORKSPACE, SECRETS.c.name == bindparam("b_name"))
_ALL: Final = select(SECRETS).where(_OF_WORKSPACE).order_by(SECRETS.c.name)
_SHOWN: Final = SecretRecord.__struct_fields__


class Secrets:
    """Keeps, lists and grants them."""

    def __init__(self, transactions: Transactions, clock: Clock, master_keys: Callable[[], MasterKeys]) -> None:
        self._transactions = transactions
        self._clock = clock
        self._master_keys = master_keys

    def put(
        self, workspace_id: str, name: str, *, provider: str, location: str | None, value: str | None, description: str
    ) -> SecretRecord:
        """Make a secret, or change it."""
        now_us = self._clock.now_us()
        sealed = None if value is None else self._seal(workspace_id, name, value)

        def work(connection: Connection) -> SecretRecord:
            need_workspace(connection, workspace_id)
            row = _find(connection, workspace_id, name)
            values: dict[str, Any] = {
                "provider": provider,
                "location": location,
                "description": description,
                "updated_us": now_us,
            }
            values |= sealed or {"sealed": None, "master_key_id": None}
            values |= {"version": 1 if row is None else row.version + 1}
            if row is None:
                connection.execute(insert(SECRETS), values | {"workspace_id": workspace_id, "name": name, "created_us": now_us})
            else:
                connection.execute(update(SECRETS).where(*_is(workspace_id, name)).values(**values))
            return _record(_need(connection, workspace_id, name))

        return self._transactions.write("put_secret", work)

    def delete(self, workspace_id: str, name: str) -> None:
        """Remove a secret; runs that ask for it afterwards fail."""

        def work(connection: Connection) -> None:
            _need(connection, workspace_id, name)
            connection.execute(delete(SECRETS).where(*_is(workspace_id, name)))

        self._transactions.write("delete_secret", work)

    def get(self, workspace_id: str, name: str) -> SecretRecord:
        """A secret, without its value."""
        return self._transactions.read("get_secret", lambda c: _record(_need(c, workspace_id, name)))

    def all(self, workspace_id: str) -> list[SecretRecord]:
        """The secrets of a workspace, without their values, by name."""

        def work(connection: Connection) -> list[SecretRecord]:
            need_workspace(connection, workspace_id)
            return [_record(row) for row in connection.execute(_ALL, {"b_workspace": workspace_id})]

        return self._transactions.read("list_secrets", work)

    def grant(self, run_id: str, name: str) -> SecretGrant:
        """What an executor of this run needs for the value; a `SecretError` when its workspace has no such secret."""

        def work(connection: Connection) -> tuple[str, Row[Any] | None]:
            workspace_id = need_run(connection, run_id).workspace_id
            return workspace_id, _find(connection, workspace_id, name)

        workspace_id, row = self._transactions.read("grant_secret", work)
        if row is None:
            raise SecretError(f"there is no secret {name!r} in workspace {workspace_id!r}: `wonder secret set {name}`")
        if row.sealed is None:
            return SecretGrant(name=name, provider=row.provider, location=row.location)
        value = self._master_keys().open(row.sealed, _about(workspace_id, name), row.master_key_id).decode()
        return SecretGrant(name=name, provider=row.provider, value=value)

    def reseal(self) -> int:
        """Encrypt with the newest master key whatever an older one has encrypted; how many secrets those were."""
        keys = self._master_keys()
        older = select(SECRETS).where(SECRETS.c.sealed.is_not(None), SECRETS.c.master_key_id != keys.newest)

        def work(connection: Connection) -> int:
            rows = connection.execute(older).all()
            for row in rows:
                value = keys.open(row.sealed, _about(row.workspace_id, row.name), row.master_key_id).decode()
                sealed = self._seal(row.workspace_id, row.name, value)
                connection.execute(update(SECRETS).where(*_is(row.workspace_id, row.name)).values(**sealed))
            return len(rows)

        return self._transactions.write("reseal_secrets", work)

    def _seal(self, workspace_id: str, name: str, value: str) -> dict[str, Any]:
        keys = self._master_keys()
        return {"sealed": keys.seal(value.encode(), _about(workspace_id, name)), "master_key_id": keys.newest}


def stored_secrets(connection: Connection) -> tuple[StoredSecret, ...]:
    """All secrets, of all workspaces, with which master key they were encrypted."""
    rows = connection.execute(select(SECRETS).order_by(SECRETS.c.workspace_id, SECRETS.c.name))
    return tuple(StoredSecret(record=_record(row), master_key_id=row.master_key_id) for row in rows)


def _find(connection: Connection, workspace_id: str, name: str) -> Row[Any] | None:
    return connection.execute(_SECRET, {"b_workspace": workspace_id, "b_name": name}).first()


def _need(connection: Connection, workspace_id: str, name: str) -> Row[Any]:
    row = _find(connection, workspace_id, name)
    if row is None:
        raise NotFoundError("secret", f"there is no secret {name!r} in workspace {workspace_id!r}: see the list of secrets")
    return row


def _record(row: Row[Any]) -> SecretRecord:
    values = row._asdict()
    return SecretRecord(**{field: values[field] for field in _SHOWN})


def _is(workspace_id: str, name: str) -> tuple[Any, Any]:
    return SECRETS.c.workspace_id == workspace_id, SECRETS.c.name == name


def _about(workspace_id: str, name: str) -> str:
    """What a stored value is bound to: moved to another row, it does not open."""
    return f"secret {name!r} of workspace {workspace_id!r}"
