"""Starting runs and finding them, over HTTP."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from wonder_ray.clock import SystemClock
from wonder_ray.errors import AuthenticationError, DefinitionError, NotFoundError, RunNotFoundError, WonderError
from wonder_ray.given import encoded_input
from wonder_ray.ids import RUN_ID_PREFIX_PATTERN, new_run_id
from wonder_ray.registration import register
from wonder_ray.remote.administration import RemoteAdministration
from wonder_ray.remote.connection import Connection, segment
from wonder_ray.remote.events import RemoteEvents
from wonder_ray.remote.lines import found_lines
from wonder_ray.remote.records import run_record
from wonder_ray.remote.runs import RemoteRun
from wonder_ray.remote.transport import UrlTransport
from wonder_ray.resources.records import DEFAULT_PROJECT
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.logs.record import Level, LogLine, Service
    from wonder_ray.remote.transport import Transport
    from wonder_ray.resources.records import RunRecord

API_KEY: Final = "WONDER_API_KEY"
WORKSPACE: Final = "WONDER_WORKSPACE"
PAGE: Final = 1_000
DEFAULT_LIMIT: Final = 50


_CODE: Final = (
    "code does not travel over HTTP: register the very same files once where the cluster is, with `wonder run FILE --address A` "
    "or `client.register(flow)` there, or start a workflow that is registered by its name"
)


class Place(NamedTuple):
    """Where the client keeps things: nowhere, they are at the server."""

    root: str
    """The server's URL."""


def is_url(address: str | None) -> bool:
    """Whether an address is one of the API over HTTP, and not of a Ray.

    >>> is_url("http://127.0.0.1:8000"), is_url("127.0.0.1:6379")
    (True, False)
    """
    return address is not None and address.startswith(("http://", "https://"))


def connect(
    url: str,
    *,
    api_key: str | None = None,
    workspace: str | None = None,
    project: str = DEFAULT_PROJECT,
    transport: Transport | None = None,
    on_silence: Callable[[str], None] | None = None,
) -> RemoteClient:
    """A client of the API at `url`; nothing is sent yet.

    Args:
        url: `http://host:port`.
        api_key: By default `$WONDER_API_KEY`.
        workspace: The workspace that is meant; by default `$WONDER_WORKSPACE`, else the one of the API key.
        project: The part of the workspace that runs are started in.
        transport: How requests travel, instead of over the network.
        on_silence: Told once that the server does not answer and is asked again, which goes on for a minute.

    Raises:
        AuthenticationError: There is no API key.
    """
    key = api_key or os.environ.get(API_KEY)
    if not key:
        raise AuthenticationError(f"{url} wants an API key: api_key=..., or {API_KEY}; `wonder key create` makes one")
    api = Connection(transport or UrlTransport(url), key, workspace or os.environ.get(WORKSPACE), on_silence=on_silence)
    return RemoteClient(url, api, project=project)


class RemoteClient:
    """Starts runs and finds them; the same methods as of a `Client` on Ray, with the same meaning and errors.

    Attributes:
        api: The calls of the API.
        project: The part of the workspace that runs are started in.
        events: The events of all runs in SQL: `events.sql(...)`, `events.report(...)`.
        storage: `storage.root` is the server's URL.
    """

    def __init__(self, url: str, api: Connection, *, project: str = DEFAULT_PROJECT) -> None:
        self.api = api
        self.project = project
        self.storage = Place(url)
        self.events = RemoteEvents(api)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server; runs go on."""

    def start(
        self,
        flow: Workflow | WorkflowDefinition | str,
        input: object = None,  # noqa: A002 - the field's standard name
        *,
        key: str | None = None,
        trace: bool = False,
        labels: Mapping[str, str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> RemoteRun:
        """Start a run; when this returns, the run is durable and will be carried out. See `Client.start`.

        However often the connection breaks, and with or without a `key`, exactly one run is started.

        Raises:
            WonderError: `runtime_env` is given, which brings code along; or the workflow's code is not registered at the server.
        """
        _refuse_environment(runtime_env)
        name, version = (flow, None) if isinstance(flow, str) else (flow.name, self.register(flow))
        body = {
            "workflow": name,
            "version": version,
            "input": decode(encoded_input(name, input)),
            "labels": dict(labels or {}),
            "trace": trace,
            "project": self.project,
            "run_id": new_run_id(SystemClock().now_us()),  # made here: a call that is repeated finds the run it has created
        }
        told = self.api.post("/v1/runs", body, key=key)
        return RemoteRun(self, told["run_id"])

    def register(self, flow: Workflow | WorkflowDefinition, runtime_env: Mapping[str, Any] | None = None) -> str:
        """Register a workflow; its version. Its code stays here: the same code must have been registered on the cluster.

        Raises:
            DefinitionError: That code is not there.
        """
        _refuse_environment(runtime_env)

        def put(definition: bytes) -> str:
            told = self.api.post("/v1/definitions", decode(definition))
            return str(told["version"])

        with tempfile.TemporaryDirectory(prefix="wonder-code-") as folder:
            try:
                return register(flow, put, Path(folder))
            except NotFoundError as error:
                raise DefinitionError(f"{error}; {_CODE}") from None

    def run(self, ref: str) -> RemoteRun:
        """A run by its id, a unique beginning of it, or `latest`."""
        return RemoteRun(self, self.find(ref).run_id)

    def find(self, ref: str) -> RunRecord:
        """The record of a run by its id, a unique beginning of it, or `latest`."""
        if not RUN_ID_PREFIX_PATTERN.fullmatch(ref):
            raise RunNotFoundError(f"no run {ref[:80]!r}: see `wonder runs` for those there are")
        return run_record(self.api.get(f"/v1/runs/{segment(ref)}"))

    def runs(self, *, limit: int = DEFAULT_LIMIT, **filters: Any) -> list[RunRecord]:
        """Runs, newest first; filters: `status` (one or several), `workflow`, `project`, `parent`, `limit`."""
        return [record for record, _ in self.coordinated(limit=limit, **filters)]

    def coordinated(self, *, limit: int = DEFAULT_LIMIT, **filters: Any) -> list[tuple[RunRecord, bool]]:
        """As `runs`, each with whether its coordinator lives."""
        found: list[tuple[RunRecord, bool]] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self.api.get("/v1/runs", limit=min(PAGE, limit - len(found)), cursor=cursor, **filters)
            found += [(run_record(told), told["coordinator_alive"]) for told in page["runs"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        return found

    def logs(  # noqa: PLR0913 - each argument is an optional filter
        self,
        run: str | None = None,
        *,
        service: Service | None = None,
        level: Level | None = None,
        event_type: str | None = None,
        node: str | None = None,
        text: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        limit: int = 1_000,
        archive: bool = False,
    ) -> list[LogLine]:
        """The newest lines of the log that fit every filter, oldest first; see `Client.logs`.

        With an API key of one workspace its lines alone, with one for all workspaces those of the services, too.
        """
        filters = {
            "run": run,
            "service": service,
            "level": level,
            "event_type": event_type,
            "node": node,
            "text": text,
            "since_us": since_us,
            "until_us": until_us,
            "archive": archive or None,
        }
        return found_lines(self.api, limit, **filters).lines

    @property
    def admin(self) -> RemoteAdministration:
        """Workspaces, projects, API keys and secrets."""
        return RemoteAdministration(self.api)

    def flush(self) -> None:
        """Nothing: the server puts events into files by itself, a run's at its end."""


def _refuse_environment(runtime_env: Mapping[str, Any] | None) -> None:
    if runtime_env:
        raise WonderError("a runtime environment brings code along, which is not taken over HTTP: register the workflow there")
