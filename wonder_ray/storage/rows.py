"""Between the structs of a run's state and rows of SQLite: which field lies in which column, and as what.

Text, integers and floats lie in columns as they are, enumerations as their text, everything else as a JSON text (NULL for
None). A field that has no column of its own (one that few records use) goes into the column `rest`, a JSON object that leaves
defaults out, so that it survives without a migration and costs nothing where it is not used.

Every row ends in a checksum of itself, so that a bit that flipped on the disk is found when the row is read: SQLite checks
the form of its pages, not their content.

>>> from wonder_ray.state import Fanout
>>> rows = RowCodec("fanouts", Fanout, ("ordinal", "id", "transition_id", "parent_id", "count", "items"))
>>> rows.encode(Fanout(id="f_1", ordinal=1, transition_id="a->b", parent_id="t_1", count=2, items=["x", "y"]))[:6]
(1, 'f_1', 'a->b', 't_1', 2, '["x","y"]')
"""

from __future__ import annotations

import operator
import zlib
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, get_args, get_type_hints

import msgspec

from wonder_ray.state import Fanout, Group, Run, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

S = TypeVar("S", bound=msgspec.Struct)
Value: TypeAlias = str | bytes | int | float | None

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_encoder = msgspec.json.Encoder()
_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_pack = msgspec.msgpack.Encoder().encode


def seal(row: tuple[Value, ...]) -> tuple[Value, ...]:
    """A row with its checksum at the end."""
    return (*row, zlib.crc32(_pack(row)))


def unseal(row: Sequence[Any], table: str) -> tuple[Any, ...]:
    """A row without its checksum; a `ValueError` when they do not match."""
    content = tuple(row[:-1])
    if row[-1] != zlib.crc32(_pack(content)):
        msg = f"a row of {table} does not match its checksum"
        raise ValueError(msg)
    return content


def unseal_all(found: Iterable[Sequence[Any]], table: str) -> Iterator[tuple[Any, ...]]:
    """`unseal` for every row of a table."""
    return (unseal(row, table) for row in found)


class RowCodec(Generic[S]):
    """Encodes structs of one type as rows of one table, and back.

    Args:
        table: The table.
        struct: The struct; its type hints decide what lies in a column as it is, and what as JSON.
        fields: The fields that have a column, in the order of the row.
        renamed: Field -> column, where the field's name would need quotes in SQL.
        left_out: Fields that lie elsewhere, and are handed to `decode` from there.
        beside: Columns of the table that are no fields; their values are handed to `encode`.
    """

    def __init__(
        self,
        table: str,
        struct: type[S],
        fields: Sequence[str],
        *,
        renamed: Mapping[str, str] | None = None,
        left_out: Sequence[str] = (),
        beside: Sequence[str] = (),
    ) -> None:
        hints = get_type_hints(struct)
        self.table: Final = table
        self.columns: Final = (*((renamed or {}).get(name, name) for name in fields), "rest", *beside, "crc")
        self._struct = struct
        self._fields = tuple(fields)
        self._get = operator.attrgetter(*fields)
        self._rest = tuple(name for name in struct.__struct_fields__ if name not in fields and name not in left_out)
        defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
        self._rest_defaults = tuple(defaults[name] for name in self._rest)
        self._get_rest = operator.attrgetter(*self._rest) if len(self._rest) > 1 else None
        self._rest_decoders = {name: msgspec.json.Decoder(hints[name]) for name in self._rest}
        json = [(position, hints[name]) for position, name in enumerate(fields) if not _is_plain(hints[name])]
        self._json = tuple(position for position, _ in json)
        self._bools = tuple(position for position, name in enumerate(fields) if hints[name] is bool)
        self._from_column: tuple[tuple[int, Callable[[Any], Any]], ...] = (
            *((position, msgspec.json.Decoder(hint).decode) for position, hint in json),
            *((position, made) for position, name in enumerate(fields) if (made := _maker(hints[name])) is not None),
        )

    def encode(self, record: S, *beside: Value) -> tuple[Value, ...]:
        """The row of a struct, in the order of `columns`."""
        row = list(self._get(record))
        for position in self._json:
            value = row[position]
            if value is not None:
                row[position] = _encoder.encode(value).decode()
        for position in self._bools:
            row[position] = int(row[position])
        row.append(self._encode_rest(record))
        return seal((*row, *beside))

    def _encode_rest(self, record: S) -> str | None:
        """Most records have nothing but defaults there, and are compared at once."""
        values = tuple(getattr(record, name) for name in self._rest) if self._get_rest is None else self._get_rest(record)
        if values == self._rest_defaults:
            return None
        found = zip(self._rest, values, self._rest_defaults, strict=True)
        return _encoder.encode({name: value for name, value, default in found if value != default}).decode()

    def decode(self, row: Sequence[Any], **elsewhere: Any) -> S:
        """The struct of a row as `encode` made it; `elsewhere` are the fields that were left out."""
        values = list(unseal(row, self.table))
        for position, make in self._from_column:
            if values[position] is not None:
                values[position] = make(values[position])
        found = dict(zip(self._fields, values, strict=False))
        rest = values[len(self._fields)]
        if rest is not None:
            for name, raw in _raw_decoder.decode(rest).items():
                if name in self._rest_decoders:
                    found[name] = self._rest_decoders[name].decode(raw)
        return self._struct(**found, **elsewhere)

    def select(self) -> str:
        """SQL: all rows, by ordinal where there is one."""
        order = " ORDER BY ordinal" if "ordinal" in self.columns else ""
        return f"SELECT {', '.join(self.columns)} FROM {self.table}{order}"  # noqa: S608 - names written in this file

    def upsert(self) -> str:
        """SQL: insert a row, or replace the one of the same ordinal.

        A REPLACE overwrites in place: no table has an index.
        """
        columns, places = ", ".join(self.columns), ", ".join("?" * len(self.columns))
        return f"INSERT OR REPLACE INTO {self.table} ({columns}) VALUES ({places})"  # noqa: S608 - as above


