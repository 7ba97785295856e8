"""What a query gives: rows that can be read, printed, and handed to pandas, polars or pyarrow.

>>> result = Result(pa.table({"node_id": ["fetch", "report"], "attempts": [12, 1]}))
>>> result.rows
[('fetch', 12), ('report', 1)]
>>> print(result)
node_id  attempts
fetch          12
report          1
"""

from __future__ import annotations

import datetime as dt
import html
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROWS_SHOWN: Final = 40
CHARACTERS_SHOWN: Final = 60
_MICROSECONDS_OF_DAY: Final = 86_400_000_000


class Result:
    """A table, whole in memory. Times are UTC.

    Attributes:
        columns: The names of the columns.

    Example:
        >>> result = Result(pa.table({"n": [1, 2]}))
        >>> len(result), result.dicts()
        (2, [{'n': 1}, {'n': 2}])
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = _tidy(table)
        self.columns: list[str] = self._table.schema.names

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of Python values; times are aware datetimes, intervals timedeltas."""
        columns = [column.to_pylist() for column in self._table.columns]
        return list(zip(*columns, strict=True))

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def arrow(self) -> pa.Table:
        """The table as pyarrow's."""
        return self._table

    def ipc(self) -> bytes:
        """The table as an Arrow IPC stream; `Result.of_ipc` makes it this again.

        >>> Result.of_ipc(Result(pa.table({"n": [1, 2]})).ipc()).rows
        [(1,), (2,)]
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._table.schema) as stream:
            stream.write_table(self._table)
        return bytes(sink.getvalue())

    @classmethod
    def of_ipc(cls, content: bytes) -> Result:
        """The table of an Arrow IPC stream."""
        with pa.ipc.open_stream(content) as stream:
            return cls(stream.read_all())

    def df(self) -> Any:
        """The table as a pandas DataFrame."""
        return self._table.to_pandas()

    def pl(self) -> Any:
        """The table as a polars DataFrame."""
        import polars as pl

        return pl.from_arrow(self._table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def text(self, rows_max: int | None = ROWS_SHOWN) -> str:
        """The table as aligned text, `rows_max` rows of it (None: all); control characters are written out."""
        head = self._table if rows_max is None else self._table.slice(0, rows_max)
        shown = [self.columns, *([_cell(value) for value in row] for row in Result(head).rows)]
        right = [_is_number(field.type) for field in self._table.schema]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        lines = [_line(cells, widths, right) for cells in shown]
        if head.num_rows < len(self):
            lines.append(f"... {len(self) - head.num_rows} more rows")
        return "\n".join(lines)

    __str__ = __repr__ = text

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        head = Result(self._table.slice(0, ROWS_SHOWN))
        lines = [_html_line("th", self.columns), *(_html_line("td", [_cell(value) for value in row]) for row in head.rows)]
        more = f"<p>{len(self) - len(head)} more rows</p>" if len(head) < len(self) else ""
        return f"<table>{''.join(lines)}</table>{more}"


def _tidy(table: pa.Table) -> pa.Table:
    """The table with plainer types where no value is lost: whole decimals (DuckDB's sums) as int64, intervals as durations."""
    for at, field in enumerate(table.schema):
        column = table.column(at)
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            column = _as_integers(column)
        elif field.type == pa.month_day_nano_interval():
            column = _as_durations(column)
        if column is not table.column(at):
            table = table.set_column(at, field.name, column)
    return table


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid:  # one of them is too large
        return column


def _as_durations(column: pa.ChunkedArray) -> pa.ChunkedArray:
    spans = column.to_pylist()
    if any(span is not None and span.months for span in spans):
        return column
    whole = [None if span is None else span.days * _MICROSECONDS_OF_DAY + span.nanoseconds // 1000 for span in spans]
    return pa.chunked_array([pa.array(whole, pa.int64()).cast(pa.duration("us"))])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            text = f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - from there on grouped
        case dt.datetime():
            text = f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"
        case _:
            text = str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= CHARACTERS_SHOWN else text[: CHARACTERS_SHOWN - 1] + "…"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True)]
    return "  ".join(padded).rstrip()


def _html_line(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
