"""What is probably not meant: silent ends, transitions that never fire, values that nobody writes, reads or exports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wonder_ray.definitions.checks.groups import INDEX
from wonder_ray.definitions.checks.survey import COMPLETED, INCOMING
from wonder_ray.definitions.checks.texts import targets, uses
from wonder_ray.definitions.targets import parse_target
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.definitions.checks.groups import Contexts
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.checks.texts import Use
    from wonder_ray.definitions.triggers import Trigger

Key: TypeAlias = tuple[str, str]
"""A place of the context that is written or read: `("state", "pages")`; `("state", "")` for all of it."""
WHOLE: Final = ""
_FROM_OUTSIDE: Final = " (if updates from outside write it, name it in the schema of the state)"
_READ = re.compile(
    r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')  # a string, skipped
      | (?<![\w.])(state|output)\b (?:\s*\.\s*(\w+) | \s*\[\s*["']([^"'\\]*)["']\s*\])?""",
    re.VERBOSE,
)
_AFTERWARDS = ("output", "undo")
"""Fields of a node whose expressions are evaluated when it has completed."""
_OF_TOKENS = frozenset({INDEX, "item", "result", "token", "error"})


def check_dataflow(survey: Survey, contexts: Contexts, names: Mapping[str, frozenset[str]]) -> None:
    """Every warning that follows from how tokens and values move."""
    _defaults(survey)
    _shadowed(survey)
    _never_joined(survey)
    _unbound_names(survey, contexts, names)
    flow = _Flow(survey, contexts)
    flow.check_reads(survey)
    flow.check_writes(survey)


def _defaults(survey: Survey) -> None:
    """A token that matches none of its transitions ends, and nobody hears of it."""
    for node, leaving in survey.leaving.items():
        normal = [i for i in leaving if survey.triggers[i] == COMPLETED]
        if normal and all(survey.definition.transitions[i].when is not None for i in normal):
            message = "every transition from here has a condition: a token that meets none of them ends here in silence"
            mend = f"if that is not meant, add a transition without condition at a later priority (from: {node})"
            survey.warn(("nodes", survey.positions[node]), message, mend)


def _shadowed(survey: Survey) -> None:
    """The lowest tier with a match wins, so nothing behind an unconditional transition ever fires."""
    for leaving in survey.leaving.values():
        first: dict[Trigger | None, tuple[int, int]] = {}
        for i in leaving:
            transition = survey.definition.transitions[i]
            if transition.when is None and transition.max_iterations is None and survey.triggers[i] is not None:
                first[survey.triggers[i]] = min(first.get(survey.triggers[i], (transition.priority, i)), (transition.priority, i))
        for i in leaving if first else ():
            priority, winner = first.get(survey.triggers[i], (None, i))
            if priority is not None and survey.definition.transitions[i].priority > priority:
                message = f"never fires: {survey.labels[winner]!r} has no condition and an earlier priority ({priority})"
                mend = "give both the same priority to take both, or put a condition (when) on the earlier one"
                survey.warn(("transitions", i, "priority"), message, mend)


def _never_joined(survey: Survey) -> None:
    for group, found in survey.openers.items():
        if group not in survey.joiners and group != INCOMING:
            mend = f"join it (join: {{over: {group}}}), or leave the name out if nobody waits for the branches"
            message = f"group {group!r} is never joined: what its branches write is lost"
            survey.warn(("transitions", found[0], "group"), message, mend)


def _unbound_names(survey: Survey, contexts: Contexts, names: Mapping[str, frozenset[str]]) -> None:
    """Names without a value there: a token's outside any, `result` before there is one, items outside their fan-out."""
    for use in uses(survey):
        found = names.get(use.text, frozenset())
        if use.node is None:
            for name in sorted(found & (_OF_TOKENS | survey.items)):
                survey.warn(use.place, f"a run's output is of no token: it has no {name}", "write input, state, output or run")
            continue
        if "result" in found and not use.private and use.place[0] == "nodes" and use.place[2] not in _AFTERWARDS:
            mend = "keep it in the state (output: {state.x: result} of the node before), and write state.x here"
            survey.warn(use.place, f"result is what this node itself returns, so its {use.place[2]} has none", mend)
        for name in sorted(found & contexts.items.keys()) if use.node in contexts.at else ():
            if not _context(survey, contexts, use) & contexts.items[name]:
                what = "a fan-out" if name == INDEX else "a foreach that names it"
                message = f"{name} has no value here: node {use.node!r} is in no branch of {what}"
                survey.warn(use.place, message, "fan out on the way here, or write input or state instead")


