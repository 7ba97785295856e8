"""The tables of a commit log, as forward-only migrations: `MIGRATIONS[n]` leads from schema n to n + 1."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x776F6E65  # "wone"

_FIRST: Final = """
-- `prefix`: what the names of this log's Parquet files begin with
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Senders older than `epoch` are refused. `owned`: batches of the run are taken by this log, and by no other.
-- `claim`: random, of the attempt to own it that wrote this row; another instance that fences the run here empties it.
CREATE TABLE fences (
  run_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, owned INTEGER NOT NULL, claim TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Which rows exist, sealed or not: `first` to `last` were committed by their run in `epoch`.
CREATE TABLE spans (
  run_id TEXT NOT NULL, stream TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, epoch INTEGER NOT NULL,
  PRIMARY KEY (run_id, stream, first)
) STRICT, WITHOUT ROWID;

-- From `first` on, rows of the run lie unsealed in another instance's log.
CREATE TABLE elsewhere (
  run_id TEXT NOT NULL, stream TEXT NOT NULL, log TEXT NOT NULL, first INTEGER NOT NULL,
  PRIMARY KEY (run_id, stream, log)
) STRICT, WITHOUT ROWID;

-- Acknowledged, and not in a finished file yet. `lines` is zstd of `size` bytes, or plain
-- when it has `size` bytes itself; `epoch` is the sender's.
CREATE TABLE batches (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, run_id TEXT NOT NULL, epoch INTEGER NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, size INTEGER NOT NULL, info BLOB NOT NULL, lines BLOB NOT NULL
) STRICT;
CREATE INDEX batches_by_run ON batches (run_id, stream, first, last);

-- Batches whose files are fixed, and not all finished.
CREATE TABLE plans (
  plan INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, first_batch INTEGER NOT NULL, last_batch INTEGER NOT NULL
) STRICT;

-- Files of the datasets; `plan` until they are finished.
CREATE TABLE files (
  stream TEXT NOT NULL, name TEXT NOT NULL, rows INTEGER NOT NULL, plan INTEGER, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
  sealed_us INTEGER, PRIMARY KEY (stream, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_plan ON files (plan) WHERE plan IS NOT NULL;

-- Which files hold rows of a run.
CREATE TABLE file_runs (
  run_id TEXT NOT NULL, stream TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (run_id, stream, name)
) STRICT, WITHOUT ROWID;
"""

_KEEPING: Final = """
-- Runs whose events retention has removed: their fences refuse every sender. `refused` counts rows that came all the same;
-- `log` is the prefix of the log that counted them, so that adopting one twice counts nothing twice.
CREATE TABLE deleted (
  run_id TEXT NOT NULL, log TEXT NOT NULL, deleted_us INTEGER NOT NULL, refused INTEGER NOT NULL, PRIMARY KEY (run_id, log)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_runs_by_name ON file_runs (stream, name);
"""

MIGRATIONS: Final = (_FIRST, _KEEPING)
