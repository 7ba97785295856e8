"""Sibling groups and joins: what opens a group, where it can be open, and what may join over it (rules R1 to R4, R10).

Which groups can be open at a node is told by a fixed point over the graph: along a transition a token keeps what is open and
adds the group that the transition names; along a join over `g` it goes on with what was open where `g` was opened. The answer is
an upper bound (`g` is in it when some route leaves `g` open), so a join is refused only where no route leads there within it.
Sets are integers with a bit per name: ten thousand nodes take a fraction of a second.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.checks.survey import INCOMING
from wonder_ray.definitions.limits import SPAWN_MAX

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.models import Join, Transition

INDEX: Final = "index"
_ALL = -1  # every bit is set
_BITS_MAX = 1_000_000_000  # 125 MB; beyond, everything counts as open everywhere, and nothing is refused for it
_JOIN_FIELDS = ("strategy", "m", "remaining", "merge", "blocking", "timeout_s", "on_timeout")


class Contexts:
    """What can be open at each reachable node: groups, and the item names (and `index`) of fan-outs.

    Attributes:
        groups: Group that is joined somewhere -> its bit.
        items: Item name, or `index` -> its bit.
        at: Node -> the union of the bits of all that can be open there; unreachable nodes are missing.
    """

    def __init__(self, survey: Survey) -> None:
        joined = [group for group in survey.openers if group in survey.joiners]
        self.groups = {group: 1 << i for i, group in enumerate(joined)}
        first = len(self.groups)
        self.items = {name: 1 << first + i for i, name in enumerate(sorted({INDEX, "item", *survey.items}))}
        self.at: dict[str, int] = {}
        self._survey = survey
        self._transitions = survey.definition.transitions
        self._below = dict.fromkeys(joined, 0)
        if len(joined) * len(survey.positions) > _BITS_MAX:
            self.at = dict.fromkeys(survey.positions, _ALL)
        else:
            self._spread()

    def after(self, i: int) -> int:
        """What is open on a transition, once it has split and before it joins."""
        transition = self._transitions[i]
        bits = self.at.get(transition.source, 0)
        if transition.group in self.groups:
            bits |= self.groups[transition.group]
        if transition.foreach is not None:
            bits |= self.items[transition.item] | self.items[INDEX]
        elif transition.spawn_count is not None:
            bits |= self.items[INDEX]
        return bits

    def where_opened(self, group: str) -> int:
        """What is open where a group is opened, the group itself aside: the context of its `m`, and of what follows its join."""
        return self._below.get(group, _ALL)

    def _spread(self) -> None:
        queue = deque(node for node in self._survey.start if node in self._survey.positions)
        self.at = dict.fromkeys(queue, 0)
        waiting = set(queue)
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            for i in self._survey.leaving[node]:
                for reached in self._follow(i):
                    if reached not in waiting:
                        waiting.add(reached)
                        queue.append(reached)

    def _follow(self, i: int) -> list[str]:
        """Carry what is open along a transition; gives the nodes that must be looked at again."""
        transition = self._transitions[i]
        again = []
        if transition.group in self._below and self.at[transition.source] & ~self._below[transition.group]:
            self._below[transition.group] |= self.at[transition.source]
            again = [self._transitions[j].source for j in self._survey.joiners[transition.group]]
            again = [node for node in again if node in self.at]
        bits = self.after(i)
        join = transition.join
        if join is not None and join.over != INCOMING:
            if not bits & self.groups.get(join.over, 0):
                return again
            bits = self._below[join.over]
        target = transition.target
        if target in self._survey.positions and (target not in self.at or bits & ~self.at[target]):
            self.at[target] = self.at.get(target, 0) | bits
            again.append(target)
        return again


def check_groups(survey: Survey, contexts: Contexts) -> None:
    """Every rule about groups and joins."""
    for i, transition in enumerate(survey.definition.transitions):
        _fields(survey, i, transition)
        if transition.join is not None:
            _join(survey, i, transition.join)
            _binding(survey, contexts, i, transition.join)
    _agreement(survey)
    _incoming(survey)
    _openers(survey)
    _handlers(survey)


def _fields(survey: Survey, i: int, transition: Transition) -> None:
    place = ("transitions", i)
    fans_out = transition.foreach is not None or transition.spawn_count is not None
    if transition.foreach is not None and transition.spawn_count is not None:
        mend = "keep one of them (for n tokens per element, split again at the next node)"
        survey.add((*place, "spawn_count"), "foreach and spawn_count exclude each other", mend)
    if isinstance(transition.spawn_count, int) and transition.spawn_count < 0:
        survey.add((*place, "spawn_count"), f"{transition.spawn_count} is less than 0", "give a count of 0 or more")
    if isinstance(transition.spawn_count, int) and transition.spawn_count > SPAWN_MAX:
        mend = "give a list of ranges or batches to foreach, and let each branch see to one of them"
        message = f"{str(transition.spawn_count)[:20]} is more than the {SPAWN_MAX:,} branches that one firing may make"
        survey.add((*place, "spawn_count"), message, mend)
    if not fans_out and transition.max_concurrency is not None:
        survey.add((*place, "max_concurrency"), "max_concurrency limits nothing here", "add foreach or spawn_count, or remove it")
    if transition.foreach is None and transition.item != "item":
        survey.add((*place, "item"), "item names the element of a foreach, and there is none", "add foreach, or remove item")
    if transition.tolerated_failures is not None and transition.group is None:
        mend = 'name the group, such as group: "pages"'
        survey.add((*place, "tolerated_failures"), "tolerated_failures is of a group, and none is named", mend)
    if transition.group == INCOMING:
        survey.add((*place, "group"), "'incoming' is reserved for joins over incoming transitions", "choose another name")
    elif transition.group is not None:
        survey.name(transition.group, "group", (*place, "group"))


def _join(survey: Survey, i: int, join: Join) -> None:
    place = ("transitions", i, "join")
    if join.strategy == "m_of_n" and join.m is None:
        survey.add((*place, "m"), "m_of_n without m", "say how many arrivals it takes, such as m: 2")
    elif join.strategy != "m_of_n" and join.m is not None:
        survey.add((*place, "m"), f"m is for m_of_n, and the strategy is {join.strategy}", "set strategy: m_of_n, or remove m")
    if isinstance(join.m, int) and join.m < 1:
        survey.add((*place, "m"), f"{join.m} is less than 1", "give at least 1, or an expression")
    if join.strategy == "all" and join.remaining != "absorb":
        mend = "use any or m_of_n, or remove remaining"
        survey.warn((*place, "remaining"), "after 'all' nothing remains", mend)
    if join.blocking and join.over == INCOMING:
        mend = "remove blocking, or join over a group"
        survey.add((*place, "blocking"), "a join over incoming takes its arrivals one after the other as it is", mend)
    if join.on_timeout != "fail" and join.timeout_s is None and join.strategy == "all":
        mend = "give it a timeout_s, or remove on_timeout"
        survey.warn((*place, "on_timeout"), "a join of all without timeout_s never times out", mend)
    seen: set[str] = set()
    for j, merge in enumerate(join.merge):
        if merge.target in seen:
            mend = "merge them into two targets, or write one source that holds both, such as [result.a, result.b]"
            survey.warn((*place, "merge", j, "target"), f"{merge.target!r} is merged twice; the later wins", mend)
        seen.add(merge.target)


def _binding(survey: Survey, contexts: Contexts, i: int, join: Join) -> None:
    place = ("transitions", i, "join", "over")
    source = survey.definition.transitions[i].source
    if join.over == INCOMING:
        return
    if join.over not in survey.openers:
        mend = f"name it on the transitions of the split (group: {join.over}); {survey.hint(join.over, survey.openers)}"
        survey.add(place, f"no transition opens group {join.over!r}", mend)
    elif source in contexts.at and not contexts.after(i) & contexts.groups[join.over]:
        opened = survey.opened_at(join.over)
        message = (
            f"group {join.over!r} cannot be open at node {source!r}: no route leads here from within it (it opens at {opened})"
        )
        survey.add(place, message, "move the join, or open the group on the way here")


def _agreement(survey: Survey) -> None:
    """A join is (target node, group): its transitions agree on it, and a group has at most one (R3)."""
    for group, found in survey.joiners.items():
        first: dict[str, int] = {}
        for i in found:
            target = survey.definition.transitions[i].target
            model = first.setdefault(target, i)
            if model != i:
                _agree(survey, model, i)
        if group != INCOMING and len(first) > 1:
            (one, _), (other, i) = list(first.items())[:2]
            mend = f"join at one node and go on from there to the other, or open a second group beside {group!r}"
            survey.add(("transitions", i, "join", "over"), f"group {group!r} is joined at two nodes, {one!r} and {other!r}", mend)


def _agree(survey: Survey, model: int, i: int) -> None:
    first, second = survey.definition.transitions[model].join, survey.definition.transitions[i].join
    differing = [field for field in _JOIN_FIELDS if getattr(first, field) != getattr(second, field)]
    if differing:
        message = f"its join differs from that of {survey.labels[model]!r} in {', '.join(differing)}"
        survey.add(("transitions", i, "join", differing[0]), message, "write the same join on both: they are one join")


def _incoming(survey: Survey) -> None:
    """A join over `incoming` has one queue per transition into its node, so all of them belong to it (R5)."""
    for target in dict.fromkeys(survey.definition.transitions[i].target for i in survey.joiners.get(INCOMING, ())):
        for i in survey.entering.get(target, ()):
            join = survey.definition.transitions[i].join
            if join is None or join.over != INCOMING:
                what = "has no join" if join is None else f"joins over {join.over!r}"
                mend = "write the same join on all transitions into the node, or join at a node before it"
                message = f"other transitions into {target!r} join over incoming, and this one {what}"
                survey.add(("transitions", i, "join"), message, mend)


def _openers(survey: Survey) -> None:
    """The transitions of one split that open a group agree on what it tolerates."""
    for group, found in survey.openers.items():
        said: dict[str, int] = {}
        for i in found:
            transition = survey.definition.transitions[i]
            if transition.tolerated_failures is None:
                continue
            model = said.setdefault(transition.source, i)
            if survey.definition.transitions[model].tolerated_failures != transition.tolerated_failures:
                message = f"group {group!r} tolerates another number of failures on {survey.labels[model]!r}"
                survey.add(("transitions", i, "tolerated_failures"), message, "say it once, or the same on both")


def _handlers(survey: Survey) -> None:
    """`group_failed(g)` fires where `g` was opened (R10)."""
    opened = {(survey.definition.transitions[i].source, group) for group, found in survey.openers.items() for i in found}
    for i, trigger in enumerate(survey.triggers):
        source = survey.definition.transitions[i].source
        if trigger is None or trigger.group is None or (source, trigger.group) in opened:
            continue
        if trigger.group in survey.openers:
            at = survey.opened_at(trigger.group)
            mend = f"let the transition start where the group is opened: {at}"
            survey.add(("transitions", i, "on"), f"group {trigger.group!r} is not opened at node {source!r}", mend)
        else:
            mend = survey.hint(trigger.group, survey.openers)
            survey.add(("transitions", i, "on"), f"no transition opens group {trigger.group!r}", mend)
