"""What compaction and retention change in a commit log: which files there are, and which runs are deleted for good.

A deleted run is fenced off by an epoch that nobody can have. So the rules for fences hold for it, too: every instance that
opens the run finds it in some log, and who adopts a log takes it along.

>>> with CommitLog.own(layout.log_path(1)) as log, log.transaction():  # doctest: +SKIP
...     log.delete_runs(["run_..."], now_us)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from wonder_ray.events.log_file import LogFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wonder_ray.events.wire import Stream

DELETED_EPOCH: Final = 2**62
"""Newer than every sender."""


class KeptFile(NamedTuple):
    """A finished file as a log knows it; `sha256` is empty of one that was found without a log."""

    name: str
    rows: int
    sha256: str
    size: int


class Replacement(NamedTuple):
    """A file that holds the rows of others; its rows lie sorted, from `first_run` to `last_run`."""

    file: KeptFile
    first_run: str
    last_run: str


class DeletedRun(NamedTuple):
    """A run that is deleted for good, and how many rows of it a log has refused since."""

    run_id: str
    log: str
    deleted_us: int
    refused: int


class KeepingLog(LogFile):
    """The part of a commit log that this module is about; every writing method belongs inside `transaction()`."""

    def unfinished_files(self, stream: Stream) -> set[str]:
        """Files that are planned and not sealed: after a crash they are written again, so they must not be touched."""
        return {name for (name,) in self._all("SELECT name FROM files WHERE stream = ? AND plan IS NOT NULL", stream)}

    def kept_files(self, stream: Stream) -> dict[str, KeptFile]:
        """Every finished file, by name."""
        sql = "SELECT name, rows, sha256, size FROM files WHERE stream = ? AND plan IS NULL"
        return {row[0]: KeptFile(*row) for row in self._all(sql, stream)}

    def runs_of_file(self, stream: Stream, name: str) -> list[str]:
        """The runs with rows in a file."""
        return [run for (run,) in self._all("SELECT run_id FROM file_runs WHERE stream = ? AND name = ?", stream, name)]

    def unsealed_runs(self) -> set[str]:
        """The runs that have rows in this log, and in no finished file."""
        return {run for (run,) in self._all("SELECT DISTINCT run_id FROM batches")}

    def replace_files(self, stream: Stream, old: Sequence[str], new: Sequence[Replacement]) -> None:
        """Know the new files, each with the runs that it holds, instead of those of the old ones that this log knows."""
        runs = {run for name in old for run in self.runs_of_file(stream, name)}
        known = 0
        for name in old:
            self._all("DELETE FROM file_runs WHERE stream = ? AND name = ?", stream, name)
            self._all("DELETE FROM files WHERE stream = ? AND name = ?", stream, name)
            known += self._db.changes()
        for each in new if known else ():
            self._all("INSERT OR IGNORE INTO files (stream, name, rows, sha256, size) VALUES (?, ?, ?, ?, ?)", stream, *each.file)
            held = (run for run in runs if each.first_run <= run <= each.last_run)
            for run in held:
                sql = "INSERT OR IGNORE INTO file_runs (run_id, stream, name) VALUES (?, ?, ?)"
                self._all(sql, run, stream, each.file.name)

    # ------------------------------------------------------------------------------------ deleted runs

    def delete_runs(self, runs: Iterable[str], now_us: int) -> None:
        """Refuse all rows of these runs from now on, whoever sends them."""
        mine = self.prefix()
        for run in runs:
            self._all("INSERT OR IGNORE INTO deleted (run_id, log, deleted_us, refused) VALUES (?, ?, ?, 0)", run, mine, now_us)
            self._all(
                "INSERT INTO fences (run_id, epoch, owned, claim) VALUES (?1, ?2, 0, '')"
                " ON CONFLICT (run_id) DO UPDATE SET epoch = ?2, owned = 0, claim = ''",
                run, DELETED_EPOCH,
            )  # fmt: skip

    def count_refused(self, run: str, rows: int, now_us: int) -> None:
        """Rows of a deleted run came, and were refused."""
        self._all(
            "INSERT INTO deleted (run_id, log, deleted_us, refused) VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT DO UPDATE SET refused = refused + ?4",
            run, self.prefix(), now_us, rows,
        )  # fmt: skip

    def deleted_runs(self) -> list[DeletedRun]:
        """What this log knows of deleted runs; of one that came here after others had deleted it, there are several."""
        return [DeletedRun(*row) for row in self._all("SELECT run_id, log, deleted_us, refused FROM deleted ORDER BY run_id")]

    def adopt_deleted(self, other: KeepingLog) -> None:
        """Take over what another log knows of deleted runs."""
        for each in other.deleted_runs():
            self._all("INSERT OR REPLACE INTO deleted (run_id, log, deleted_us, refused) VALUES (?, ?, ?, ?)", *each)
