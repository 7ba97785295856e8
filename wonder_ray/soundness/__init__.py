"""Soundness: whether a definition can get stuck, whatever its conditions say and in whatever order its tasks end.

Production planners run on a graph whose expressions are replaced by free choices, through all states that can come of it; states
that differ only in ids and values are one, and independent tasks are taken in one order only. What is found comes with a shortest
example. A definition is called sound under these assumptions:

- tasks, gates, signals, timers and child runs end some time; tasks fail only where the definition routes failures;
- conditions are true or false at will, but of `input.mode == 'a'` and `input.mode == 'b'` at most one is true, and what is asked
  of the input is answered the same throughout a run; guards come to hold some time;
- loops are taken twice, fan-outs make 0, 1 or 2 branches (more where their join counts more), and an `m` that is an expression
  is met some time.
"""

from wonder_ray.soundness.checking import STATES_MAX, check_soundness
from wonder_ray.soundness.report import Problem, Soundness

__all__ = ["STATES_MAX", "Problem", "Soundness", "check_soundness"]
