"""The registry as its clients meet it: the store, behind validation, with its logs. Free of Ray.

Log lines (service `resources`), each after the fact. No line holds an input, an API key or a secret.

| event_type | level | when |
|---|---|---|
| `definition_created`, `bundle_created` | info | a version or a code bundle was registered that was not there |
| `definition_deleted` | info | versions of a workflow were removed |
| `run_created` | info | a run was created (not: found by its key) |
| `epoch_taken` | info | a coordinator starts on a run |
| `workspace_created`, `_updated`, `_deleted`; `project_...` likewise | info | one was |
| `api_key_created`, `api_key_rotated`, `api_key_revoked` | info | one was |
| `secret_put`, `secret_deleted`, `secret_granted` | info | one was changed, removed, or given to an executor of a run |
| `input_rejected` | warning | a run's input breaks its workflow's schema; nothing was written |
| `action_not_found` | warning | a definition names an action that its code bundle does not hold |
| `run_not_found`, `workspace_not_found`, `project_not_found`, `bundle_not_found`, `api_key_not_found`, `secret_not_found` | \
warning | a request named something that does not exist, or (a run) several |
| `validation_failed` | warning | any other request that was refused: a bad name, definition, key, cursor, ... |
| `key_conflict` | warning | a key was reused for another start |
| `conflict` | warning | something exists already, or is not empty |
| `stale_epoch_refused` | warning | a coordinator reported, or wanted to start, that a newer one has replaced |
| `api_key_refused` | warning | an API key was malformed, unknown, wrong, expired or revoked (`why`) |
| `access_denied`, `rate_limited` | warning | a good API key asked for something that it is not for, or too often |
| `secret_refused` | warning | a run asked for a secret that its workspace does not have |
| `db_query_slow` | warning | a query or a write transaction took longer than the threshold (`duration_ms`, `query`) |
| `db_error` | error | the database failed |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.caches import SizedCache
from wonder_ray.errors import DefinitionError
from wonder_ray.ids import check_name
from wonder_ray.resources import checks
from wonder_ray.resources.administration import Administration
from wonder_ray.resources.master_key import MasterKeys
from wonder_ray.resources.records import (
    DEFAULT_WORKSPACE,
    LATEST,
    BundleContent,
    BundleRecord,
    DefinitionPage,
    DefinitionRecord,
    RunFilter,
    RunPage,
    RunProjection,
    RunRecord,
    StartRequest,
)
from wonder_ray.resources.request_log import Log, NullLog, RequestLog
from wonder_ray.resources.schema import InputSchema
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.clock import Clock

SLOW_QUERY_MS: Final = 1000.0
_SMALLEST: Final = 1_000
_SCHEMA_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of the schemas that are kept, as JSON; read they take about ten times as much."""


