"""One simulated world: a clock, a queue of things to come, runs, an event service, and faults that strike.

Everything happens in one thread, in the order of simulated time; nothing is drawn but from the seed.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.audit.auditor import Auditor
from tests.simulation.callers import Ask, Caller, Outsider
from tests.simulation.chance import between, draw
from tests.simulation.events import SimulatedEvents
from tests.simulation.sites import Process, Site
from tests.simulation.violations import require
from tests.simulation.watching import check_replay
from wonder_ray.planning import facts
from wonder_ray.state import TERMINAL_TOKEN, ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.faults import Fault
    from tests.simulation.plans import Plan
    from wonder_ray.state import Child

START_US: Final = 1_700_000_000_000_000
MS: Final = 1_000
SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
STEPS_MAX: Final = 30_000
TOKENS_MAX: Final = 180
"""A run that grows beyond is cancelled: larger ones find little more, and take long."""
SEAL_EVERY_US: Final = 2 * SECOND_US
RUN_ID: Final = "run_{:012x}_0123456789abcdef"
TAMING: Final = Ask("cancel", 0, "taming")
FORGED_LOSS: Final = ErrorRecord("WorkerCrashedError", "forged", kind="lost")


class WorldClock:
    """The clock of the machine that coordinators run on: it leaps now and then."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, as the machine believes."""
        return self._world.now_us + self._world.skew_us


