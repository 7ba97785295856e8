"""The tables of the registry, as SQLModel classes; statements are written against the plain tables at the end.

Types are those that SQLite's STRICT tables allow, and that PostgreSQL has under the same SQLAlchemy names. Texts compare byte by
byte in both. A table changes by a new revision in `migrations`, never by hand.

`definitions` and `runs` have no foreign key to workspaces and projects: they are older than those, SQLite can add one only by
copying the whole table, and the store checks both in the same transaction, of which there is one at a time.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TEXT as POSTGRES_TEXT
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

SCHEMA_VERSION: Final = 3
"""The newest revision in `migrations`, as a number."""
VERSION_TABLE: Final = "wonder_schema_version"
"""Where Alembic notes the revision; a name of our own, since a user's tables may have an Alembic, too."""
APPLICATION_ID: Final = 0x776F6E72
"""'wonr': tells our files from other SQLite files."""

INT: Final[TypeEngine[int]] = BigInteger().with_variant(Integer, "sqlite")
REAL_NUMBER: Final[TypeEngine[float]] = Double().with_variant(REAL(), "sqlite")
TEXT: Final[TypeEngine[str]] = Text().with_variant(POSTGRES_TEXT(collation="C"), "postgresql")
_STRICT: Final = {"sqlite_strict": True}
_ORDERED: Final = {"sqlite_autoincrement": True, "sqlite_strict": True}


def _text(**options: Any) -> Any:
    return Field(**options, sa_column=Column(TEXT, nullable=False))


def _optional_text() -> Any:
    return Field(default=None, sa_column=Column(TEXT))


def _int(**options: Any) -> Any:
    return Field(sa_column=Column(INT, nullable=False, **options))


def _optional_int() -> Any:
    return Field(default=None, sa_column=Column(INT))


def _optional_real() -> Any:
    return Field(default=None, sa_column=Column(REAL_NUMBER))


def _bytes() -> Any:
    return Field(sa_column=Column(LargeBinary, nullable=False))


def _optional_bytes() -> Any:
    return Field(default=None, sa_column=Column(LargeBinary))


def _ordinal() -> Any:
    return Field(default=None, sa_column=Column(INT, primary_key=True, autoincrement=True))


class _Base(SQLModel, registry=registry()):
    """A metadata of our own: tables of a user's SQLModel classes in the same process are not ours to create."""

    metadata: ClassVar[MetaData] = MetaData()


class WorkspaceRow(_Base, table=True):
    """Whose runs, definitions, keys and secrets; `rate_per_s` and `burst` limit all its requests together."""

    __tablename__ = "workspaces"
    __table_args__ = (PrimaryKeyConstraint("workspace_id"), _STRICT)

    workspace_id: str = _text()
    description: str = _text()
    rate_per_s: float | None = _optional_real()
    burst: float | None = _optional_real()
    created_us: int = _int()


class ProjectRow(_Base, table=True):
    """A part of a workspace."""

    __tablename__ = "projects"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "project_id"),
        ForeignKeyConstraint(["workspace_id"], ["workspaces.workspace_id"]),
        _STRICT,
    )

    workspace_id: str = _text()
    project_id: str = _text()
    description: str = _text()
    created_us: int = _int()


class DefinitionRow(_Base, table=True):
    """One immutable version of a workflow; `ordinal` is the order of first registration."""

    __tablename__ = "definitions"
    __table_args__ = (UniqueConstraint("workspace_id", "name", "version"), _ORDERED)

    ordinal: int | None = _ordinal()
    workspace_id: str = _text()
    name: str = _text()
    version: str = _text()
    definition: bytes = _bytes()
    bundle: str | None = _optional_text()
    created_us: int = _int()


class BundleRow(_Base, table=True):
    """A code bundle that definitions of a workspace may name; `content` (JSON) says what is in it."""

    __tablename__ = "bundles"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "sha256"),
        ForeignKeyConstraint(["workspace_id"], ["workspaces.workspace_id"]),
        _STRICT,
    )

    workspace_id: str = _text()
    sha256: str = _text()
    content: bytes = _bytes()
    created_us: int = _int()


