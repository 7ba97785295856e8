"""What a coordinator and an executor say to each other: plain records, encoded as MessagePack.

>>> spec = TaskSpec(
...     run_id="run_1", workflow_name="crawl", node_id="fetch", epoch=1, action=ActionRef("fetch", "crawl:fetch"), storage="/data"
... )
>>> decode_task(encode_task(spec, [Call("t_1", 1, "run_1/t_1", b"{}")]))[1][0].token_id
't_1'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT_BYTES_MAX = 2 * 1024 * 1024

ErrorKind = Literal["user", "result", "code", "lost", "timeout", "oom", "node", "cancelled"]
"""Whose fault a failure is, which is what the coordinator's budgets go by.

`user`: the action raised (or could not be called with this input). `result`: it returned what is no JSON, or too much of
it. `code`: its bundle, module or environment could not be loaded. `lost`: its worker died. `oom`: its worker was killed
for its memory. `node`: its node is gone, or no node can take the task. `timeout`, `cancelled`: it was stopped.
"""


class ActionRef(msgspec.Struct, frozen=True, array_like=True):
    """Which function to call: `target` in a module of the bundle (or an installed one), or `name` in the bundle's pickles."""

    name: str
    target: str | None = None
    pickled: bool = False

    @classmethod
    def parse(cls, text: str) -> ActionRef:
        """The reference that a definition's `action` field writes: 'module:qualname', or the name of a pickled action.

        >>> ActionRef.parse("crawl:fetch")
        ActionRef(name='fetch', target='crawl:fetch', pickled=False)
        """
        if ":" not in text:
            return cls(text, None, pickled=True)
        return cls(text.rpartition(":")[2], text, pickled=False)

    def __str__(self) -> str:
        return self.name if self.target is None else self.target


class StepSpec(msgspec.Struct, frozen=True):
    """One action of a `steps` node, with its expressions (CEL) over the node's own `input`, `state` and `output`."""

    name: str
    action: ActionRef
    input: dict[str, str] = {}
    output: dict[str, str] = {}
    when: str | None = None
    on_failure: Literal["abort", "retry", "continue"] = "abort"
    max_attempts: int = 1


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one Ray task have in common: exactly one of `action` and `steps` is set."""

    run_id: str
    workflow_name: str
    node_id: str
    epoch: int
    """The dispatch epoch, told to user code for information and returned with each outcome."""
    action: ActionRef | None = None
    steps: list[StepSpec] | None = None
    bundle: str | None = None
    """The sha256 of the code bundle; None when every action is importable where the executor runs."""
    storage: str
    """The storage folder, where bundles are read."""
    result_bytes_max: int = RESULT_BYTES_MAX
    call: Literal["kwargs", "single"] = "kwargs"
    """Whether an input is a JSON object of keyword arguments, or one value that is the only argument."""
    workspace_id: str | None = None
    project_id: str | None = None
    """Whose run it is, which lines of the log are marked with."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One attempt of one token."""

    token_id: str
    attempt: int
    idempotency_key: str
    input: bytes
    """JSON: an object of keyword arguments, or any value (`TaskSpec.call`)."""
    node_id: str = ""
    """The token's node where it is not `TaskSpec.node_id`: nodes that run the same action share tasks."""


class ErrorInfo(msgspec.Struct, frozen=True):
    """Why an attempt failed."""

    type: str
    """What `on="failed[type]"` and retry rules match: the exception's class name, or the type of an `ActionError`."""
    message: str
    retryable: bool
    """False when another attempt cannot succeed, whatever the retry policy says."""
    kind: ErrorKind = "user"
    stack: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one call; exactly one of `result` (JSON) and `error` is set."""

    token_id: str
    attempt: int
    epoch: int
    result: bytes | None
    error: ErrorInfo | None
    started_us: int
    duration_ms: float
    tokens: int | None = None
    cost_usd: float | None = None
    pid: int = 0


class _Task(msgspec.Struct, frozen=True, array_like=True):
    spec: TaskSpec
    calls: list[Call]


_encoder = msgspec.msgpack.Encoder()
_task_decoder = msgspec.msgpack.Decoder(_Task)
_outcomes_decoder = msgspec.msgpack.Decoder(list[Outcome])


def encode_task(spec: TaskSpec, calls: Sequence[Call]) -> bytes:
    """A task as it travels to its executor."""
    return _encoder.encode(_Task(spec, list(calls)))


def decode_task(data: bytes) -> tuple[TaskSpec, list[Call]]:
    """What `encode_task` encoded."""
    task = _task_decoder.decode(data)
    return task.spec, task.calls


def encode_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """The outcomes as they travel to the coordinator."""
    return _encoder.encode(list(outcomes))


def decode_outcomes(data: bytes) -> list[Outcome]:
    """What `encode_outcomes` encoded, in the order of the calls."""
    return _outcomes_decoder.decode(data)
