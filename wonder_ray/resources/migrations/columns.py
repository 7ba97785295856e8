"""Column types of the revisions; frozen as they are."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

INT: Final[Any] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: Final[Any] = sa.Double().with_variant(sa.REAL(), "sqlite")
TEXT: Final[Any] = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
BYTES: Final[Any] = sa.LargeBinary()


def need(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    """A column that has a value in every row."""
    return sa.Column(name, kind, nullable=False, **options)


def may(name: str, kind: Any) -> sa.Column[Any]:
    """A column that may be empty."""
    return sa.Column(name, kind, nullable=True)


def ordinal() -> sa.Column[Any]:
    """The primary key that counts up."""
    return sa.Column("ordinal", INT, primary_key=True, autoincrement=True)
