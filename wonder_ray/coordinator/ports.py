"""What a coordinator needs of the outside, as interfaces with a real and a simulated twin.

Answers never come back as return values that block: they are posted to the coordinator's mailbox by the callbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wonder_ray.events.wire import Ack, EventBatch
    from wonder_ray.executor.protocol import Call, ErrorInfo, Outcome, TaskSpec
    from wonder_ray.state import Child

    OnOutcomes = Callable[[list[Outcome]], None]
    OnLoss = Callable[[ErrorInfo], None]


class ExecutorGateway(Protocol):
    """Where tasks are sent."""

    def slots(self, resources: Mapping[str, Any]) -> int:
        """How many tasks with these resources the cluster runs at once (at least 1)."""
        ...

    def submit(
        self, spec: TaskSpec, calls: Sequence[Call], resources: Mapping[str, Any], on_outcomes: OnOutcomes, on_loss: OnLoss
    ) -> object:
        """Start one task; exactly one of the callbacks is called once, from any thread. Returns a handle for `cancel`."""
        ...

    def cancel(self, handle: object) -> None:
        """Tell a task to stop: gently first, by force after a grace period."""
        ...


class EventSink(Protocol):
    """Where the outbox is sent."""

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        """Send one batch; exactly one of the callbacks is called once, from any thread."""
        ...

    def flush(self) -> None:
        """Ask for what has been sent to be sealed in files soon; not waited for."""
        ...


class Registry(Protocol):
    """Where a run's projection is kept."""

    def report(self, projection: Mapping[str, Any]) -> None:
        """Tell how the run stands; not waited for, and repeated when the run is opened again."""
        ...


class Children(Protocol):
    """Where child runs are started, watched and told to end."""

    def follow(self, child: Child, *, depth: int, compensate: bool) -> None:
        """See to it that a child run exists, is told to end where that is wanted, and that its end is told.

        A `ChildStarted` and at last a `ChildEnded` are posted, from any thread. It is asked again when something about the child
        has changed, and when a coordinator has opened its run anew: asking twice has no further effect.
        """
        ...


class Log(Protocol):
    """The coordinator's own log lines."""

    def info(self, event_type: str, message: str, **fields: Any) -> None:
        """Something that operators may want to know."""
        ...

    def warning(self, event_type: str, message: str, **fields: Any) -> None:
        """Something went wrong, and was coped with."""
        ...

    def error(self, event_type: str, message: str, **fields: Any) -> None:
        """Something went wrong."""
        ...
