"""A DuckDB in memory that sees the two datasets of one storage folder, and nothing else of the machine."""

from __future__ import annotations

import glob
import os
import tempfile
import threading
import weakref
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from wonder_ray.errors import WonderError
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.schema import SCHEMA_VERSION, schema_of
from wonder_ray.events.swaps import pending, settled
from wonder_ray.events.wire import STREAMS
from wonder_ray.fold import fan_out_token_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from wonder_ray.events.swaps import Swap
    from wonder_ray.events.wire import Stream

DERIVED_VIEWS: Final = ("_restored", "_births", "tokens", "attempts", "runs")
"""The views over `events`, each after those that it reads."""
_NAMES: Final = {"events": "events", "trace": "trace_events"}
_SQL_TYPES: Final = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}
_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # else a query could name our own variables
}


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What DuckDB may take, where that is bounded.

    Attributes:
        memory_bytes: Of memory.
        spill_bytes: Of the disk, for what does not fit into that.
        threads: How many work at a time.
        rows: Of one result.
        result_bytes: Of one result, as Arrow holds it.
    """

    memory_bytes: int
    spill_bytes: int
    threads: int
    rows: int
    result_bytes: int


class Database:
    """Connections to one DuckDB for one storage folder; any thread may ask for one.

    Args:
        storage: The storage folder.
        workspace: The only workspace whose rows there are; None is all of them.
        room: What it may take.

    Raises:
        WonderError: DuckDB is not installed.
    """

    def __init__(self, storage: Path, workspace: str | None = None, room: Room | None = None) -> None:
        self._layout = EventLayout(storage.absolute())
        self._lock = threading.Lock()
        self._selects: dict[Stream, str] = {}
        """What the views of the datasets are made of."""
        self._mine = "" if workspace is None else f" WHERE workspace_id = {_literal(workspace)}"
        self._connection = _locked_connection(self._layout, room)
        # Made over empty views first: a view is bound when it is made, and this way no file is looked into for that.
        for stream in STREAMS:
            self._follow(stream, _empty_sql(stream))
        for name in DERIVED_VIEWS:
            self._make_view(name, sql_text(f"views/{name}.sql"))
        # DuckDB complains on stderr about a function of ours in a database that is still open when Python ends.
        self._finalizer = weakref.finalize(self, self._connection.close)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own, with the views as the folder is now."""
        with self._lock:
            swaps = pending(self._layout)
            for stream in STREAMS:
                self._follow(stream, _stream_sql(self._layout, stream, swaps))
            return self._connection.cursor()

    def close(self) -> None:
        """Free everything."""
        with self._lock:
            self._finalizer()

    def _follow(self, stream: Stream, select: str) -> None:
        if select != self._selects.get(stream):
            # All else is derived from these two: what they leave out is nowhere.
            self._make_view(_NAMES[stream], f"FROM ({select}){self._mine}")
            self._selects[stream] = select

    def _make_view(self, name: str, select: str) -> None:
        self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {select}")


def sql_text(path: str) -> str:
    """The text of a file of `sql/`."""
    return (files("wonder_ray.analytics") / "sql" / path).read_text(encoding="utf-8")


def _locked_connection(layout: EventLayout, room: Room | None) -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as error:
        raise WonderError("SQL over events needs DuckDB: pip install 'wonder-ray[analytics]'") from error
    connection = duckdb.connect(config=_CONFIG | ({} if room is None else _bounds(room)))
    connection.create_function("fan_out_token_id", _fan_out_token_ids, ["VARCHAR", "BIGINT"], "VARCHAR", type="arrow")  # type: ignore[call-overload] # names of enums are taken, too
    # A glob is allowed only in an allowed folder; with an odd name it is written escaped, which is another text.
    readable = [*(layout.dataset(stream) for stream in STREAMS), layout.swap_dir]
    folders = [spelling for folder in readable for spelling in _spellings(folder)]
    spill = Path(tempfile.gettempdir()) / f"wonder-sql-{os.getpid()}"
    for setting in (
        "GLOBAL TimeZone = 'UTC'",
        "GLOBAL parquet_metadata_cache = true",
        f"GLOBAL temp_directory = {_literal(spill)}",
        f"GLOBAL allowed_directories = [{', '.join(map(_literal, folders))}]",
        "GLOBAL enable_external_access = false",
        "GLOBAL lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _bounds(room: Room) -> dict[str, str | int]:
    return {
        "memory_limit": f"{room.memory_bytes}B",
        "max_temp_directory_size": f"{room.spill_bytes}B",
        "threads": room.threads,
    }


def _fan_out_token_ids(fanout_ids: Any, branches: Any) -> Any:
    pairs = zip(fanout_ids.to_pylist(), branches.to_pylist(), strict=True)
    return pa.array([fan_out_token_id(fanout_id, branch) for fanout_id, branch in pairs], pa.string())


def _stream_sql(layout: EventLayout, stream: Stream, swaps: Sequence[Swap]) -> str:
    """The rows of a stream; while days of it are being replaced, as if they had been (whoever globs then gets an error)."""
    if not any(swap.stream == stream for swap in swaps):
        pattern = f"{glob.escape(str(layout.dataset(stream)))}/date=*/*.parquet"
        return _files_sql(stream, _literal(pattern)) if layout.has_files(stream) else _empty_sql(stream)
    there: list[Path] = []
    aside: dict[str, list[Path]] = {}
    for date, path in settled(layout, stream, swaps):
        is_there = path.is_relative_to(layout.dataset(stream))
        (there if is_there else aside.setdefault(date, [])).append(path)
    selects = [_files_sql(stream, _list(there))] if there else []
    selects += [_files_sql(stream, _list(paths), date) for date, paths in sorted(aside.items())]
    return " UNION ALL ".join(selects) or _empty_sql(stream)


def _files_sql(stream: Stream, pattern: str, date: str | None = None) -> str:
    """All rows of some files; their date is in their paths, or is given."""
    columns = ", ".join(field.name for field in schema_of(stream))
    # Where files may differ in their columns, every one of them has to be looked into before a query can begin.
    options = f"union_by_name = {str(SCHEMA_VERSION > 1).lower()}"
    if date is None:
        options += ", hive_partitioning = true, hive_types = {'date': DATE}"
    day = "date" if date is None else f"DATE {_literal(date)} AS date"
    return f"SELECT {columns}, {day} FROM read_parquet({pattern}, {options})"  # noqa: S608 - all of it is ours


def _list(paths: Iterable[Path]) -> str:
    return f"[{', '.join(_literal(glob.escape(str(path))) for path in paths)}]"


def _empty_sql(stream: Stream) -> str:
    columns = ", ".join(f"NULL::{_SQL_TYPES[str(field.type)]} AS {field.name}" for field in schema_of(stream))
    return f"SELECT {columns}, NULL::DATE AS date WHERE false"


def _spellings(folder: Path) -> set[str]:
    return {str(folder), glob.escape(str(folder))}


def _literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
