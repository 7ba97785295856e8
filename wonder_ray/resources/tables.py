"""The tables of the registry, as SQLModel classes; statements are written against the plain tables at the end.

Types are those that SQLite's STRICT tables allow, and that PostgreSQL has under the same SQLAlchemy names.
"""

from __future__ import annotations

from typing import ClassVar, Final

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
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x776F6E72
"""'wonr': tells our files from other SQLite files."""

_INT: Final[TypeEngine[int]] = BigInteger().with_variant(Integer, "sqlite")
_REAL: Final[TypeEngine[float]] = Double().with_variant(REAL(), "sqlite")


class _Base(SQLModel, registry=registry()):
    """A metadata of our own: tables of a user's SQLModel classes in the same process are not ours to create."""

    metadata: ClassVar[MetaData] = MetaData()


class DefinitionRow(_Base, table=True):
    """One immutable version of a workflow; `ordinal` is the order of first registration."""

    __tablename__ = "definitions"
    __table_args__ = (
        UniqueConstraint("workspace_id", "name", "version"),
        {"sqlite_autoincrement": True, "sqlite_strict": True},
    )

    ordinal: int | None = Field(default=None, sa_column=Column(_INT, primary_key=True, autoincrement=True))
    workspace_id: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    version: str = Field(sa_column=Column(Text, nullable=False))
    definition: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    bundle: str | None = Field(default=None, sa_column=Column(Text))
    created_us: int = Field(sa_column=Column(_INT, nullable=False))


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
        {"sqlite_autoincrement": True, "sqlite_strict": True},
    )

    ordinal: int | None = Field(default=None, sa_column=Column(_INT, primary_key=True, autoincrement=True))
    run_id: str = Field(sa_column=Column(Text, nullable=False))
    workspace_id: str = Field(sa_column=Column(Text, nullable=False))
    project_id: str = Field(sa_column=Column(Text, nullable=False))
    key: str | None = Field(default=None, sa_column=Column(Text))
    workflow_name: str = Field(sa_column=Column(Text, nullable=False))
    workflow_version: str = Field(sa_column=Column(Text, nullable=False))
    root_run_id: str = Field(sa_column=Column(Text, nullable=False))
    parent_run_id: str | None = Field(default=None, sa_column=Column(Text))
    parent_token_id: str | None = Field(default=None, sa_column=Column(Text))
    depth: int = Field(default=0, sa_column=Column(_INT, nullable=False, server_default="0"))
    fork: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    input: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    trace: int = Field(sa_column=Column(_INT, nullable=False))
    labels: str = Field(sa_column=Column(Text, nullable=False))
    created_us: int = Field(sa_column=Column(_INT, nullable=False))
    epoch: int = Field(sa_column=Column(_INT, nullable=False))
    placement: str | None = Field(default=None, sa_column=Column(Text))
    reported_epoch: int | None = Field(default=None, sa_column=Column(_INT))
    status: str = Field(sa_column=Column(Text, nullable=False))
    started_us: int | None = Field(default=None, sa_column=Column(_INT))
    ended_us: int | None = Field(default=None, sa_column=Column(_INT))
    output: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    error: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    tokens: int | None = Field(default=None, sa_column=Column(_INT))
    events: int | None = Field(default=None, sa_column=Column(_INT))
    duration_ms: float | None = Field(default=None, sa_column=Column(_REAL))


class ServiceEpochRow(_Base, table=True):
    """How often a service of this name was started: its newest instance number, which fences the older ones."""

    __tablename__ = "service_epochs"
    __table_args__ = ({"sqlite_strict": True},)

    name: str = Field(sa_column=Column(Text, primary_key=True))
    epoch: int = Field(sa_column=Column(_INT, nullable=False))


METADATA: Final = _Base.metadata
DEFINITIONS: Final[Table] = METADATA.tables["definitions"]
RUNS: Final[Table] = METADATA.tables["runs"]
SERVICE_EPOCHS: Final[Table] = METADATA.tables["service_epochs"]
