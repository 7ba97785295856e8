"""All SQL of a run's file, in one place.

A new version of the schema is a new entry at the end of `MIGRATIONS`; entries that were released are never changed.
Each row ends in `crc`, a checksum of the row (see `rows.py`): a row that is changed by hand must be given a new one.
The comments inside the tables are stored in the file: `.schema` in the sqlite3 shell shows them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

APPLICATION_ID: Final = 0x574F4E44
"""`WOND`: what marks a file as a run's."""

PAGE_SIZE: Final = 2048
"""Small pages: ten tables in a fresh file take half the disk that SQLite's default of 4096 does."""

MIGRATIONS: Final = (
    """
    CREATE TABLE meta (
      key TEXT PRIMARY KEY,             -- definition, bundle, run info, ...; 'epoch': the newest coordinator's
      value ANY NOT NULL,
      crc INTEGER NOT NULL              -- of this row, in every table
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE run (                  -- one row, written by every turn: keep it small
      id INTEGER PRIMARY KEY CHECK (id = 1),
      run_id TEXT NOT NULL, workflow_name TEXT NOT NULL, workflow_version TEXT NOT NULL, status TEXT NOT NULL,
      started_us INTEGER, ended_us INTEGER, deadline_us INTEGER, cancel_reason TEXT,
      turn INTEGER NOT NULL, sequence INTEGER NOT NULL,
      last_sequence INTEGER NOT NULL,   -- of events, also when their outbox rows are gone
      last_trace_sequence INTEGER NOT NULL,
      rest TEXT,                        -- JSON of fields that have no column
      crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE run_values (           -- one row; beside `run` so that no turn rewrites a large input
      id INTEGER PRIMARY KEY CHECK (id = 1),
      input TEXT, output TEXT, error TEXT,  -- JSON
      crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE tokens (
      ordinal INTEGER PRIMARY KEY,
      id TEXT NOT NULL, node_id TEXT NOT NULL, status TEXT NOT NULL, path_id TEXT NOT NULL,
      parent_id TEXT, transition_id TEXT, scope_id TEXT NOT NULL, group_id TEXT,
      fanout_id TEXT, branch_index INTEGER, join_id TEXT,
      attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, failures TEXT NOT NULL, solo INTEGER NOT NULL, due_us INTEGER,
      input TEXT, result TEXT, error TEXT, cause TEXT,  -- JSON
      rest TEXT, crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE groups (
      ordinal INTEGER PRIMARY KEY,
      id TEXT NOT NULL, name TEXT NOT NULL, opener_id TEXT NOT NULL, parent_id TEXT, status TEXT NOT NULL,
      size INTEGER NOT NULL, active INTEGER NOT NULL, arrived INTEGER NOT NULL, failures INTEGER NOT NULL,
      tolerated ANY,                    -- a count (integer) or a fraction (real)
      rest TEXT, crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE fanouts (
      ordinal INTEGER PRIMARY KEY,
      id TEXT NOT NULL, transition_id TEXT NOT NULL, parent_id TEXT NOT NULL, count INTEGER NOT NULL,
      items TEXT,                       -- JSON
      item_name TEXT NOT NULL, max_concurrency INTEGER, outer_id TEXT, outer_index INTEGER,
      rest TEXT, crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE context_log (          -- the context is this log: deltas, never a snapshot
      position INTEGER PRIMARY KEY,
      turn INTEGER NOT NULL, scope_id TEXT NOT NULL, target TEXT NOT NULL, op TEXT NOT NULL,
      value BLOB NOT NULL,              -- JSON
      crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE iterations (
      scope_id TEXT NOT NULL, transition_id TEXT NOT NULL, count INTEGER NOT NULL, crc INTEGER NOT NULL,
      PRIMARY KEY (scope_id, transition_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE handled (              -- messages by key, with the reply that a repetition gets
      key TEXT PRIMARY KEY, reply BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE outbox (               -- events that are not yet sealed in a finished Parquet file, some hundred a row:
      last INTEGER PRIMARY KEY,         -- one line each, of the sequence numbers `first` to `last`
      first INTEGER NOT NULL, epoch INTEGER NOT NULL, lines BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE trace_outbox (
      last INTEGER PRIMARY KEY,
      first INTEGER NOT NULL, epoch INTEGER NOT NULL, lines BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE records (              -- signals and answers that are kept, child runs, undos
      kind TEXT NOT NULL, id TEXT NOT NULL,
      value BLOB NOT NULL,              -- JSON
      crc INTEGER NOT NULL,
      PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    """,
)

