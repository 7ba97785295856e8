"""Replaying: the facts of a recorded history, told turn by turn to today's planners, must yield the recorded events.

The facts are taken from the events themselves, and so is how much was dispatched: a history needs nothing beside it but its
definition. That makes every recorded run a test of the planners, whoever recorded it and when.

>>> from wonder_ray.definitions.graph import compile_graph
>>> from wonder_ray.definitions.models import ComputeNode, WorkflowDefinition
>>> graph = compile_graph(WorkflowDefinition(name="one", nodes=(ComputeNode(id="a"),)))
>>> replay(graph, "run_x", []).equal
True
"""

from wonder_ray.replay.comparing import plain_row, state_differences, stored_differences
from wonder_ray.replay.turns import Difference, Replay, replay

__all__ = ["Difference", "Replay", "plain_row", "replay", "state_differences", "stored_differences"]