def _context(survey: Survey, contexts: Contexts, use: Use) -> int:
    """What is open where an expression is evaluated: merges see the branch, `m` what is around the group."""
    position = use.place[1]
    if use.node is None or use.place[0] != "transitions" or not isinstance(position, int):
        return contexts.at[use.node or ""]
    join = survey.definition.transitions[position].join
    if "merge" in use.place:
        return contexts.after(position)
    return contexts.where_opened(join.over) if join is not None and use.place[-1] == "m" else contexts.at[use.node]


class _Flow:
    """Who writes and who reads which key of the context."""

    def __init__(self, survey: Survey, contexts: Contexts) -> None:
        self._contexts = contexts
        self._groups = list(contexts.groups)
        self._open_at: dict[str, list[str]] = {}
        self.writes: list[tuple[tuple[str | int, ...], str, Key]] = []
        for use in targets(survey):
            if not use.private and use.node is not None and (key := _written(use.text)) is not None:
                self.writes.append((use.place, use.node, key))
        self.told = {("state", name) for name in _told(survey.definition.state)}
        """What the schema of the state speaks of: it may be written and read from outside."""
        self.written = {key for _, _, key in self.writes} | self.told
        cache: dict[str, set[Key]] = {}
        self.reads = []
        for use in uses(survey):
            if not use.private and (use.text in cache or "state" in use.text or "output" in use.text):
                if use.text not in cache:
                    cache[use.text] = _read(use.text)
                self.reads.append((use, cache[use.text]))
        self.read = {key for _, keys in self.reads for key in keys} | self.told

    def check_reads(self, survey: Survey) -> None:
        """Values that are read and never written."""
        known = sorted(f"{root}.{key}" for root, key in self.written)
        for use, keys in self.reads:
            for root, key in sorted(keys - self.written):
                if key != WHOLE:
                    name = f"{root}.{key}"
                    hint = survey.hint(name, known) if known else "add an output to the node that makes it"
                    outside = "" if hint.startswith("did") or root != "state" else _FROM_OUTSIDE
                    survey.warn(use.place, f"no node and no merge writes {name}", hint + outside)

    def check_writes(self, survey: Survey) -> None:
        """Values that are written and never read, or lost at the end of their branch (R8)."""
        exported, read_within = self._by_group(survey)
        for place, node, key in self.writes:
            if place[0] != "nodes":
                continue
            matters = key in self.read or (key[0], WHOLE) in self.read or (key[0] == "output" and not survey.definition.output)
            if not matters:
                name = f"{key[0]}.{key[1]}"
                survey.warn(place, f"nothing reads {name}", "remove it, or use it in an expression or in the workflow's output")
                continue
            for group in self._open(node):
                kept = exported.get(group, set()) | read_within.get(group, set())
                if group in survey.joiners and key not in kept and (key[0], WHOLE) not in kept:
                    mend = f"merge it at the join, such as merge: {{target: {key[0]}.{key[1]}, source: {key[0]}.{key[1]}}}"
                    message = f"branches of {group!r} write {key[0]}.{key[1]}, and no merge of its join exports it"
                    survey.warn(place, message, mend)

    def _by_group(self, survey: Survey) -> tuple[dict[str, set[Key]], dict[str, set[Key]]]:
        """Group -> what its joins export; group -> what is read inside its branches."""
        exported: dict[str, set[Key]] = {}
        for group, found in survey.joiners.items():
            for merge in (merge for i in found for merge in _merges(survey, i)):
                exported.setdefault(group, set()).update(_read(merge))
        within: dict[str, set[Key]] = {}
        for use, keys in self.reads:
            if use.node is not None and "merge" not in use.place:
                for group in self._open(use.node):
                    within.setdefault(group, set()).update(keys)
        return exported, within

    def _open(self, node: str) -> list[str]:
        """The groups that can be open at a node; none where there are many, as in generated tangles."""
        found = self._open_at.get(node)
        if found is None:
            bits = self._contexts.at.get(node, 0) & (1 << len(self._groups)) - 1
            found = self._open_at[node] = []
            while bits and bits.bit_count() + len(found) <= _OPEN_MAX:
                found.append(self._groups[(bits & -bits).bit_length() - 1])
                bits &= bits - 1
        return found


_OPEN_MAX = 8


def _told(schema: dict[str, Any] | None) -> list[str]:
    properties = {} if schema is None else schema.get("properties")
    return list(properties) if isinstance(properties, dict) else []


def _merges(survey: Survey, i: int) -> list[str]:
    join = survey.definition.transitions[i].join
    return [] if join is None else [merge.source for merge in join.merge]


def _written(target: str) -> Key | None:
    try:
        parsed = parse_target(target)
    except WonderError:
        return None
    return parsed.root, parsed.path[0]


def _read(text: str) -> set[Key]:
    return {(found[1], found[2] or found[3] or WHOLE) for found in _READ.finditer(text) if found[1]}