class ResourcesService(Administration):
    """The registry, validating and logging; thread-safe.

    Every method may be repeated: a start by its `run_id` or `key`, a definition by its content; a repeated `take_epoch`
    wastes one number, a repeated `create_api_key` or `rotate_api_key` makes one more.

    Args:
        place: See `ResourcesStore`.
        log: Where lines go; nowhere by default.
        clock: Where times come from.
        slow_query_ms: From how many milliseconds on a query is logged as slow.
        on_io_error: See `ResourcesStore`.
        master_keys: What protects API keys and secrets; by default a key that lasts as long as this object.
    """

    def __init__(
        self,
        place: str | Path,
        *,
        log: Log | None = None,
        clock: Clock | None = None,
        slow_query_ms: float = SLOW_QUERY_MS,
        on_io_error: Callable[[], None] | None = None,
        master_keys: Callable[[], MasterKeys] | None = None,
    ) -> None:
        lines = RequestLog(log or NullLog(), slow_query_ms)
        store = ResourcesStore(place, clock=clock, observe=lines.observe, on_io_error=on_io_error, master_keys=master_keys)
        super().__init__(store, lines)
        self._schemas = SizedCache[InputSchema](_SCHEMA_BYTES_MAX)

    @property
    def place(self) -> str:
        """Where the registry lives, as it may be shown."""
        return self._store.name

    def close(self) -> None:
        """Close all connections."""
        self._store.close()

    # --- definitions -----------------------------------------------------------------------------------------------------

    def put_bundle(self, sha256: str, content: BundleContent, *, workspace_id: str = DEFAULT_WORKSPACE) -> bool:
        """Register a code bundle, so that definitions of the workspace may name it; whether it is new."""
        with self._log.request("put_bundle", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            checks.check_sha256(sha256)
            checks.check_bundle(content)
            created = self._store.put_bundle(sha256, content, workspace_id=workspace_id)
            if created:
                actions = len(content.targets) + len(content.pickles)
                message = f"code bundle {sha256[:12]} with {actions} actions registered"
                self._log.done("bundle_created", message, workspace_id=workspace_id, sha256=sha256)
            return created

    def get_bundle(self, sha256: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> BundleRecord:
        """What a registered code bundle holds."""
        with self._log.request("get_bundle", workspace_id=workspace_id):
            checks.check_sha256(sha256)
            return self._store.get_bundle(sha256, workspace_id=workspace_id)

    def put_definition(self, definition: bytes, *, workspace_id: str = DEFAULT_WORKSPACE) -> str:
        """Register a workflow (its file form, as JSON); returns its version, the same for the same content.

        Raises:
            DefinitionError: It has no usable name or input schema, or is too large.
            ActionNotFoundError: An action is not in its code bundle.
            NotFoundError: There is no such workspace, or its code bundle is not registered there.
        """
        with self._log.request("put_definition", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            if len(definition) > checks.DEFINITION_BYTES_MAX:
                limit = f"{checks.DEFINITION_BYTES_MAX:,}"
                raise DefinitionError(f"a definition of {len(definition):,} bytes exceeds {limit}: split it")
            value = decode(definition)
            if isinstance(value, dict):
                InputSchema.of(str(value.get("name")), value.get("input"))
                bundle = self._bundle_of(value, workspace_id)
                checks.check_actions(value, bundle)
            version, created = self._store.put_definition(definition, workspace_id=workspace_id)
            if created:
                message = f"workflow {value['name']!r} version {version[:12]} registered"
                self._log.done("definition_created", message, workspace_id=workspace_id, version=version)
            return version

    def _bundle_of(self, definition: dict[str, Any], workspace_id: str) -> BundleContent | None:
        sha256 = definition.get("bundle")
        if sha256 is None:
            return None
        return self._store.get_bundle(checks.check_sha256(str(sha256)), workspace_id=workspace_id).content

    def get_definition(self, name: str, version: str | None = None, *, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default (or by `latest`) the one that was registered last."""
        with self._log.request("get_definition", workspace_id=workspace_id):
            self._check_reference(workspace_id, name, version)
            return self._store.get_definition(name, version, workspace_id=workspace_id)

    def list_definitions(
        self, *, workspace_id: str = DEFAULT_WORKSPACE, name: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> DefinitionPage:
        """The versions of a workflow, or of all workflows of a workspace, without their content; newest first."""
        with self._log.request("list_definitions", workspace_id=workspace_id):
            self._check_reference(workspace_id, name, None)
            return self._store.list_definitions(workspace_id=workspace_id, name=name, limit=limit, cursor=cursor)

    @staticmethod
    def _check_reference(workspace_id: str, name: str | None, version: str | None) -> None:
        check_name(workspace_id, "workspace")
        if name is not None:
            check_name(name, "workflow")
        if version not in {None, LATEST}:
            checks.check_text(str(version), "a version", checks.KEY_MAX)

    # --- starts ----------------------------------------------------------------------------------------------------------

    def start_run(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before; see `ResourcesStore.create_run`.

        Raises:
            InputError: The input breaks the workflow's schema, is no JSON or too large. Nothing was written.
            KeyConflictError: The key (or run id) belongs to another start.
            DefinitionError: The workflow, or this version of it, is not registered; or a name or label is malformed.
            NotFoundError: There is no such workspace or project.
        """
        with self._log.request("start_run", workspace_id=request.workspace_id, project_id=request.project_id):
            checks.check_start(request)
            value = checks.decoded_input(request)
            if found := self._store.started_before(request):
                # Before the schema: a repetition holds even if a newer version would refuse the input.
                return found, False
            schema, version = self._input_schema(request)
            schema.check(value)
            run, created = self._store.create_run(request, version=version)
            if created:
                where = {"trace_id": run.run_id, "workspace_id": run.workspace_id, "project_id": run.project_id}
                self._log.done("run_created", f"run of {run.workflow_name!r} queued", version=run.workflow_version, **where)
            return run, created

    def _input_schema(self, request: StartRequest) -> tuple[InputSchema, str]:
        """What the input has to fit, and of which version: a newer one may come before the run is created."""
        version = request.workflow_version
        if version not in {None, LATEST} and (known := self._schemas.find((request.workspace_id, version))):
            return known, str(version)
        self._check_reference(request.workspace_id, request.workflow_name, version)
        found = self._store.get_definition(request.workflow_name, version, workspace_id=request.workspace_id)
        if known := self._schemas.find((request.workspace_id, found.version)):
            return known, found.version
        document = decode(found.definition).get("input")
        schema = InputSchema.of(found.name, document)
        size = _SMALLEST + len(encode(document))
        return self._schemas.keep((request.workspace_id, found.version), schema, size), found.version

    # --- for coordinators ------------------------------------------------------------------------------------------------

    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None, *, expected: int | None = None) -> int:
        """A new epoch for a run's coordinator, above all earlier ones and above `known`; see `ResourcesStore.take_epoch`."""
        with self._log.request("take_epoch", trace_id=run_id):
            epoch = self._store.take_epoch(run_id, known, placement, expected=expected)
            self._log.done("epoch_taken", f"epoch {epoch}", trace_id=run_id, epoch=epoch, placement=placement)
            return epoch

    def report(self, run_id: str, epoch: int, projection: RunProjection) -> bool:
        """Note what a run's coordinator reports; see `ResourcesStore.report`."""
        with self._log.request("report", trace_id=run_id):
            return self._store.report(run_id, epoch, projection)

    def release_placement(self, run_id: str, epoch: int) -> bool:
        """Note that the coordinator of this epoch is gone."""
        with self._log.request("release_placement", trace_id=run_id):
            return self._store.release_placement(run_id, epoch)

    def take_service_epoch(self, name: str) -> int:
        """The next instance number of a service."""
        with self._log.request("take_service_epoch"):
            return self._store.take_service_epoch(name)

    # --- reads -----------------------------------------------------------------------------------------------------------

    def get_run(self, ref: str, *, workspace_id: str | None = None) -> RunRecord:
        """The run with this id, or whose id alone begins so, or the `latest`; see `Reads.resolve_run`."""
        with self._log.request("get_run", workspace_id=workspace_id):
            return self._store.resolve_run(ref, workspace_id=workspace_id)

    def find_run(self, key: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        with self._log.request("find_run", workspace_id=workspace_id):
            checks.check_key(key)
            return self._store.find_run(key, workspace_id=workspace_id)

    def list_runs(self, wanted: RunFilter | None = None, *, limit: int = 50, cursor: str | None = None, **fields: Any) -> RunPage:
        """Runs of a workspace, newest first; see `Reads.list_runs`."""
        with self._log.request("list_runs"):
            meant = wanted or RunFilter.of(**fields)
            checks.check_filter(meant)
            return self._store.list_runs(meant, limit=limit, cursor=cursor)

    def unfinished(self) -> list[RunRecord]:
        """All runs that no coordinator has reported as ended, oldest first."""
        with self._log.request("unfinished"):
            return self._store.unfinished()
