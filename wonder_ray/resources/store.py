"""The registry itself: which definitions and runs exist, who may act for a run, and where it lives.

Every write is one short transaction that is alone from its start, so that two stores on one database (two clusters on one
storage folder, or on one PostgreSQL) see each other's runs, keys and epochs at once.

>>> from wonder_ray.resources.records import StartRequest
>>> store = ResourcesStore(":memory:")
>>> version, new = store.put_definition(b'{"name":"hello","nodes":[]}')
>>> run, created = store.create_run(StartRequest(workflow_name="hello", key="monday"))
>>> run.status, created
(<RunStatus.QUEUED: 'queued'>, True)
>>> store.create_run(StartRequest(workflow_name="hello", key="monday"))[1]
False
>>> store.take_epoch(run.run_id, known=0, placement=None)
1
>>> store.close()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import insert, select, update

from wonder_ray.clock import Clock, SystemClock
from wonder_ray.ids import check_name, check_run_id, new_run_id
from wonder_ray.resources import definitions, runs
from wonder_ray.resources.databases.opening import open_database, prepare
from wonder_ray.resources.keys import ApiKeys
from wonder_ray.resources.master_key import MasterKeys, load_master_keys
from wonder_ray.resources.reads import Reads
from wonder_ray.resources.records import (
    DEFAULT_WORKSPACE,
    BundleContent,
    BundleRecord,
    RunProjection,
    RunRecord,
    StartRequest,
)
from wonder_ray.resources.secrets import Secrets
from wonder_ray.resources.tables import SERVICE_EPOCHS
from wonder_ray.resources.transactions import Transactions
from wonder_ray.resources.workspaces import Workspaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

T = TypeVar("T")
FILE_NAME: Final = "resources.sqlite"


class ResourcesStore(Reads):
    """The registry in one database; may be used by many threads, and beside other processes.

    Args:
        place: A file (its folder is created), `sqlite:///file`, `:memory:`, or `postgresql://user@host/database`.
        clock: Where `created_us` comes from.
        observe: Told the name and the milliseconds of every query and write transaction.
        on_io_error: Called when the disk failed a write. What the disk holds is then known only after a restart: the actor
            crashes here, and recovers.
        master_keys: What protects API keys and secrets; by default a key that lasts as long as this object.

    Attributes:
        workspaces: Workspaces and projects.
        api_keys: API keys.
        secrets: Secrets.

    Raises:
        StorageError: The place holds something else, is damaged, or cannot be opened.
        ServiceUnavailableError: Another process held its lock for too long, or the server did not answer; from any method.
    """

    def __init__(
        self,
        place: str | Path,
        *,
        clock: Clock | None = None,
        observe: Callable[[str, float], None] | None = None,
        on_io_error: Callable[[], None] | None = None,
        master_keys: Callable[[], MasterKeys] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._database = open_database(place)
        self.name: Final = self._database.name
        try:
            prepare(self._database, self._clock.now_us())
        except BaseException:
            self._database.close()
            raise
        self.transactions: Final = Transactions(
            self._database, observe or (lambda _name, _milliseconds: None), on_io_error or (lambda: None)
        )
        keys = master_keys or load_master_keys(None)
        self.workspaces: Final = Workspaces(self.transactions, self._clock)
        self.api_keys: Final = ApiKeys(self.transactions, self._clock, keys)
        self.secrets: Final = Secrets(self.transactions, self._clock, keys)

    def close(self) -> None:
        """Close all connections; a method that is called later opens new ones."""
        self._database.close()

    def put_definition(self, definition: bytes, *, workspace_id: str = DEFAULT_WORKSPACE) -> tuple[str, bool]:
        """Register a definition (its file form, as JSON).

        Returns:
            Its version, and whether it is new; nothing happens if it was there already.
        """
        row = definitions.definition_row(definition, workspace_id, self._clock.now_us())
        return row["version"], self._write("put_definition", lambda c: definitions.put_definition(c, row))

    def delete_definition(self, name: str, version: str | None = None, *, workspace_id: str = DEFAULT_WORKSPACE) -> list[str]:
        """Remove a version of a workflow, or all, where no run has it; which versions they were."""
        return self._write("delete_definition", lambda c: definitions.delete_definition(c, workspace_id, name, version))

    def put_bundle(self, sha256: str, content: BundleContent, *, workspace_id: str = DEFAULT_WORKSPACE) -> bool:
        """Register a code bundle, so that definitions may name it; whether it is new."""
        if self._read("put_bundle", lambda c: definitions.knows_bundle(c, workspace_id, sha256)):
            return False
        now_us = self._clock.now_us()
        return self._write("put_bundle", lambda c: definitions.put_bundle(c, workspace_id, sha256, content, now_us))

    def get_bundle(self, sha256: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> BundleRecord:
        """A registered bundle; a `NotFoundError` when it is none."""
        return self._read("get_bundle", lambda c: definitions.find_bundle(c, workspace_id, sha256))

    def create_run(self, request: StartRequest, *, version: str | None = None) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before; once it returns, the run will happen.

        Args:
            request: What to start.
            version: What its `latest` means, where that was looked up before; a repeated request finds its run all the same.

        Returns:
            The run, and whether it is new.

        Raises:
            KeyConflictError: The key (or run id) belongs to a run of another definition or input.
            DefinitionError: The workflow, or this version of it, is not registered.
            NotFoundError: There is no such workspace or project.
        """
        now_us = self._clock.now_us()
        run_id = check_run_id(request.run_id) if request.run_id else new_run_id(now_us)
        return self._write("create_run", lambda c: runs.create_run(c, request, run_id, now_us, version))

    def started_before(self, request: StartRequest) -> RunRecord | None:
        """The run that this request has created already, if it has; a `KeyConflictError` as from `create_run`."""
        return self._read("started_before", lambda c: runs.started_before(c, request))

    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None, *, expected: int | None = None) -> int:
        """A new epoch for a run's coordinator: above the stored one and above `known` (by the event service and the run's file).

        It also records where that coordinator lives. A run that has ended has epochs too: a coordinator reopens it to repeat
        its release.

        Raises:
            StaleEpochError: The epoch is not the `expected` one (if that was given): somebody else was faster.
        """
        return self._write("take_epoch", lambda c: runs.take_epoch(c, run_id, known, placement, expected))

    def report(self, run_id: str, epoch: int, projection: RunProjection) -> bool:
        """Note what a run's coordinator reports.

        Returns:
            Whether it was noted. Nothing leaves a terminal status, and a report that was overtaken by a later one of the
            same epoch (more events) is dropped.

        Raises:
            StaleEpochError: The reporter was fenced off by a newer epoch: it must stop.
        """
        return self._write("report", lambda c: runs.report(c, run_id, epoch, projection))

    def release_placement(self, run_id: str, epoch: int) -> bool:
        """Note that a run's coordinator is gone; whether it was the one of this epoch (else nothing happens)."""
        return self._write("release_placement", lambda c: runs.release_placement(c, run_id, epoch))

    def take_service_epoch(self, name: str) -> int:
        """The next instance number of a service: 1, 2, 3, ...; never the same twice."""
        check_name(name, "service")
        mine = SERVICE_EPOCHS.c.name == name

        def work(connection: Connection) -> int:
            found = connection.execute(select(SERVICE_EPOCHS.c.epoch).where(mine)).scalar()
            if found is None:
                connection.execute(insert(SERVICE_EPOCHS).values(name=name, epoch=1))
                return 1
            connection.execute(update(SERVICE_EPOCHS).where(mine).values(epoch=found + 1))
            return int(found) + 1

        return self._write("take_service_epoch", work)

    def _read(self, name: str, work: Callable[[Connection], T]) -> T:
        return self.transactions.read(name, work)

    def _write(self, name: str, work: Callable[[Connection], T]) -> T:
        return self.transactions.write(name, work)
