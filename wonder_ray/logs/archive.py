"""The archive of the log: files that are old enough become compressed Parquet, which is searched as the others are.

`<storage>/logs/archive/date=2026-10-23/node1-2026-10-23-1.parquet` holds the lines of `node1-2026-10-23-1.sqlite`, which is
removed once the new file is written, read back, compared and durable. While both are there, the SQLite file counts.

>>> archive_old("storage", before="2026-10-24")  # doctest: +SKIP
Archived(files=['node1-2026-10-23-1.sqlite'], lines=80211, problems=[])
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wonder_ray.errors import StorageError
from wonder_ray.logs.files import COLUMNS, LogFile, list_files, name_of, remove_file, remove_orphans
from wonder_ray.logs.lines import read_all
from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    from collections.abc import Callable

ROW_GROUP_ROWS: Final = 65_536
COMPRESSION_LEVEL: Final = 9
_INTEGERS: Final = frozenset({"attempt", "pid"})
_REQUIRED: Final = frozenset({"timestamp", "level", "service", "event_type", "message"})
_PLAIN: Final = frozenset({"timestamp", "message", "metadata", "error_stack", "token_id"})
"""What hardly repeats: no dictionary for these."""


def _type_of(column: str) -> pa.DataType:
    if column == "timestamp":
        return pa.timestamp("us", tz="UTC")
    return pa.int64() if column in _INTEGERS else pa.string()


SCHEMA: Final = pa.schema(
    [pa.field(column, _type_of(column), nullable=column not in _REQUIRED) for column in COLUMNS],
    metadata={"wonder.dataset": "logs", "wonder.schema_version": "1"},
)


class Archived(msgspec.Struct):
    """What was archived; `problems` are files that could not be, and are left where they are."""

    files: list[str] = []
    lines: int = 0
    problems: list[str] = []
    busy: bool = False


def archive_folder(storage: Path | str) -> Path:
    """Where the archive is."""
    return Path(storage) / "logs" / "archive"


def archive_old(storage: Path | str, *, before: str, stopping: Callable[[], bool] = lambda: False) -> Archived:
    """Archive every log file of a day before `before`; one process at a time.

    Such a file is complete: whoever wrote it writes to one of today. (A writer that has it open still, since nothing has happened
    since, lets go of it with its next line.)
    """
    folder = Path(storage) / "logs"
    done = Archived()
    lock = _lock(folder)
    if lock is None:
        done.busy = True
        return done
    try:
        remove_orphans(folder, before)
        for file in list_files(folder):
            if file.date >= before or stopping():
                break
            try:
                done.lines += _archive(folder, file)
                done.files.append(Path(file.path).name)
            except (StorageError, OSError, pa.ArrowException) as error:
                done.problems.append(f"{file.path} could not be archived, and is left: {error}")
    finally:
        os.close(lock)
    return done


def remove_archived(storage: Path | str, *, before: str) -> list[str]:
    """Remove the days of the archive before `before`; their dates."""
    folder = archive_folder(storage)
    gone = []
    for day in sorted(folder.glob("date=*")):
        date = day.name.removeprefix("date=")
        if date < before:
            aside = folder.parent / "tmp" / day.name
            aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            day.rename(aside)
            shutil.rmtree(aside)
            gone.append(date)
    return gone


def list_archived(storage: Path | str) -> list[LogFile]:
    """The files of the archive, oldest day first; not those whose origin is still there."""
    live = {name_of(file) for file in list_files(Path(storage) / "logs")}
    found = [file for day in archive_folder(storage).glob("date=*") for file in list_files(day, ".parquet")]
    return sorted(file for file in found if name_of(file) not in live)


def read_archived(path: str, *, between: tuple[int | None, int | None], equals: dict[str, Any]) -> list[LogLine]:
    """The lines of an archived file in a span of time (from, to) that have these values; in no order.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = [number for number in range(file.num_row_groups) if _overlaps(file.metadata.row_group(number), between)]
        table = file.read_row_groups(groups) if groups else SCHEMA.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"archived log file {path} cannot be read ({error}); it was left out") from None
    for column, value in equals.items():
        table = table.filter(pc.equal(table.column(column), value))
    plain = table.set_column(0, "timestamp", table.column("timestamp").cast(pa.int64()))
    return [LogLine(**row) for row in plain.to_pylist()]


def _overlaps(group: Any, between: tuple[int | None, int | None]) -> bool:
    found = group.column(0).statistics
    if found is None or not found.has_min_max:
        return True
    low, high = (int(value.timestamp() * 1_000_000) for value in (found.min, found.max))
    since, until = between
    return (since is None or high + 1 >= since) and (until is None or low <= until)


def _archive(folder: Path, file: LogFile) -> int:
    """One file; how many lines it has."""
    table = _table_of(file)
    target = folder / "archive" / f"date={file.date}" / f"{name_of(file)}.parquet"
    if table.num_rows:
        aside = folder / "tmp" / target.name
        for needed in (aside.parent, target.parent):
            needed.mkdir(parents=True, exist_ok=True)
        _write(table, aside)
        if not pq.read_table(aside, page_checksum_verification=True, partitioning=None).equals(table):
            raise StorageError(f"{aside} does not hold what was written to it: is the disk failing?")
        aside.replace(target)
        for changed in (target.parent, target.parent.parent):
            _sync(changed)
    remove_file(file)
    return int(table.num_rows)


def _table_of(file: LogFile) -> pa.Table:
    tables = []
    for rows in read_all(file.path):
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(column, pa.int64()).cast(field.type) if pa.types.is_timestamp(field.type) else pa.array(column, field.type)
            for column, field in zip(columns, SCHEMA, strict=True)
        ]
        tables.append(pa.Table.from_arrays(arrays, schema=SCHEMA))
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[name for name in COLUMNS if name not in _PLAIN],
        write_page_checksum=True,
    )
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the right to archive, None while another process has it."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder / "archive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
    return None