class World:
    """A plan, carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now_us = START_US
        self.skew_us = 0
        self.clock = WorldClock(self)
        self.events = SimulatedEvents()
        self.struck: Counter[str] = Counter()
        """Kind of fault -> how often it struck."""
        self.rules: Counter[str] = Counter()
        """Rule -> how often it decided something."""
        self.turns = 0
        self.zombies = 0
        """Stopped coordinators that are still to be continued."""
        self._queue: list[tuple[int, int, Callable[[], Any]]] = []
        self._queued = 0
        self._passed: Counter[str] = Counter()
        self._faults: dict[tuple[str, int], list[Fault]] = {}
        for fault in plan.faults:
            self._faults.setdefault((fault.point, fault.nth), []).append(fault)
        self._by_id: dict[str, Site] = {}
        self.sites: list[Site] = []
        self._add(Site(self, RUN_ID.format(plan.seed), plan.definition, plan.input))

    def new_auditor(self, site: Site) -> Auditor:
        """Who judges a run."""
        return Auditor(site.run_id, site.definition, site.input, site.ledger, self.rules, self._how_ended)

    # --- runs ----------------------------------------------------------------------------------------------------

    def _add(self, site: Site) -> Site:
        self.sites.append(site)
        self._by_id[site.run_id] = site
        return site

    def _how_ended(self, run_id: str) -> tuple[str, Any] | None:
        """How a run has ended; None while it has not, or does not exist."""
        site = self._by_id.get(run_id)
        if site is None:
            return ("failed", None)  # it could not be started
        return site.auditor.ended

    def child_site(self, parent: Site, child: Child, depth: int) -> Site | None:
        """The child run, which is started now unless it exists; None where its workflow is not known."""
        site = self._by_id.get(child.id)
        definition = self.plan.children.get(child.workflow)
        if site is None and definition is not None:
            site = self._add(Site(self, child.id, definition, child.input, parent=parent, depth=depth))
            self.after(between(self.plan.seed, 1, 400, "child starts", child.id) * MS, site.live)
        return site

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The event rows of a run."""
        return [msgspec.json.decode(line) for line in self._by_id[run_id].lines]

    def stop_child(self, site: Site, reason: str, *, compensate: bool) -> None:
        """Tell a child run to end; once is enough, since whoever tells it repeats it until it is heard."""
        if not site.is_told_to_end:
            site.is_told_to_end = True
            Caller(self, site, Ask("cancel", 0, f"stop-{reason[:40]}", value=compensate)).ask()

    # --- time and faults -----------------------------------------------------------------------------------------

    def after(self, delay_us: int, what: Callable[[], Any]) -> None:
        """Let something happen later."""
        self._queued += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._queued, what))

    def strike(self, point: str) -> list[Fault]:
        """The faults that strike at this passage of a point."""
        self._passed[point] += 1
        return self._faults.get((point, self._passed[point]), [])

    def note(self, kind: str) -> None:
        """A fault has struck."""
        self.struck[kind] += 1

    # --- carrying out --------------------------------------------------------------------------------------------

    def run(self) -> World:
        """From the start until every run has ended and is safe."""
        for site in self.sites:
            self.after(1, site.live)
        for fault in self.plan.faults:
            if fault.point == "time":
                self.after(fault.nth * MS, functools.partial(self._strike_in_time, fault))
        self.after(MS, Outsider(self).look)
        for ask in self.plan.asks:
            self.after(ask.at_ms * MS, Caller(self, self.sites[0], ask).ask)
        self.after(SEAL_EVERY_US, self._seal)
        steps = 0
        while self.zombies or not all(site.is_finished for site in self.sites):
            steps += 1
            require(self._queue and steps < STEPS_MAX, "ends", self._stands())
            at_us, _, what = heapq.heappop(self._queue)
            self.now_us = at_us
            what()
            self._tame()
        for site in self.sites:
            check_the_end(self, site)
        return self

    def _stands(self) -> str:
        for site in self.sites:
            if not site.is_finished:
                live = {t.id: f"{t.node_id} {t.status}" for t in site.tokens.values() if t.status not in TERMINAL_TOKEN}
                return f"run {site.run_id} does not end: it is {site.run_status}; in it are {live}"
        return "the zombies do not end"

    def _seal(self) -> None:
        self.events.seal()
        self.after(SEAL_EVERY_US, self._seal)

    def _tame(self) -> None:
        for site in self.sites:
            if len(site.tokens) > TOKENS_MAX and not site.is_tamed:
                site.is_tamed = True
                Caller(self, site, TAMING).ask()

    def _strike_in_time(self, fault: Fault) -> None:
        for site in self.sites:
            process = site.process if site.lives else None
            if site.is_finished or process is None or process.is_dead:
                continue
            name = (fault.kind, fault.nth)
            match fault.kind:
                case "crash_idle":
                    process.die()
                case "zombie" if process.coordinator is not None:
                    self._make_zombie(site, process, between(self.plan.seed, 1, 1_500, *name) * MS)
                case "result_forged":
                    if not self._forge(site, process, name):
                        continue
                case "clock_forward":
                    self.skew_us += HOUR_US
                case "clock_back":
                    self.skew_us -= between(self.plan.seed, 1, 3_600, *name) * SECOND_US
                case _:
                    continue
            self.note(fault.kind)

    def _make_zombie(self, site: Site, process: Process, asleep_us: int) -> None:
        process.stop()
        site.live()
        self.after(asleep_us, process.go_on_as_zombie)

    def _forge(self, site: Site, process: Process, name: tuple[str, int]) -> bool:
        """A result that was not asked for, or not any more, comes in: of another attempt, or of another epoch."""
        tokens = [token for token in site.tokens.values() if token.attempt]
        if not tokens:
            return False
        token = tokens[between(self.plan.seed, 0, len(tokens) - 1, "token", *name)]
        attempt, epoch = [
            (token.attempt - 1, token.epoch), (token.attempt + 1, token.epoch), (token.attempt, token.epoch - 1),
            (token.attempt, token.epoch + 1),
        ][between(self.plan.seed, 0, 3, "which", *name)]  # fmt: skip
        fact: facts.Fact = facts.TaskSucceeded(token_id=token.id, attempt=attempt, epoch=epoch, result="forged")
        if draw(self.plan.seed, "lost", *name) < 0.3:
            fact = facts.TaskLost(token_id=token.id, attempt=attempt, epoch=epoch, error=FORGED_LOSS)
        site.send(fact, lambda _answer: None, None)
        return True


def check_the_end(world: World, site: Site) -> None:
    """What must hold of a run that is over."""
    site.auditor.end()
    check_replay(site)
    held = world.events.runs[site.run_id]
    lines = dict(held.lines)
    if world.struck["events_disk_lost"]:  # what was lost after it had been acknowledged is still in the run's file
        lines = {sequence: line for sequence, (_, line) in site.disk.outboxes["events"].items()} | lines
    require([lines.get(i + 1) for i in range(len(site.lines))] == site.lines, "I11", "the event service holds other events")
    require(len(lines) == len(site.lines), "I11", f"the event service holds {len(lines)} events of {len(site.lines)}")
    require(site.reported == str(site.auditor.status), "I1", f"{site.reported} was reported at last: it is {site.auditor.status}")
    for key in site.acknowledged:
        require(key in site.disk.keys, "I9", f"{key} was answered yes, and is forgotten")
