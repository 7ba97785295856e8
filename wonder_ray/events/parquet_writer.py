"""From batches of JSON lines to one finished Parquet file: same batches, same rows, same order, whoever writes them.

A file is written outside the dataset, synced, and renamed into it whole; the dataset's folders never hold anything else.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import PlannedFile
from wonder_ray.events.layout import sync_dir
from wonder_ray.events.lines import decode_lines
from wonder_ray.events.schema import KEY_COLUMNS, REPETITIVE_COLUMNS, RUN_COLUMNS, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wonder_ray.events.commit_log import StoredBatch
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.wire import Stream

ROW_GROUP_ROWS: Final = 65_536
"""Small enough that a query for one run skips most of a large file, large enough that zstd and dictionaries pay."""
_BLOCK_BYTES_MIN: Final = 4 << 20
_DAY_US: Final = 86_400_000_000


def to_table(stream: Stream, batches: Sequence[StoredBatch]) -> pa.Table:
    """The rows of checked batches, in their order, with the columns of the stream's schema."""
    schema = schema_of(stream)
    lines = _parse(stream, batches)
    _check_rows(lines, batches)
    counts = [batch.last - batch.first + 1 for batch in batches]
    which = pa.array(np.repeat(np.arange(len(batches), dtype=np.int32), counts))
    columns = []
    for field in schema:
        if field.name in RUN_COLUMNS:
            values = pa.array([getattr(batch.run, field.name) for batch in batches], pa.string())
            columns.append(values.take(which))
        else:
            columns.append(lines.column(field.name).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def split_days(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of each UTC day, in their order."""
    days = pc.floor_temporal(table.column("timestamp"), unit="day")
    names = pc.strftime(days.unique().cast(pa.timestamp("s", tz="UTC")), "%Y-%m-%d").to_pylist()
    if len(names) == 1:
        return {names[0]: table}
    return {name: table.filter(pc.equal(days, day)) for name, day in zip(names, days.unique(), strict=True)}


def runs_in(table: pa.Table) -> list[str]:
    """The runs that have rows in a table."""
    return cast("list[str]", table.column("workflow_run_id").unique().to_pylist())


def write_file(
    layout: EventLayout, stream: Stream, file: PlannedFile, table: pa.Table, failpoint: Callable[[str], None]
) -> PlannedFile:
    """Write a planned file and move it into the dataset; the file with its SHA-256 and size.

    Any number of interrupted attempts leave either nothing or this very file under its name.
    """
    if table.num_rows != file.rows:
        msg = f"{file.name}: planned with {file.rows} rows, has {table.num_rows}; its commit log is damaged, see `wonder doctor`"
        raise StorageError(msg)
    aside = layout.tmp_dir / f"{stream}-{file.name.replace('/', '-')}"
    target = layout.dataset(stream) / file.name
    write_parquet(table, str(aside))
    failpoint("file.written")
    digest, size = sync_and_hash(str(aside))
    failpoint("file.synced")
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_dir(target.parent.parent)
    aside.replace(target)
    failpoint("file.renamed")
    sync_dir(target.parent)
    failpoint("file.done")
    return PlannedFile(file.name, file.rows, digest, size)


def write_parquet(table: pa.Table, path: str) -> None:
    """Write a table, sorted by run and sequence, as every file of the datasets is written."""
    names = table.schema.names
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        use_dictionary=[name for name in REPETITIVE_COLUMNS if name in names],
        write_statistics=[name for name in KEY_COLUMNS if name in names],
        write_page_checksum=True,
        write_page_index=True,
        sorting_columns=[pq.SortingColumn(names.index(name)) for name in ("workflow_run_id", "sequence_number")],
    )


def sync_and_hash(path: str) -> tuple[str, int]:
    """Make a file durable; its SHA-256 and size."""
    with open(path, "rb") as written:  # noqa: PTH123 - hashlib wants the file object, and fsync its descriptor
        os.fsync(written.fileno())
        return hashlib.file_digest(written, "sha256").hexdigest(), os.fstat(written.fileno()).st_size


def _parse(stream: Stream, batches: Sequence[StoredBatch]) -> pa.Table:
    fields = [field for field in schema_of(stream) if field.name not in RUN_COLUMNS]
    plain = pa.schema([pa.field(f.name, pa.int64() if pa.types.is_timestamp(f.type) else f.type) for f in fields])
    text = b"\n".join(batch.lines for batch in batches)
    try:
        return pj.read_json(
            pa.BufferReader(text),
            read_options=pj.ReadOptions(block_size=max(_BLOCK_BYTES_MIN, *(len(batch.lines) + 1 for batch in batches))),
            parse_options=pj.ParseOptions(explicit_schema=plain, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:  # JSON that is right, and that this parser refuses, such as a key given twice
        rows = [row for batch in batches for row in decode_lines(stream, batch.lines)]
        return pa.table({field.name: pa.array([getattr(row, field.name) for row in rows], field.type) for field in plain})


def _check_rows(lines: pa.Table, batches: Sequence[StoredBatch]) -> None:
    expected = np.concatenate([np.arange(batch.first, batch.last + 1) for batch in batches])
    found = lines.column("sequence_number").to_numpy()
    if not np.array_equal(expected, found):
        msg = f"a commit log gave {len(found)} rows for {len(expected)}, or others than its batches name; see `wonder doctor`"
        raise StorageError(msg)
