"""The Ray task around the runner: submitting calls, and reading what Ray says about lost ones.

>>> ref = submit(spec, calls, TaskOptions(num_cpus=1))  # doctest: +SKIP
>>> decode_outcomes(ray.get(ref))  # doctest: +SKIP
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import ray
from ray import exceptions

from wonder_ray.bundles.loader import bundle_loader
from wonder_ray.errors import CodeBundleError, SecretError, ServiceUnavailableError, WonderError
from wonder_ray.executor.protocol import (
    Call,
    ErrorInfo,
    ErrorKind,
    TaskSpec,
    decode_outcomes,
    decode_task,
    encode_outcomes,
    encode_task,
)
from wonder_ray.executor.runner import run_calls
from wonder_ray.executor.secrets import Vault
from wonder_ray.ids import NAMESPACE
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from wonder_ray.executor.secrets import Granted

FETCH_SECONDS: Final = 60.0
SECRET_SECONDS: Final = 30.0
"""How long a task waits for the registry when it asks for a secret."""
_SECRET_PAUSE_S: Final = 0.5
__all__ = ["TaskOptions", "decode_outcomes", "explain_loss", "submit"]


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a task asks of Ray; names and units are Ray's own. Empty means Ray's default."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    """Bytes."""
    resources: dict[str, float] | None = None
    label_selector: dict[str, str] | None = None
    runtime_env: dict[str, Any] | None = None

    def as_ray(self) -> dict[str, Any]:
        """The options for `.options(...)`, only those that are set.

        >>> TaskOptions(num_cpus=2, resources={}).as_ray()
        {'num_cpus': 2}
        """
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None and value != {}}


def submit(spec: TaskSpec, calls: Sequence[Call], options: TaskOptions | Mapping[str, Any] | None = None) -> ray.ObjectRef:
    """Start one Ray task for these calls; its value, read by `decode_outcomes`, is one outcome per call.

    Ray itself never tries again: `max_retries=0` also switches off its separate out-of-memory retries. The task fails as a
    whole when its process dies, is cancelled or cannot start; `explain_loss` reads those exceptions.

    Example:
        >>> ref = submit(spec, calls, {"num_cpus": 1, "label_selector": {"disk": "nvme"}})  # doctest: +SKIP
    """
    asked = options.as_ray() if isinstance(options, TaskOptions) else dict(options or {})
    prepared = _prepared(f"wonder:{spec.workflow_name}.{spec.node_id}", msgspec.json.encode(asked, order="sorted"))
    return prepared.remote(encode_task(spec, calls))


@lru_cache(maxsize=1024)
def _prepared(name: str, options: bytes) -> Any:
    """The remote function with its options; Ray takes longer to read those than to submit the task."""
    return run_task.options(name=name, **msgspec.json.decode(options))


@ray.remote(max_retries=0, retry_exceptions=False)
def run_task(data: bytes) -> bytes:
    """What runs in a worker: `encode_task` in, `encode_outcomes` out."""
    spec, calls = decode_task(data)
    vault = Vault(partial(_ask_for_secret, spec.run_id), _redactor())
    with _interruptible() as interrupted:
        outcomes = run_calls(
            spec,
            calls,
            loader=bundle_loader(spec.storage, _fetch_bundle),
            log=_worker_log(),
            interrupted=interrupted,
            vault=vault,
        )
    return encode_outcomes(outcomes)


def _fetch_bundle(sha256: str) -> bytes:
    """A bundle from the node that has the storage folder, which is not this one."""
    try:
        data: bytes = ray.get(ray.get_actor("directory", namespace=NAMESPACE).read_bundle.remote(sha256), timeout=FETCH_SECONDS)
    except (ValueError, exceptions.RayError) as error:
        cause = getattr(error, "cause", None)
        said = str(cause if isinstance(cause, CodeBundleError) else error).strip().partition("\n")[0]
        raise CodeBundleError(f"code bundle {sha256[:12]} is not on this node, and could not be fetched: {said}") from None
    return data


_KINDS: tuple[tuple[type[BaseException], ErrorKind, bool], ...] = (
    # the exception, the kind, whether another attempt may succeed; the first that fits
    (exceptions.TaskCancelledError, "cancelled", False),
    (exceptions.OutOfMemoryError, "oom", True),
    (exceptions.RuntimeEnvSetupError, "code", False),
    (exceptions.NodeDiedError, "node", True),
    (exceptions.LocalRayletDiedError, "node", True),
    (exceptions.TaskUnschedulableError, "node", True),
    (exceptions.TaskPlacementGroupRemoved, "node", True),
    (exceptions.OutOfDiskError, "node", True),
    (exceptions.ObjectStoreFullError, "node", True),
    (exceptions.WorkerCrashedError, "lost", True),
    (exceptions.ObjectLostError, "lost", True),
    (exceptions.UnserializableException, "code", False),
)

_MEANING: Final[MappingProxyType[type[BaseException], str]] = MappingProxyType(
    {
        exceptions.WorkerCrashedError: "the worker process died while it ran this: a crash in native code, os._exit, a signal, "
        "or a machine short of memory; what it printed last is in `wonder logs RUN`"
    }
)
"""In other words than Ray's, which point to files of a cluster that may be gone."""


