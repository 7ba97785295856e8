"""The registry as its clients meet it: the store, behind validation, with its logs. Free of Ray.

Log lines (service `resources`), each after the fact:

| event_type | level | when |
|---|---|---|
| `definition_created` | info | a version was registered that was not there |
| `run_created` | info | a run was created (not: found by its key) |
| `input_rejected` | warning | a run's input breaks its workflow's schema; nothing was written |
| `validation_failed` | warning | any other request that was refused: a bad name, definition, key, cursor, ... |
| `run_not_found` | warning | a request named a run that does not exist, or several |
| `key_conflict` | warning | a key was reused for another start |
| `stale_epoch_refused` | warning | a coordinator reported that a newer one has replaced |
| `epoch_taken` | info | a coordinator starts on a run |
| `db_query_slow` | warning | a query or a write transaction took longer than the threshold (`duration_ms`, `query`) |
| `db_error` | error | the database failed |
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from wonder_ray.errors import (
    DefinitionError,
    InputError,
    KeyConflictError,
    PayloadError,
    RunNotFoundError,
    ServiceUnavailableError,
    StaleEpochError,
    StorageError,
    WonderError,
)
from wonder_ray.ids import check_name
from wonder_ray.resources.records import (
    DEFAULT_WORKSPACE,
    LATEST,
    DefinitionRecord,
    RunPage,
    RunProjection,
    RunRecord,
    StartRequest,
)
from wonder_ray.resources.schema import InputSchema
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.values import check_json, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wonder_ray.clock import Clock

T = TypeVar("T")
INPUT_BYTES_MAX: Final = 2 * 1024 * 1024
DEFINITION_BYTES_MAX: Final = 8 * 1024 * 1024
KEY_MAX: Final = 256
LABELS_MAX: Final = 64
LABEL_CHARS_MAX: Final = 256
SLOW_QUERY_MS: Final = 1000.0
_SCHEMAS_MAX: Final = 256


class Log(Protocol):
    """What the service writes its lines to: a `LogClient` of the service `resources`."""

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level info."""

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level warning."""

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level error."""


class NullLog:
    """Writes nothing."""

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""


_REFUSALS: Final[tuple[tuple[type[WonderError], str], ...]] = (
    (RunNotFoundError, "run_not_found"),
    (KeyConflictError, "key_conflict"),
    (StaleEpochError, "stale_epoch_refused"),
)


