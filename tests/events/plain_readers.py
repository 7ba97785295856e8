"""A reader that knows nothing of us, in a process of its own: it reads the dataset again and again, and checks every read.

`python -m tests.events.plain_readers LIBRARY FOLDER EXPECTED STOP`: EXPECTED is a JSON file, date -> `{"rows": [[run, number],
...], "always": bool}`; it ends when the file STOP is there, and prints one JSON object. `STOP.LIBRARY` grows by a byte per right
read.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LIBRARIES: Final = ("pyarrow", "pandas", "polars", "duckdb")
CLEAR: Final = (
    "magic bytes", "must end with PAR1", "No such file", "Invalid thrift", "TProtocolException", "don't know what type",
    "Cannot open file", "no files", "No files found", "expanded paths were empty",
)  # fmt: skip
"""What an error says that a reader got in the middle of a swap."""
SHOWN_MAX: Final = 5

Row = tuple[str, str, int]
"""Date, run, sequence number."""


def read_pyarrow(folder: str) -> Iterable[Row]:
    import pyarrow.dataset as ds

    table = ds.dataset(folder, partitioning="hive").to_table(columns=["date", "workflow_run_id", "sequence_number"])
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def read_pandas(folder: str) -> Iterable[Row]:
    import pandas as pd

    frame = pd.read_parquet(folder, columns=["date", "workflow_run_id", "sequence_number"])
    return zip(*(frame[name].tolist() for name in frame.columns), strict=True)


def read_polars(folder: str) -> Iterable[Row]:
    import polars as pl

    frame = pl.scan_parquet(folder, hive_partitioning=True, try_parse_hive_dates=False)
    rows: list[Row] = frame.select("date", "workflow_run_id", "sequence_number").collect().rows()
    return rows


def read_duckdb(folder: str) -> Iterable[Row]:
    import duckdb

    source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    query = f"SELECT date, workflow_run_id, sequence_number FROM {source}"
    rows: list[Row] = duckdb.connect().execute(query).fetchall()
    return rows


READERS: Final[dict[str, Callable[[str], Iterable[Row]]]] = {
    "pyarrow": read_pyarrow,
    "pandas": read_pandas,
    "polars": read_polars,
    "duckdb": read_duckdb,
}


def wrong_days(rows: Iterable[Row], expected: dict[str, Any]) -> list[str]:
    """Each day has all of its rows, each once; one that is not `always` there may lack altogether."""
    found: dict[str, list[list[Any]]] = {}
    for date, run, number in rows:
        found.setdefault(str(date), []).append([run, number])
    wrong = []
    for date in expected.keys() | found.keys():
        day, mine = expected.get(date, {"rows": [], "always": False}), sorted(found.get(date, []))
        if mine != day["rows"] and (mine or day["always"]):
            wrong.append(f"{date}: {len(mine)} rows, {len(set(map(tuple, mine)))} different, of {len(day['rows'])}")
    return wrong


def main(library: str, folder: str, expected_file: str, stop: str) -> None:
    expected = json.loads(Path(expected_file).read_text())
    right, errors, wrong, unclear = 0, Counter[str](), list[list[str]](), list[str]()
    while not Path(stop).exists():
        try:
            rows = list(READERS[library](folder))
        except BaseException as error:  # noqa: BLE001 - polars panics with something that is no Exception
            said = f"{type(error).__name__}: {error}"
            errors[type(error).__name__] += 1
            if not any(text in said for text in CLEAR) or not isinstance(error, Exception):
                unclear.append(said[:500])
            continue
        if bad := wrong_days(rows, expected):
            wrong.append(bad)
        else:
            right += 1
            with Path(f"{stop}.{library}").open("a") as progress:
                progress.write(".")
    told = {"right": right, "errors": errors, "wrong": wrong[:SHOWN_MAX], "wrongs": len(wrong), "unclear": unclear[:SHOWN_MAX]}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
