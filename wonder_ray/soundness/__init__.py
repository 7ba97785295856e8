"""Soundness: whether a definition can get stuck, whatever its conditions say and in whatever order its tasks end.

Production planners run on a graph whose expressions are replaced by free choices, through all states that can come of it; states
that differ only in ids and values are one, and independent tasks are taken in one order only. What is found comes with a shortest
example, which can be played on the core move by move (where more than 3,000 branches had to be cut, with fewer of them). Where
data or time decide, or counts that are too large to be explored, what may go wrong is *undecided*, and the verdict unknown. A
definition is called sound under these assumptions:

- tasks, gates, signals, timers and child runs end some time; failures happen only where the definition routes them, and explain
  that a join after them is not met; nobody gives commands, but closes open groups some time;
- conditions are true or false at will, but of `input.mode == 'a'` and `input.mode == 'b'` at most one is true, and what is asked
  of the input is answered the same throughout a run; guards come to hold some time, keys that depend on data do not delay;
- fan-outs whose size depends on data make 0, 1 or 2 branches (more where a join counts them); an `m` that depends on data asks
  for at least one arrival; fan-outs of a fixed size and loops are taken as they stand up to 100, and beyond that, where nothing
  counts them, twice.
"""

from wonder_ray.soundness.checking import STATES_MAX, check_soundness
from wonder_ray.soundness.report import Problem, Soundness

__all__ = ["STATES_MAX", "Problem", "Soundness", "check_soundness"]