class RunRow(_Base, table=True):
    """One run; `ordinal` is the order of creation, which no clock can disturb, and is never reused."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("run_id"),
        # NULL keys are distinct from each other: runs without a key never collide.
        UniqueConstraint("workspace_id", "key"),
        ForeignKeyConstraint(
            ["workspace_id", "workflow_name", "workflow_version"],
            ["definitions.workspace_id", "definitions.name", "definitions.version"],
        ),
        CheckConstraint("epoch >= 0"),
        Index("runs_by_workspace", "workspace_id", "ordinal"),
        Index("runs_by_workflow", "workspace_id", "workflow_name", "ordinal"),
        Index("runs_by_status", "status", "ordinal"),
        # Each filter that people list by has its index, with the workspace first: a tie could go to one that reads everything.
        Index("runs_by_project", "workspace_id", "project_id", "ordinal"),
        Index("runs_by_workspace_status", "workspace_id", "status", "ordinal"),
        Index("runs_by_parent", "workspace_id", "parent_run_id", "ordinal"),
        Index("runs_by_root", "workspace_id", "root_run_id", "ordinal"),
        _ORDERED,
    )

    ordinal: int | None = _ordinal()
    run_id: str = _text()
    workspace_id: str = _text()
    project_id: str = _text()
    key: str | None = _optional_text()
    workflow_name: str = _text()
    workflow_version: str = _text()
    root_run_id: str = _text()
    parent_run_id: str | None = _optional_text()
    parent_token_id: str | None = _optional_text()
    depth: int = _int(server_default="0")
    fork: bytes | None = _optional_bytes()
    input: bytes = _bytes()
    trace: int = _int()
    labels: str = _text()
    created_us: int = _int()
    epoch: int = _int()
    placement: str | None = _optional_text()
    reported_epoch: int | None = _optional_int()
    status: str = _text()
    started_us: int | None = _optional_int()
    ended_us: int | None = _optional_int()
    output: bytes | None = _optional_bytes()
    error: bytes | None = _optional_bytes()
    tokens: int | None = _optional_int()
    events: int | None = _optional_int()
    duration_ms: float | None = _optional_real()


class RunLabelRow(_Base, table=True):
    """The labels of runs once more, to find runs by them; `ordinal` is the run's."""

    __tablename__ = "run_labels"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "name", "value", "ordinal"),
        ForeignKeyConstraint(["ordinal"], ["runs.ordinal"]),
        _STRICT | {"sqlite_with_rowid": False},
    )

    workspace_id: str = _text()
    name: str = _text()
    value: str = _text()
    ordinal: int = _int(autoincrement=False)


class ServiceEpochRow(_Base, table=True):
    """How often a service of this name was started: its newest instance number, which fences the older ones."""

    __tablename__ = "service_epochs"
    __table_args__ = (PrimaryKeyConstraint("name"), _STRICT)

    name: str = _text()
    epoch: int = _int()


class ApiKeyRow(_Base, table=True):
    """An API key: never the key itself, only what a guess can be compared with.

    `pepper_id` names the pepper that `hash` was made with; the columns `previous_...` are those of the key before the last
    rotation, which stays good until `previous_until_us`.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        PrimaryKeyConstraint("key_id"),
        ForeignKeyConstraint(["workspace_id"], ["workspaces.workspace_id"]),
        Index("api_keys_by_workspace", "workspace_id", "key_id"),
        _STRICT,
    )

    key_id: str = _text()
    workspace_id: str | None = _optional_text()
    name: str = _text()
    scopes: str = _text()
    pepper_id: str = _text()
    hash: bytes = _bytes()
    previous_pepper_id: str | None = _optional_text()
    previous_hash: bytes | None = _optional_bytes()
    previous_until_us: int | None = _optional_int()
    rate_per_s: float | None = _optional_real()
    burst: float | None = _optional_real()
    created_us: int = _int()
    rotated_us: int | None = _optional_int()
    expires_us: int | None = _optional_int()
    revoked_us: int | None = _optional_int()
    used_us: int | None = _optional_int()


class RateBucketRow(_Base, table=True):
    """A token bucket: `level` tokens were in it at `updated_us`."""

    __tablename__ = "rate_buckets"
    __table_args__ = (PrimaryKeyConstraint("name"), _STRICT)

    name: str = _text()
    level: float = Field(sa_column=Column(REAL_NUMBER, nullable=False))
    updated_us: int = _int()


class SecretRow(_Base, table=True):
    """A secret of a workspace: where its value is found (`location`), or the value, encrypted (`sealed`)."""

    __tablename__ = "secrets"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "name"),
        ForeignKeyConstraint(["workspace_id"], ["workspaces.workspace_id"]),
        _STRICT,
    )

    workspace_id: str = _text()
    name: str = _text()
    provider: str = _text()
    location: str | None = _optional_text()
    sealed: bytes | None = _optional_bytes()
    master_key_id: str | None = _optional_text()
    version: int = _int()
    description: str = _text()
    created_us: int = _int()
    updated_us: int = _int()


METADATA: Final = _Base.metadata
SCHEMA: Final = Table(VERSION_TABLE, METADATA, Column("version_num", TEXT, primary_key=True, nullable=False), sqlite_strict=True)
WORKSPACES: Final[Table] = METADATA.tables["workspaces"]
PROJECTS: Final[Table] = METADATA.tables["projects"]
DEFINITIONS: Final[Table] = METADATA.tables["definitions"]
BUNDLES: Final[Table] = METADATA.tables["bundles"]
RUNS: Final[Table] = METADATA.tables["runs"]
RUN_LABELS: Final[Table] = METADATA.tables["run_labels"]
SERVICE_EPOCHS: Final[Table] = METADATA.tables["service_epochs"]
API_KEYS: Final[Table] = METADATA.tables["api_keys"]
RATE_BUCKETS: Final[Table] = METADATA.tables["rate_buckets"]
SECRETS: Final[Table] = METADATA.tables["secrets"]
