"""What requests hold and responses tell, with examples: the OpenAPI document is made of it.

>>> StartBody.model_validate({"workflow": "crawl", "input": {"site": "a"}}).labels
{}
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from wonder_ray.ids import RUN_ID_PATTERN

Name = Annotated[str, Field(min_length=1, max_length=128)]
Reason = Annotated[str, Field(max_length=2_000)]
RUN_EXAMPLE = "run_0192f0c1a2b3_0123456789abcdef"


class _Body(BaseModel):
    """Nothing that is not known is taken."""

    model_config = ConfigDict(extra="forbid")


RunId = Annotated[
    str | None,
    Field(
        pattern=f"^{RUN_ID_PATTERN.pattern}$",
        description="Made by you, so that a repetition finds the run where there is no `Idempotency-Key`.",
        examples=[RUN_EXAMPLE],
    ),
]


class StartBody(_Body):
    """What run is wanted."""

    workflow: Annotated[Name, Field(examples=["crawl"])]
    version: Annotated[str | None, Field(max_length=64, description="By default the one that was registered last.")] = None
    input: Annotated[Any, Field(examples=[{"site": "example.org"}])] = None
    labels: Annotated[dict[str, str], Field(max_length=64, examples=[{"team": "data"}])] = Field(default_factory=dict)
    trace: Annotated[bool, Field(description="Whether to record trace events.")] = False
    project: Name = "default"
    run_id: RunId = None


class ReasonBody(_Body):
    """Why."""

    reason: Annotated[Reason, Field(examples=["the site is down"])] = ""


class CancelBody(ReasonBody):
    """Why, and whether the work that was done is taken back."""

    compensate: Annotated[bool, Field(description="Whether to take back the work of completed nodes that have an `undo`.")] = (
        False
    )


class SignalBody(_Body):
    """A signal for whoever waits for it in the run."""

    name: Annotated[Name, Field(examples=["paid"])]
    payload: Annotated[Any, Field(examples=[{"id": "p-17"}])] = None


class AnswerBody(_Body):
    """An answer to a gate."""

    gate: Annotated[Name, Field(examples=["approve"], description="Its node; where several are open there, the token of one.")]
    answer: Annotated[Any, Field(examples=[{"approved": True}])] = None
    by: Annotated[str | None, Field(max_length=256, examples=["ann"])] = None


class UpdateBody(_Body):
    """A change of the run's state."""

    changes: Annotated[dict[str, Any], Field(min_length=1, examples=[{"state.limit": 5}])]


class BeginBody(_Body):
    """What the new run is to be."""

    set: Annotated[dict[str, Any], Field(examples=[{"state.limit": 5}])] = Field(default_factory=dict)
    labels: Annotated[dict[str, str] | None, Field(max_length=64)] = None
    version: Annotated[
        str | None,
        Field(max_length=64, description="Of the same workflow, such as one whose code was mended; by default as it was."),
    ] = None
    run_id: RunId = None


class ForkBody(BeginBody):
    """Where the new run begins."""

    at: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="An event's number; by default the last that it can be.")] = (
        None
    )


class RestartBody(BeginBody):
    """Which node is done again, with all that comes after it."""

    node: Annotated[Name, Field(examples=["train"])]


class GroupBody(ReasonBody):
    """Which group is meant."""

    group: Annotated[Name, Field(examples=["pages"], description="Its name; where several of it are open, the id of one.")]


class CloseGroupBody(_Body):
    """Which group is meant."""

    group: Annotated[Name, Field(examples=["pages"], description="Its name; where several of it are open, the id of one.")]


class MembersBody(CloseGroupBody):
    """Which group is meant, and whom it gets."""

    items: Annotated[list[Any], Field(min_length=1, max_length=10_000, examples=[[{"page": 7}]])]


class QueryBody(_Body):
    """A question about the run's state, in CEL."""

    expression: Annotated[str, Field(min_length=1, max_length=10_000, examples=["size(state.pages)"])]


class _View(BaseModel):
    """A part of a response."""