# What every connection that writes sets first, before its first read: EXCLUSIVE must come before the file is touched, so
# that the index of the log lives in this process's memory and no other process can hold it.
WRITER_PRAGMAS: Final = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;              -- where fsync does not reach the disk (macOS)
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;        -- notice a damaged page when it is read
    PRAGMA temp_store = MEMORY;
    PRAGMA wal_autocheckpoint = 4000;   -- 8 MB: a turn of a few thousand tokens is not interrupted by a checkpoint
    PRAGMA journal_size_limit = 16777216;
"""

# What must be in force after WRITER_PRAGMAS, read back on every open. (2 is FULL.)
SETTINGS: Final = MappingProxyType(
    {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive", "foreign_keys": 1, "trusted_schema": 0}
)

READER_PRAGMAS: Final = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;"

# Whether the pages are sound; stops at the first fault.
QUICK_CHECK: Final = "PRAGMA quick_check(1)"

# Start a turn: take the write lock at once, never in the middle.
BEGIN: Final = "BEGIN IMMEDIATE"

# The facts beside the run: all of them, and one.
GET_ALL_META: Final = "SELECT key, value, crc FROM meta"
GET_META: Final = "SELECT key, value, crc FROM meta WHERE key = ?"
SET_META: Final = "INSERT OR REPLACE INTO meta (key, value, crc) VALUES (?, ?, ?)"

# The run's row is written by statements that `rows.py` makes from the struct; these are for what lies beside it.
GET_RUN_VALUES: Final = "SELECT input, output, error, crc FROM run_values"
PUT_RUN_VALUES: Final = "INSERT OR REPLACE INTO run_values (id, input, output, error, crc) VALUES (1, ?, ?, ?, ?)"

# The whole context, in the order it was written.
GET_DELTAS: Final = "SELECT turn, scope_id, target, op, value, crc FROM context_log ORDER BY position"
ADD_DELTA: Final = "INSERT INTO context_log (turn, scope_id, target, op, value, crc) VALUES (?, ?, ?, ?, ?, ?)"

# How often a transition was taken in a branch.
GET_ITERATIONS: Final = "SELECT scope_id, transition_id, count, crc FROM iterations ORDER BY scope_id, transition_id"
PUT_ITERATION: Final = "INSERT OR REPLACE INTO iterations (scope_id, transition_id, count, crc) VALUES (?, ?, ?, ?)"

# What is kept of signals, answers, child runs and undos.
GET_RECORDS: Final = "SELECT kind, id, value, crc FROM records ORDER BY kind, id"
PUT_RECORD: Final = "INSERT OR REPLACE INTO records (kind, id, value, crc) VALUES (?, ?, ?, ?)"
DROP_RECORD: Final = "DELETE FROM records WHERE kind = ? AND id = ?"

# Plain INSERT: a message that is recorded twice was handled twice, and its turn must not commit.
GET_KEYS: Final = "SELECT key, reply, crc FROM handled"
ADD_KEY: Final = "INSERT INTO handled (key, reply, crc) VALUES (?, ?, ?)"

# The outboxes: append, read what reaches beyond a number, drop what lies wholly up to one (and cut the row that straddles it).
ADD_OUTBOX: Final = MappingProxyType(
    {
        "events": "INSERT OR REPLACE INTO outbox (last, first, epoch, lines, crc) VALUES (?, ?, ?, ?, ?)",
        "trace": "INSERT OR REPLACE INTO trace_outbox (last, first, epoch, lines, crc) VALUES (?, ?, ?, ?, ?)",
    }
)
GET_OUTBOX: Final = MappingProxyType(
    {
        "events": "SELECT last, first, epoch, lines, crc FROM outbox WHERE last > ? ORDER BY last",
        "trace": "SELECT last, first, epoch, lines, crc FROM trace_outbox WHERE last > ? ORDER BY last",
    }
)
FORGET_OUTBOX: Final = MappingProxyType(
    {
        "events": "DELETE FROM outbox WHERE last <= ?",
        "trace": "DELETE FROM trace_outbox WHERE last <= ?",
    }
)