class ResourcesService:
    """The registry, validating and logging; thread-safe.

    Every method may be repeated: a start by its `run_id` or `key`, a definition by its content; a repeated `take_epoch`
    wastes one number.

    Args:
        url_or_path: See `ResourcesStore`.
        log: Where lines go; nowhere by default.
        clock: Where times come from.
        slow_query_ms: From how many milliseconds on a query is logged as slow.
        on_io_error: See `ResourcesStore`.
    """

    def __init__(
        self,
        url_or_path: str | Path,
        *,
        log: Log | None = None,
        clock: Clock | None = None,
        slow_query_ms: float = SLOW_QUERY_MS,
        on_io_error: Callable[[], None] | None = None,
    ) -> None:
        self._log = log or NullLog()
        self._slow_query_ms = slow_query_ms
        self._store = ResourcesStore(url_or_path, clock=clock, observe=self._observe, on_io_error=on_io_error)
        self._schemas: OrderedDict[tuple[str, str], InputSchema] = OrderedDict()
        self._schemas_lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    # ----------------------------------------------------------------------------------------------------- definitions

    def put_definition(self, definition: bytes, *, workspace_id: str = DEFAULT_WORKSPACE) -> str:
        """Register a workflow (its file form, as JSON); returns its version, the same for the same content.

        Raises:
            DefinitionError: It has no usable name or input schema, or is too large.
        """
        with self._logged("put_definition", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            if len(definition) > DEFINITION_BYTES_MAX:
                raise DefinitionError(f"a definition of {len(definition):,} bytes exceeds {DEFINITION_BYTES_MAX:,}: split it")
            value = decode(definition)
            if isinstance(value, dict):
                InputSchema.of(str(value.get("name")), value.get("input"))
            version, created = self._store.put_definition(definition, workspace_id=workspace_id)
            if created:
                message = f"workflow {value['name']!r} version {version[:12]} registered"
                self._log.info("definition_created", message, workspace_id=workspace_id, version=version)
            return version

    def get_definition(self, name: str, version: str | None = None, *, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default the one that was registered last."""
        with self._logged("get_definition", workspace_id=workspace_id):
            return self._store.get_definition(name, version, workspace_id=workspace_id)

    def list_definitions(self, *, workspace_id: str = DEFAULT_WORKSPACE, name: str | None = None) -> list[DefinitionRecord]:
        """The versions of a workflow, or of all workflows of a workspace; newest first."""
        with self._logged("list_definitions", workspace_id=workspace_id):
            return self._store.list_definitions(workspace_id=workspace_id, name=name)

    # ---------------------------------------------------------------------------------------------------------- starts

    def start_run(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before; see `ResourcesStore.create_run`.

        Raises:
            InputError: The input breaks the workflow's schema, is no JSON or too large. Nothing was written.
            KeyConflictError: The key (or run id) belongs to another start.
            DefinitionError: The workflow, or this version of it, is not registered; or a name or label is malformed.
        """
        with self._logged("start_run", workspace_id=request.workspace_id, project_id=request.project_id):
            _check_request(request)
            value = _decode_input(request)
            if found := self._store.started_before(request):
                # Before the schema: a repetition holds even if a newer version would refuse the input.
                return found, False
            self._input_schema(request).check(value)
            run, created = self._store.create_run(request)
            if created:
                where = {"trace_id": run.run_id, "workspace_id": run.workspace_id, "project_id": run.project_id}
                self._log.info("run_created", f"run of {run.workflow_name!r} queued", version=run.workflow_version, **where)
            return run, created

    def _input_schema(self, request: StartRequest) -> InputSchema:
        version = request.workflow_version
        if version not in {None, LATEST} and (known := self._known_schema(request.workspace_id, version)):
            return known
        found = self._store.get_definition(request.workflow_name, version, workspace_id=request.workspace_id)
        if known := self._known_schema(request.workspace_id, found.version):
            return known
        schema = InputSchema.of(found.name, decode(found.definition).get("input"))
        with self._schemas_lock:
            self._schemas[request.workspace_id, found.version] = schema
            while len(self._schemas) > _SCHEMAS_MAX:
                self._schemas.popitem(last=False)
        return schema

    def _known_schema(self, workspace_id: str, version: str) -> InputSchema | None:
        with self._schemas_lock:
            return self._schemas.get((workspace_id, version))

    # ------------------------------------------------------------------------------------------------ for coordinators

    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None) -> int:
        """A new epoch for a run's coordinator, above all earlier ones and above `known`."""
        with self._logged("take_epoch", trace_id=run_id):
            epoch = self._store.take_epoch(run_id, known, placement)
            self._log.info("epoch_taken", f"epoch {epoch}", trace_id=run_id, epoch=epoch, placement=placement)
            return epoch

    def report(self, run_id: str, epoch: int, projection: RunProjection) -> bool:
        """Note what a run's coordinator reports; see `ResourcesStore.report`."""
        with self._logged("report", trace_id=run_id):
            return self._store.report(run_id, epoch, projection)

    def release_placement(self, run_id: str, epoch: int) -> bool:
        """Note that the coordinator of this epoch is gone."""
        with self._logged("release_placement", trace_id=run_id):
            return self._store.release_placement(run_id, epoch)

    def take_service_epoch(self, name: str) -> int:
        """The next instance number of a service."""
        with self._logged("take_service_epoch"):
            return self._store.take_service_epoch(name)

    # ----------------------------------------------------------------------------------------------------------- reads

    def get_run(self, ref: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord:
        """The run with this id, or whose id alone begins so, or the `latest`."""
        with self._logged("get_run", workspace_id=workspace_id):
            return self._store.resolve_run(ref, workspace_id=workspace_id)

    def find_run(self, key: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        with self._logged("find_run", workspace_id=workspace_id):
            return self._store.find_run(key, workspace_id=workspace_id)

    def list_runs(
        self,
        *,
        workspace_id: str = DEFAULT_WORKSPACE,
        status: str | None = None,
        workflow: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs of a workspace, newest first; see `Reads.list_runs`."""
        with self._logged("list_runs", workspace_id=workspace_id):
            return self._store.list_runs(workspace_id=workspace_id, status=status, workflow=workflow, limit=limit, cursor=cursor)

    def unfinished(self) -> list[RunRecord]:
        """All runs that no coordinator has reported as ended, oldest first."""
        with self._logged("unfinished"):
            return self._store.unfinished()

    # ------------------------------------------------------------------------------------------------------------ logs

    @contextmanager
    def _logged(self, request: str, **where: Any) -> Iterator[None]:
        """One line for whatever refuses or breaks a request."""
        try:
            yield
        except InputError as error:
            # Not the message: it quotes the input, which may hold what no log should.
            message = f"the input of a run was refused, at {error.pointer or '(the whole)'}"
            self._log.warning("input_rejected", message, request=request, pointer=error.pointer, **where)
            raise
        except (StorageError, ServiceUnavailableError) as error:
            self._log.error("db_error", str(error), request=request, error=error, **where)
            raise
        except WonderError as error:
            event_type = next((name for kind, name in _REFUSALS if isinstance(error, kind)), "validation_failed")
            self._log.warning(event_type, str(error), request=request, **where)
            raise

    def _observe(self, query: str, duration_ms: float) -> None:
        if duration_ms >= self._slow_query_ms:
            self._log.warning("db_query_slow", f"{query} took {duration_ms:.0f} ms", duration_ms=duration_ms, query=query)


def _check_request(request: StartRequest) -> None:
    check_name(request.workspace_id, "workspace")
    check_name(request.project_id, "project")
    check_name(request.workflow_name, "workflow")
    if request.key is not None and not (1 <= len(request.key) <= KEY_MAX and request.key.isprintable()):
        raise WonderError(f"key {request.key[:80]!r} cannot be used: 1 to {KEY_MAX} printable characters")
    if request.depth < 0:
        raise WonderError(f"a run cannot be nested {request.depth} deep: 0 is a run that no other has started")
    if len(request.labels) > LABELS_MAX or any(len(text) > LABEL_CHARS_MAX for pair in request.labels.items() for text in pair):
        raise WonderError(f"a run has at most {LABELS_MAX} labels, of at most {LABEL_CHARS_MAX} characters")


def _decode_input(request: StartRequest) -> Any:
    where = f"input of workflow {request.workflow_name!r}"
    if (size := len(request.input)) > INPUT_BYTES_MAX:
        raise InputError(f"{where} has {size:,} bytes, more than {INPUT_BYTES_MAX:,}: put the data into a file and pass its name")
    try:
        value = decode(request.input)
        check_json(value)
    except PayloadError as error:
        raise InputError(f"{where}: {error}") from None
    return value