class RunSummary(_View):
    """A run in short. Times are microseconds since 1970, UTC."""

    run_id: Annotated[str, Field(examples=[RUN_EXAMPLE])]
    workspace_id: str
    project_id: str
    key: str | None
    workflow_name: str
    workflow_version: str
    root_run_id: str
    parent_run_id: str | None
    parent_token_id: Annotated[str | None, Field(description="The token of the parent that waits for it.")]
    depth: Annotated[int, Field(description="How many runs it is below its root.")]
    labels: dict[str, str]
    trace: bool
    created_us: int
    status: Annotated[str, Field(examples=["completed"])]
    started_us: int | None
    ended_us: int | None
    duration_ms: float | None
    events: int | None
    tokens: int | None


class RunListed(RunSummary):
    """A run in a list."""

    coordinator_alive: Annotated[bool, Field(description="Whether its coordinator's process lives.")]


class RunView(RunSummary):
    """A run, with what went in and came out."""

    input: Any
    output: Any
    error: dict[str, Any] | None
    fork: dict[str, Any] | None


class RunDetail(RunView):
    """A run, and how it stands right now."""

    coordinator_alive: Annotated[bool, Field(description="Whether its coordinator's process lives.")]
    live: Annotated[bool, Field(description="Whether its coordinator has told it; else it is what was last reported.")]
    nodes: Annotated[dict[str, dict[str, int]], Field(description="Node -> token status -> tokens, of a live run.")]
    waiting: Annotated[list[dict[str, Any]], Field(description="The first of what a live run waits for.")]
    in_flight: Annotated[int, Field(description="Tasks under way.")] = 0
    undos: Annotated[int, Field(description="Completed nodes whose work can be taken back.")] = 0
    epoch: int = 0
    turn: int = 0
    children: Annotated[list[dict[str, Any]] | None, Field(description="Its child runs; with `details`.")] = None
    pause_reason: str | None = None
    ending: Annotated[dict[str, Any] | None, Field(description="How it will end, where that is decided; with `details`.")] = None


class RunList(_View):
    """Some runs, newest first."""

    runs: list[RunListed]
    cursor: Annotated[str | None, Field(description="Continues after them; null at the end.")]


class Rows(_View):
    """Some rows, in sequence."""

    rows: list[dict[str, Any]]
    last: Annotated[int, Field(description="The sequence number to go on after.")]


class Lines(_View):
    """Some lines of the log, oldest first."""

    lines: list[dict[str, Any]]


class FoundLines(Lines):
    """Lines of the log, and what was not looked at."""

    skipped: Annotated[int, Field(description="Files of the log that cannot be read, and were done without.")]


class Table(_View):
    """Rows of a table. Times are RFC 3339 texts, UTC."""

    columns: Annotated[list[str], Field(examples=[["node_id", "attempts"]])]
    rows: Annotated[list[dict[str, Any]], Field(examples=[[{"node_id": "train", "attempts": 12}]])]


class Verdict(_View):
    """What came of a replay."""

    equal: Annotated[bool, Field(description="Whether everything came out as recorded.")]
    run_id: Annotated[str, Field(examples=[RUN_EXAMPLE])]
    turns: int
    events: int
    differences: Annotated[list[dict[str, Any]], Field(description="One per turn that differs: what was recorded, and replayed.")]
    state: Annotated[
        list[str] | None, Field(description="Where the stored state differs from what the events fold to; null without one.")
    ]


class Gates(_View):
    """The gates that wait for an answer."""

    gates: list[dict[str, Any]]


class Items(_View):
    """Some records."""

    items: list[dict[str, Any]]


class Value(_View):
    """The value of an expression."""

    value: Any


class Registered(_View):
    """A version of a workflow that is registered."""

    name: str
    version: str


class Removed(_View):
    """Versions of a workflow that are there no more."""

    name: str
    versions: list[str]


class DefinitionView(Registered):
    """A version of a workflow, with its content."""

    bundle: str | None
    created_us: int
    definition: dict[str, Any]


class DefinitionList(_View):
    """Some versions of workflows, newest first."""

    definitions: list[dict[str, Any]]
    cursor: str | None


class Health(_View):
    """That it is well."""

    status: Annotated[str, Field(examples=["ok"])]
