"""What tokens claim before they start: places of a concurrency key, and mutexes, which could wait for each other for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.definitions.checks.tangles import tangles
from wonder_ray.definitions.limits import MUTEXES_MAX

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.survey import Survey


def check_claims(survey: Survey) -> None:
    """Every rule about concurrency keys and mutexes."""
    held = False
    for i, node in enumerate(survey.definition.nodes):
        if node.concurrency_limit != 1 and node.concurrency_key is None:
            mend = "add a concurrency_key, or remove the limit (max_concurrency of a transition bounds a fan-out)"
            survey.add(("nodes", i, "concurrency_limit"), "concurrency_limit limits nothing without a concurrency_key", mend)
        if len(node.mutex) > MUTEXES_MAX:
            survey.add(
                ("nodes", i, "mutex"), f"{len(node.mutex):,} mutexes, more than {MUTEXES_MAX}", "guard several things by one"
            )
            return
        seen: set[str] = set()
        for j, name in enumerate(node.mutex):
            held = True
            survey.name(name, "mutex", ("nodes", i, "mutex", j))
            if name in seen:
                survey.warn(("nodes", i, "mutex", j), f"mutex {name[:80]!r} is named twice", "name it once")
            seen.add(name)
    if held:
        _orders(survey)


def _orders(survey: Survey) -> None:
    """Mutexes that are taken one after the other, and elsewhere in another order: two tokens may wait for each other."""
    nodes = survey.definition.nodes
    after: dict[str, dict[str, int]] = {}
    for i, transition in enumerate(survey.definition.transitions):
        if not survey.known_ends(i):
            continue
        before, then = (set(nodes[survey.positions[node]].mutex) for node in (transition.source, transition.target))
        for kept in sorted(before & then):
            for taken in sorted(then - before):
                after.setdefault(kept, {}).setdefault(taken, i)
                after.setdefault(taken, {})
    for names in tangles({name: list(found) for name, found in after.items()}):
        kept = min(names)
        taken = min(name for name in after[kept] if name in names)
        some = ", ".join(map(repr, sorted(names)[:_SHOWN_MAX])) + (", ..." if len(names) > _SHOWN_MAX else "")
        message = f"{taken!r} is taken while {kept!r} is held, and elsewhere the other way round (mutexes {some})"
        mend = "two tokens may wait for each other for ever: take them in one order, or all at once at the first node"
        survey.warn(("transitions", after[kept][taken]), message, mend)


_SHOWN_MAX = 8
