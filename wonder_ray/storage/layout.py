"""Where everything lies in the storage folder; file names come only from ids that the system made.

>>> Layout("/data/wonder").run_file("run_0192f0c1a2b3_0123456789abcdef").name
'run_0192f0c1a2b3_0123456789abcdef.sqlite'
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from wonder_ray.errors import StorageError
from wonder_ray.ids import RUN_ID_PATTERN, check_run_id
from wonder_ray.storage.filesystem import refuse_network

ENVIRONMENT_VARIABLE: Final = "WONDER_STORAGE"
_MEND: Final = "choose another folder with --storage or WONDER_STORAGE"


class Layout:
    """The paths of one storage folder.

    Args:
        storage: The folder; by default `$WONDER_STORAGE`, else `~/.wonder/storage`.

    Raises:
        StorageError: No folder is named and there is no home folder to fall back to.
    """

    def __init__(self, storage: str | Path | None = None) -> None:
        self.root: Final = (default_storage() if storage is None else Path(storage).expanduser()).absolute()
        self.runs: Final = self.root / "runs"
        """One SQLite file and one lock file per run."""
        self.blobs: Final = self.root / "blobs"
        """Large values, by their hash."""
        self.events: Final = self.root / "events"
        """The Parquet dataset of events, by day."""
        self.trace_events: Final = self.root / "trace_events"
        """The Parquet dataset of trace events, by day."""
        self.eventlog: Final = self.root / "eventlog"
        """The event service's own commit log."""
        self.logs: Final = self.root / "logs"
        """The log store, and its archive."""
        self.resources: Final = self.root / "resources.sqlite"
        """Workspaces, definitions, the truth about runs."""
        self.resources_url: Final = self.root / "resources.url"
        """Where those are when they are not in that file: a PostgreSQL."""
        self.master_key: Final = self.root / "master.key"
        """What API keys and stored secrets are protected with, unless the environment holds it."""

    def __repr__(self) -> str:
        return f"Layout({str(self.root)!r})"

    def run_file(self, run_id: str) -> Path:
        """The SQLite file of a run; an error when this is no run id."""
        return self.runs / f"{check_run_id(run_id)}.sqlite"

    def lock_file(self, run_id: str) -> Path:
        """The lock file of a run, beside its SQLite file."""
        return self.runs / f"{check_run_id(run_id)}.lock"

    def run_ids(self) -> list[str]:
        """The runs that have a file here, oldest first."""
        if not self.runs.is_dir():
            return []
        names = (entry.name.removesuffix(".sqlite") for entry in self.runs.iterdir() if entry.name.endswith(".sqlite"))
        return sorted(name for name in names if RUN_ID_PATTERN.fullmatch(name))

    def prepare(self) -> Layout:
        """Make the folders (only their owner may enter) and prove that they can be written to.

        Raises:
            StorageError: A folder cannot be made or written, or lies on a network filesystem.
        """
        for folder in (self.root, self.runs, self.blobs, self.events, self.trace_events, self.eventlog, self.logs):
            try:
                folder.mkdir(mode=0o700, parents=folder is self.root, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, "not writable by this user")
            except OSError as error:
                msg = f"the storage folder {folder} cannot be used: {error.strerror or error}; {_MEND}"
                raise StorageError(msg) from error
        self._prove_writable()
        refuse_network(self.runs)
        return self

    def _prove_writable(self) -> None:
        # In the root only: a reader of a dataset folder would take a file there for one of its own.
        probe = self.root / f".probe-{secrets.token_hex(4)}"
        try:
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            msg = f"the storage folder {self.root} cannot be written: {error.strerror or error}; {_MEND}"
            raise StorageError(msg) from error


def default_storage() -> Path:
    """`$WONDER_STORAGE`, else `~/.wonder/storage`."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named).expanduser()
    try:
        return Path.home() / ".wonder" / "storage"
    except RuntimeError as error:
        msg = f"there is no home folder to keep ~/.wonder/storage in ({error}); {_MEND}"
        raise StorageError(msg) from error
