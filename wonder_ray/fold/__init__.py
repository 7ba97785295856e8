"""Events -> state: the one place where a run's state changes, live and when a history is folded.

`evolve` applies one event; `fold` applies a history. Both are pure: the same events give the same state.

>>> from wonder_ray.workflow_events import Stamp, WorkflowStarted
>>> state = new_state("run_x")
>>> evolve(state, WorkflowStarted(input={"n": 1}, workflow_name="w", workflow_version="v"), Stamp(1, 1, 1_000, 1))
>>> state.run.status, state.run.sequence
(<RunStatus.RUNNING: 'running'>, 1)
"""

from wonder_ray.fold.changes import Changes, Folding, new_state
from wonder_ray.fold.context import target_of, write_context
from wonder_ray.fold.history import as_us, describe, evolve, fold
from wonder_ray.fold.tokens import fan_out_token_id

__all__ = [
    "Changes",
    "Folding",
    "as_us",
    "describe",
    "evolve",
    "fan_out_token_id",
    "fold",
    "new_state",
    "target_of",
    "write_context",
]