def explain_loss(error: BaseException) -> ErrorInfo:
    """Why there is no outcome at all: what `ray.get` of a submitted task raised, as the error of each of its calls.

    >>> explain_loss(exceptions.WorkerCrashedError()).kind
    'lost'
    """
    cause = _ray_cause(error)
    for kind_of, kind, retryable in _KINDS:
        if isinstance(cause, kind_of):
            return ErrorInfo(type(cause).__name__, _MEANING.get(kind_of) or _said(cause), retryable, kind)
    if isinstance(cause, exceptions.RayTaskError):  # raised around the runner: wonder-ray or its imports, not user code
        return ErrorInfo(
            type(cause.cause or cause).__name__, _said(cause), retryable=False, kind="code", stack=str(cause)[-16_000:]
        )
    return ErrorInfo(type(cause).__name__, _said(cause), retryable=True, kind="lost")


def _ray_cause(error: BaseException) -> BaseException:
    """A cancellation or loss inside the worker arrives wrapped as a task error."""
    inner: BaseException | None = getattr(error, "cause", None)
    if inner is not None and isinstance(error, exceptions.RayTaskError) and isinstance(inner, exceptions.RayError):
        return inner
    return error


def _said(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 4_000 else f"{text[:2_000]} ... {text[-2_000:]}"  # noqa: PLR2004 - both ends say something


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Learn that Ray cancels this task: it does so by a SIGINT, whose KeyboardInterrupt user code could have raised itself."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        received.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@cache
def _worker_log() -> LogClient:
    """The log client of this process; the actor is looked up when lines are sent, and need not be there."""
    return LogClient(remote_sender(), "executor", hide=_redactor().text)


@cache
def _redactor() -> Redactor:
    """Of this process: a later task may still hold what an earlier one has revealed."""
    return Redactor()


def _ask_for_secret(run_id: str, name: str) -> Granted:
    """What the registry says of a secret; it may be about to be started again."""
    deadline = time.monotonic() + SECRET_SECONDS
    while True:
        try:
            registry = ray.get_actor("resources", namespace=NAMESPACE)
            granted: Granted = ray.get(registry.grant_secret.remote(run_id, name), timeout=SECRET_SECONDS)
            return granted
        except (ValueError, exceptions.RayError) as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, WonderError) and not isinstance(cause, ServiceUnavailableError):
                raise cause from None
            if time.monotonic() > deadline:
                passing = SecretError(f"secret {name!r}: the registry did not answer for {SECRET_SECONDS:.0f} s: {error}")
                passing.retryable = True
                raise passing from None
        time.sleep(_SECRET_PAUSE_S)
