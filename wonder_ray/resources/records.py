"""What the registry hands out and takes in: plain records, no SQL.

>>> StartRequest(workflow_name="crawl", input=b'{"site":"a"}', key="crawl-1").workspace_id
'default'
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wonder_ray.state import TERMINAL_RUN, RunStatus

DEFAULT_WORKSPACE: Final = "default"
DEFAULT_PROJECT: Final = "default"
LATEST: Final = "latest"
"""The alias of the newest run, wherever a run id is taken from a user, and of the newest version of a workflow."""


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


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, newest first, and the cursor that continues after them (None at the end)."""

    runs: list[RunRecord]
    cursor: str | None
