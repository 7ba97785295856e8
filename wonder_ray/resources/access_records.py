"""What the registry hands out about API keys, rate limits and secrets: plain records, no SQL. None shows a secret value.

>>> NewApiKey(record=ApiKeyRecord(key_id="0f" * 8, name="ci", created_us=0), token="wk_...")
NewApiKey(key_id='0f0f0f0f0f0f0f0f', token=<hidden>)
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

Scope: TypeAlias = Literal[
    "runs:read",
    "runs:write",
    "definitions:read",
    "definitions:write",
    "events:read",
    "logs:read",
    "secrets:read",
    "secrets:write",
    "admin",
]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)
"""What an API key may be allowed. `admin` allows everything, keys and workspaces included; `secrets:read` shows no values."""
ADMIN: Final = "admin"

Reach: TypeAlias = Literal["one", "any", "all"]
"""How far a request goes: `one` workspace; `any`: one, or with a key for all workspaces that names none, all of them; `all`: what
only a key for all workspaces may ask for."""

SAY_WHICH: Final = (
    "say which one is meant: Wonder-Workspace in a request, WONDER_WORKSPACE for `wonder`, `connect(workspace=...)`"
)

Provider: TypeAlias = Literal["stored", "env", "file"]


class ApiKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as everybody may see it."""

    key_id: str
    """The part of the key that is no secret: 16 hex digits."""
    workspace_id: str | None = None
    """The only workspace that it is good for; None is all of them."""
    name: str
    scopes: tuple[str, ...] = ()
    rate_per_s: float | None = None
    burst: float | None = None
    """As of a `WorkspaceRecord`, for this key alone."""
    created_us: int
    rotated_us: int | None = None
    expires_us: int | None = None
    revoked_us: int | None = None
    used_us: int | None = None
    """When it was last used, to the minute."""
    previous_until_us: int | None = None
    """Until when the key before the last rotation is good, too."""


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made: the only time that it can be seen."""

    record: ApiKeyRecord
    token: str
    """What a client sends."""

    def __repr__(self) -> str:
        return f"NewApiKey(key_id={self.record.key_id!r}, token=<hidden>)"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate limit leaves after a request."""

    limit: float
    """Requests per second, of the limit that is nearest to being used up."""
    remaining: float
    """How many more could come right now."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request comes from, once its key was accepted."""

    key_id: str
    name: str
    workspace_id: str | None
    """Where it may act: the one that was asked for, which its key is good for; None, where it reaches further, is all of them."""
    all_workspaces: bool = False
    """Whether its key is good for all of them."""
    scopes: tuple[str, ...]
    rate: Rate | None = None
    """None where nothing limits it."""


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as everybody may see it: not its value."""

    workspace_id: str
    name: str
    provider: str
    """`stored` (encrypted, in the registry), or where executors find the value: `env`, `file`."""
    location: str | None = None
    """The environment variable's name, or the file's path."""
    version: int
    """Counts the changes of its value or place."""
    description: str = ""
    created_us: int
    updated_us: int

    @property
    def reference(self) -> str:
        """How inputs name it."""
        return f"secret://{self.name}"


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, and which master key it was hashed with."""

    record: ApiKeyRecord
    pepper_id: str


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret, and which master key it was encrypted with; None when it is kept elsewhere."""

    record: SecretRecord
    master_key_id: str | None


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """All API keys and secrets of a registry, of all workspaces."""

    keys: tuple[StoredKey, ...] = ()
    secrets: tuple[StoredSecret, ...] = ()


class SecretGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor is given for a run that may use a secret."""

    name: str
    provider: str
    location: str | None = None
    value: str | None = None
    """Of a `stored` secret."""

    def __repr__(self) -> str:
        return f"SecretGrant(name={self.name!r}, provider={self.provider!r})"
