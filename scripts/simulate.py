#!/usr/bin/env python
"""Runs seeded worlds (coordinators, executors, event service, clock, faults) and checks every rule after every turn.

    scripts/simulate.py --seeds 2000 [--start 0] [--json]     many seeds; what is broken is made smaller, and named by one line
    scripts/simulate.py --seed 17 [--without f0,t3,n2]        one seed, without some parts of its workload
    scripts/simulate.py --plan tests/simulation/kept/x.json   one workload from a file (--keep FILE writes it)
    scripts/simulate.py --planted [--json]                    bugs planted on purpose, each of which must be found

The exit status is 0 when nothing was broken (with --planted: when every bug was found).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.simulation.plans import draw_plan, from_json, to_json, without
from tests.simulation.planted import PLANTED, planted
from tests.simulation.running import RULES, Found, carry_out, hunt_all, run_many, shrink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.plans import Plan

PLANTED_SEEDS = 500
SHRUNK_MAX = 3
"""So many violations are made smaller; each takes up to a minute."""


def main() -> int:
    """Do what the command line says."""
    options = parse()
    if options.planted:
        return hunt_planted(options)
    if options.seed is not None or options.plan is not None:
        return run_one(options)
    began = time.monotonic()
    tally = run_many(options.start, options.seeds, options.processes)
    found = [shrink(one) if nth < SHRUNK_MAX and not options.no_shrink else one for nth, one in enumerate(tally.found)]
    figures = {
        "seeds": tally.seeds,
        "violations": len(found),
        "turns": tally.turns,
        "simulated_seconds": round(tally.simulated_us / 1e6),
        "real_seconds": round(time.monotonic() - began, 1),
        "faults": dict(sorted(tally.faults.items())),
        "rules": {rule: tally.rules[rule] for rule in RULES},
    }
    show(found, sys.stderr if options.json else sys.stdout)
    print(json.dumps(figures) if options.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    return 1 if found else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run one seed, and show its workload")
    parser.add_argument("--without", default="", metavar="PARTS", help="with --seed: parts of the workload to leave out")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="run one workload from a file, and show it")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="with --seed: write the workload to a file")
    parser.add_argument("--plant", choices=[*PLANTED], metavar="BUG", help="with --seed: a bug to plant")
    parser.add_argument("--planted", action="store_true", help=f"hunt each planted bug in up to {PLANTED_SEEDS} seeds")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--no-shrink", action="store_true", help="do not make what fails smaller")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def show(found: Iterable[Found], where: Any) -> None:
    """What is broken, and how to see it again."""
    for one in found:
        print(f"seed {one.seed} breaks {one.broken}: {one.message}\n  {one.command}", file=where)


def run_one(options: argparse.Namespace) -> int:
    """Run one seed, or one workload from a file."""
    plan: Plan | None = from_json(options.plan.read_bytes()) if options.plan else draw_plan(options.seed)
    plan = without(plan, filter(None, options.without.split(","))) if plan is not None else None
    if plan is None:
        print("without these parts the definition is none", file=sys.stderr)
        return 2
    if options.keep:
        options.keep.write_bytes(to_json(plan))
    if options.plant:
        with planted(options.plant):
            world, violation = carry_out(plan)
    else:
        world, violation = carry_out(plan)
    describe(plan)
    print(f"{world.turns} turns; faults: {dict(world.struck)}")
    print("nothing is broken" if violation is None else f"BROKEN {violation}")
    return 0 if violation is None else 1


def describe(plan: Plan) -> None:
    """Print a workload."""
    for node in plan.definition.nodes:
        print(f"node       {node.model_dump_json(exclude_defaults=True)}")
    for i, transition in enumerate(plan.definition.transitions):
        print(f"transition {i}: {transition.model_dump_json(exclude_defaults=True)}")
    for part in (*plan.faults, *plan.asks):
        print(f"strikes    {part}")
    print(f"slots {plan.slots}, input {json.dumps(plan.input)}")


def hunt_planted(options: argparse.Namespace) -> int:
    """Run seeds with each planted bug until it is found."""
    began = time.monotonic()
    hunts = hunt_all(options.start, PLANTED_SEEDS, options.processes, [*PLANTED])
    rows = [
        {
            "bug": one.name,
            "breaks": one.breaks,
            "found_as": one.found and one.found.broken,
            "seeds": one.seeds,
            "command": one.found and one.found.command,
        }
        for one in hunts
    ]
    missed = [one.name for one in hunts if one.found is None]
    if options.json:
        print(json.dumps({"planted": rows, "missed": missed, "real_seconds": round(time.monotonic() - began, 1)}))
    else:
        print(f"{'planted bug':62}{'breaks':8}{'found as':10}seeds")
        for row in rows:
            print(f"{row['bug']:62}{row['breaks']:8}{row['found_as'] or 'NOT FOUND':10}{row['seeds']}")
        print(f"{len(rows) - len(missed)} of {len(rows)} found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
