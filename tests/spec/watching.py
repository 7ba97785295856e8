"""A run on the core that notes what each single decision and each single fact came to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.core import CoreRun
from wonder_ray.coordinator.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.coordinator.traces import Tracer
    from wonder_ray.decisions import Decision
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.planning import facts


class Step(NamedTuple):
    """One decision that was executed, or one fact that was recorded."""

    what: str
    """The decision's name, or the fact's class."""
    decision: Decision | None
    events: tuple[str, ...]
    """Types of the workflow events it yielded, in order."""
    traces: tuple[str, ...]
    """Types of the trace events since the step before, without those of planning (`decision.*`)."""


class WatchedMachine(Machine):
    """A machine that executes decisions one by one, and notes what comes of each."""

    def watch(self, tracer: Tracer) -> None:
        self.steps: list[Step] = []
        self._watched = tracer
        self._traced = 0

    def _execute(self, decisions: list[Decision], cause: str) -> None:
        for decision in decisions:
            with self._noting(name_of(decision), decision):
                super()._execute([decision], cause)

    def _observe(self, fact: facts.Fact) -> bool:
        with self._noting(type(fact).__name__, None):
            return super()._observe(fact)

    @contextmanager
    def _noting(self, what: str, decision: Decision | None) -> Iterator[None]:
        before = len(self._events)
        yield
        rows = types([line for number, line in self._watched._rows if number > self._traced])
        self._traced = self._watched._sequence
        events = types([line for _, line in self._events[before:]])
        self.steps.append(Step(what, decision, events, tuple(name for name in rows if not name.startswith("decision."))))


class WatchedRun(CoreRun):
    """A core run with traces on, and its steps."""

    def __init__(self, definition: WorkflowDefinition, actions: Any = None, **how: Any) -> None:
        super().__init__(definition, actions, trace=True, **how)
        assert self.tracer is not None
        watched = WatchedMachine(self.graph, self.state, epoch=1, tracer=self.tracer)
        watched.watch(self.tracer)
        self.machine = watched

    @property
    def steps(self) -> list[Step]:
        """Everything so far, in order."""
        assert isinstance(self.machine, WatchedMachine)
        return self.machine.steps

    def of_kind(self, what: str) -> list[Step]:
        """The steps of one decision or fact."""
        return [step for step in self.steps if step.what == what]


def types(lines: list[bytes]) -> tuple[str, ...]:
    """The event types of lines."""
    return tuple(msgspec.json.decode(line)["event_type"] for line in lines)


def name_of(decision: Decision) -> str:
    """A decision's name: `CREATE_TOKEN`."""
    return str(type(decision).__struct_config__.tag)