def encode_json(value: object) -> str | None:
    """The text of a JSON column: NULL for None."""
    return None if value is None else _encoder.encode(value).decode()


def _is_plain(hint: Any) -> bool:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return all(kind in _PLAIN or (isinstance(kind, type) and issubclass(kind, StrEnum)) for kind in kinds)


def _maker(hint: Any) -> Callable[[Any], Any] | None:
    if hint is bool:
        return bool
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {str(member): member for member in hint}.__getitem__
    return None


TOKENS: Final = RowCodec(
    "tokens",
    Token,
    (
        *("ordinal", "id", "node_id", "status", "path_id", "parent_id", "transition_id", "scope_id", "group_id"),
        *("fanout_id", "index", "join_id", "attempt", "epoch", "failures", "solo", "due_us"),
        *("input", "result", "error", "cause"),
    ),
    renamed={"index": "branch_index"},
)
GROUPS: Final = RowCodec(
    "groups",
    Group,
    (
        *("ordinal", "id", "name", "opener_id", "parent_id", "status"),
        *("size", "active", "arrived", "failures", "tolerated"),
    ),
)
FANOUTS: Final = RowCodec(
    "fanouts",
    Fanout,
    (
        *("ordinal", "id", "transition_id", "parent_id", "count", "items", "item_name"),
        *("max_concurrency", "outer_id", "outer_index"),
    ),
)
RUN_VALUES: Final = ("input", "output", "error")
RUN: Final = RowCodec(
    "run",
    Run,
    (
        *("run_id", "workflow_name", "workflow_version", "status", "started_us", "ended_us", "deadline_us"),
        *("cancel_reason", "turn", "sequence"),
    ),
    left_out=RUN_VALUES,
    beside=("id", "last_sequence", "last_trace_sequence"),
)
RUN_VALUE_DECODERS: Final = {name: msgspec.json.Decoder(get_type_hints(Run)[name]).decode for name in RUN_VALUES}

PUT_RUN: Final = RUN.upsert()
PUT_TOKEN: Final = TOKENS.upsert()
PUT_GROUP: Final = GROUPS.upsert()
PUT_FANOUT: Final = FANOUTS.upsert()
