"""Compaction: the many files of a day that is over become few, sorted by run, with the same rows.

A day is read in parts that fit into memory, each part becomes a file, and is read back and compared before anything is replaced.
A day is left alone when a file of it is damaged, holds a row twice, or was written by a newer release.

>>> for day in days_to_compact(survey, before="2026-11-23"):  # doctest: +SKIP
...     swap = compact(layout, day)
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from wonder_ray.errors import StorageError
from wonder_ray.events.parquet_writer import sync_and_hash, write_parquet
from wonder_ray.events.schema import schema_of
from wonder_ray.events.swaps import NewFile, Swap, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.survey import Day

ROWS_MAX: Final = 400_000
"""Of one file, and of what is read into memory and sorted at once."""
FILES_SPARE: Final = 8
"""A large day with so many files more than it needs is worth writing again."""
_NUMBER_MAX: Final = 2**63 - 1
_KEYS: Final = (("workflow_run_id", "ascending"), ("sequence_number", "ascending"))
_FORMAT: Final = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Part(NamedTuple):
    """Rows that become one file: from one place to another, both included; a place is `(run, sequence number)`."""

    first: tuple[str, int]
    last: tuple[str, int]


def is_worth_it(day: Day, rows_max: int = ROWS_MAX) -> bool:
    """Whether a day has enough files more than it needs."""
    needed = -(-day.rows // rows_max)
    return len(day.files) >= 2 * max(1, needed) or len(day.files) >= needed + FILES_SPARE


def compact(layout: EventLayout, day: Day, *, rows_max: int = ROWS_MAX) -> Swap:
    """Write the new files of a day, checked and durable, beside the dataset; the swap that is to put them in.

    Raises:
        StorageError: The day cannot be compacted; nothing was changed.
    """
    schema = schema_of(day.stream)
    paths = [str(layout.dataset(day.stream) / file.name) for file in day.files]
    _check_files(day, paths, schema)
    swap = Swap(secrets.token_hex(8), day.stream, [file.name for file in day.files], [])
    folder = folder_of(layout, swap.id)
    folder.mkdir(parents=True)
    dataset = ds.dataset(paths, schema=schema, format=_FORMAT)
    rows = 0
    for number, part in enumerate(_parts(dataset, rows_max), 1):
        table = _rows_of(dataset, part).sort_by(list(_KEYS))
        _refuse_doubles(day, table)
        name = f"date={day.date}/compacted-{swap.id}-{number:04d}.parquet"
        path = folder / name.partition("/")[2]
        write_parquet(table, str(path))
        sha256, size = sync_and_hash(str(path))
        _compare(str(path), table)
        swap.new.append(NewFile(name, table.num_rows, sha256, size, part.first[0], part.last[0]))
        rows += table.num_rows
    if rows != day.rows:
        raise StorageError(
            f"{day}: its files hold {rows} rows, and {day.rows} are noted; it is left as it is, see `wonder doctor`"
        )
    return swap


def _check_files(day: Day, paths: Sequence[str], schema: pa.Schema) -> None:
    for file, path in zip(day.files, paths, strict=True):
        if file.sha256:
            with open(path, "rb") as content:  # noqa: PTH123 - file_digest wants the file object
                if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                    raise StorageError(f"{path} is not what was written: it is damaged; restore it. Its day is left as it is")
        more = set(pq.read_schema(path).names) - set(schema.names)
        if more:
            raise StorageError(f"{path} has columns {', '.join(sorted(more))}: a newer release wrote it, and has to compact it")


def _parts(dataset: ds.Dataset, rows_max: int) -> Iterator[Part]:
    """The rows in parts of `rows_max` (the last of the rest), in the order of files; a run may go on in the next part."""
    counts: Counter[str] = Counter()
    for batch in dataset.to_batches(columns=["workflow_run_id"], use_threads=False):
        counts.update({each["values"].as_py(): each["counts"].as_py() for each in pc.value_counts(batch.column(0))})
    runs = sorted(counts)
    ends = np.cumsum([counts[run] for run in runs])
    first = (runs[0], 0)
    for cut in range(rows_max, int(ends[-1]), rows_max):
        place = int(np.searchsorted(ends, cut, side="left"))
        run, offset = runs[place], cut - (int(ends[place - 1]) if place else 0)
        number = _number_at(dataset, run, offset - 1) if offset < counts[run] else _NUMBER_MAX
        yield Part(first, (run, number))
        first = (run, number + 1) if offset < counts[run] else (runs[place + 1], 0)
    yield Part(first, (runs[-1], _NUMBER_MAX))


def _number_at(dataset: ds.Dataset, run: str, place: int) -> int:
    """The sequence number of a run that stands at a place in their order, in this day."""
    mine = pc.field("workflow_run_id") == run
    numbers = dataset.to_table(columns=["sequence_number"], filter=mine, use_threads=False).column(0).to_numpy()
    return int(np.partition(numbers, place)[place])


def _rows_of(dataset: ds.Dataset, part: Part) -> pa.Table:
    run, number = pc.field("workflow_run_id"), pc.field("sequence_number")
    after = (run > part.first[0]) | ((run == part.first[0]) & (number >= part.first[1]))
    before = (run < part.last[0]) | ((run == part.last[0]) & (number <= part.last[1]))
    return dataset.to_table(filter=after & before, use_threads=False)  # beside a live service: one CPU


def _refuse_doubles(day: Day, table: pa.Table) -> None:
    runs, numbers = table.column("workflow_run_id"), table.column("sequence_number")
    if table.num_rows > 1:
        same_run = pc.equal(runs.slice(1), runs.slice(0, table.num_rows - 1))
        same = pc.and_(same_run, pc.equal(numbers.slice(1), numbers.slice(0, table.num_rows - 1)))
        if pc.any(same).as_py():
            run = runs[pc.index(same, value=True).as_py()].as_py()
            raise StorageError(f"{day}: a row of {run} is there twice; the day is left as it is, see `wonder doctor`")


def _compare(path: str, table: pa.Table) -> None:
    written = pq.read_table(path, page_checksum_verification=True, partitioning=None)
    if not written.equals(table):
        raise StorageError(f"{path} does not hold what was written to it: is the disk failing? Nothing was replaced")
