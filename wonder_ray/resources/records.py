"""What the registry hands out and takes in: plain records, no SQL.

>>> StartRequest(workflow_name="crawl", input=b'{"site":"a"}', key="crawl-1").workspace_id
'default'
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wonder_ray.errors import RunFailedError, WonderError
from wonder_ray.state import TERMINAL_RUN, RunStatus
from wonder_ray.values import decode

DEFAULT_WORKSPACE: Final = "default"
DEFAULT_PROJECT: Final = "default"
LATEST: Final = "latest"
"""The alias of the newest run, wherever a run id is taken from a user, and of the newest version of a workflow."""


class WorkspaceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace: what runs, definitions, API keys and secrets belong to, apart from those of others."""

    workspace_id: str
    description: str = ""
    rate_per_s: float | None = None
    """Requests per second that all its API keys may make together; None is no limit."""
    burst: float | None = None
    """How many may come at once after a pause; by default a second's worth."""
    created_us: int


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a workspace that runs can be assigned to."""

    workspace_id: str
    project_id: str
    description: str = ""
    created_us: int


class BundleContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a code bundle says about itself, as far as definitions can name it."""

    targets: list[str] = []
    """`module:qualname` of actions that are reached by import."""
    pickles: list[str] = []
    """Names of actions that travel by value."""
    files: list[str] = []
    """Paths of its source files."""
    size_bytes: int = 0


class BundleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A code bundle that definitions of a workspace may name."""

    workspace_id: str
    sha256: str
    content: BundleContent
    created_us: int


class DefinitionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a workflow."""

    workspace_id: str
    name: str
    version: str
    """sha256 (hex) of `definition`."""
    definition: bytes
    """The file form in canonical JSON (keys sorted)."""
    bundle: str | None
    """sha256 of the code bundle that holds its actions."""
    created_us: int


class DefinitionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a workflow, without its content."""

    workspace_id: str
    name: str
    version: str
    bundle: str | None
    created_us: int
    size_bytes: int


class DefinitionPage(msgspec.Struct, frozen=True):
    """Some versions, newest first, and the cursor that continues after them (None at the end)."""

    definitions: list[DefinitionSummary]
    cursor: str | None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as the registry knows it.

    That it exists, its `epoch` and its `placement` are the truth; from `status` on down it is a projection of what the
    run's coordinator last reported, and decides nothing.
    """

    run_id: str
    workspace_id: str
    project_id: str
    key: str | None
    workflow_name: str
    workflow_version: str
    root_run_id: str
    parent_run_id: str | None
    parent_token_id: str | None = None
    """The parent's token that waits for it."""
    depth: int = 0
    """How many runs it is nested in."""
    fork: bytes | None = None
    """JSON: `{"run_id", "sequence", "changes"}`; it started from that run's state at that event. None: from its beginning."""
    input: bytes
    """JSON, as it was given."""
    trace: bool
    labels: dict[str, str]
    created_us: int
    epoch: int
    """The newest epoch that a coordinator took; 0 before the first."""
    placement: dict[str, Any] | None
    """Where its coordinator lives: `{"kind": "dedicated", "node": ..., "host": ..., "pid": ...}`; None when nowhere."""
    status: RunStatus
    started_us: int | None = None
    ended_us: int | None = None
    output: bytes | None = None
    """JSON."""
    error: bytes | None = None
    """JSON: `{"type", "message", "kind", "node_id"}`."""
    tokens: int | None = None
    events: int | None = None
    duration_ms: float | None = None

    @property
    def ended(self) -> bool:
        """Whether its coordinator has reported a terminal status."""
        return self.status in TERMINAL_RUN

    def result(self) -> Any:
        """The output of a run that has ended; a `RunFailedError` when it did not complete."""
        if self.status != RunStatus.COMPLETED:
            error = None if self.error is None else decode(self.error)
            what = "" if error is None else f": {error['type']}: {error['message']}"
            told = f"(see `wonder events {self.run_id}` and `wonder logs {self.run_id}`)"
            msg = f"run {self.run_id} {self.status}{what} {told}"
            raise RunFailedError(msg, run_id=self.run_id, status=str(self.status), error=error)
        return None if self.output is None else decode(self.output)


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to start a run.

    Who repeats a start must repeat it with the same `run_id` (from `ids.new_run_id`) or the same `key`: either makes
    the repetition find the first run instead of creating a second one.
    """

    workflow_name: str
    workflow_version: str | None = None
    """None (or `latest`) is the latest version; a repetition then matches whatever version the first start found."""
    input: bytes = b"null"
    """JSON."""
    key: str | None = None
    run_id: str | None = None
    workspace_id: str = DEFAULT_WORKSPACE
    project_id: str = DEFAULT_PROJECT
    root_run_id: str | None = None
    """None: the run is its own root."""
    parent_run_id: str | None = None
    parent_token_id: str | None = None
    depth: int = 0
    fork: bytes | None = None
    """See `RunRecord`, as the two before."""
    trace: bool = False
    labels: dict[str, str] = {}


class RunProjection(msgspec.Struct, frozen=True, kw_only=True):
    """What a coordinator reports about its run; None leaves the stored value as it is."""

    status: RunStatus | None = None
    started_us: int | None = None
    ended_us: int | None = None
    output: bytes | None = None
    error: bytes | None = None
    tokens: int | None = None
    events: int | None = None
    """Sequence number of its last event: of two reports under one epoch, the one with fewer events is the older."""
    duration_ms: float | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs of a workspace are meant: those that every given field fits.

    >>> RunFilter(statuses=("failed", "timed_out"), labels={"team": "x"}).workspace_id
    'default'
    """

    workspace_id: str = DEFAULT_WORKSPACE
    project_id: str | None = None
    workflow: str | None = None
    version: str | None = None
    statuses: tuple[str, ...] = ()
    """Empty is every status."""
    labels: dict[str, str] = {}
    """Labels that the run has, all of them."""
    parent_run_id: str | None = None
    """The children of this run."""
    root_run_id: str | None = None
    """This run and all that descend from it."""
    created_after_us: int | None = None
    created_before_us: int | None = None
    """Microseconds since the epoch; both excluded."""

    @classmethod
    def of(cls, *, status: str | None = None, **fields: Any) -> RunFilter:
        """A filter of these fields; a `WonderError` when there is none of such a name.

        >>> RunFilter.of(status="failed").statuses
        ('failed',)
        """
        if unknown := sorted(set(fields) - set(cls.__struct_fields__)):
            raise WonderError(f"runs have no {', '.join(unknown)} to be listed by: use {', '.join(cls.__struct_fields__)}")
        return cls(**fields | ({} if status is None else {"statuses": (status,)}))


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, newest first, and the cursor that continues after them (None at the end)."""

    runs: list[RunRecord]
    cursor: str | None
