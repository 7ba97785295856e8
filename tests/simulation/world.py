"""One simulated world: a clock, a queue of things to come, runs, an event service, and faults that strike.

Everything happens in one thread, in the order of simulated time; nothing is drawn but from the seed.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.audit.auditor import Auditor
from tests.simulation.chance import between, draw
from tests.simulation.events import SimulatedEvents
from tests.simulation.plans import Ask
from tests.simulation.sites import Process, Site
from tests.simulation.violations import require
from tests.simulation.watching import check_replay
from wonder_ray.planning import facts
from wonder_ray.state import ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.faults import Fault
    from tests.simulation.plans import Plan

START_US: Final = 1_700_000_000_000_000
MS: Final = 1_000
SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
STEPS_MAX: Final = 30_000
TOKENS_MAX: Final = 150
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
        self.sites = [Site(self, RUN_ID.format(plan.seed), plan.definition, plan.input)]

    def new_auditor(self, site: Site) -> Auditor:
        """Who judges a run."""
        return Auditor(site.run_id, site.definition, site.input, site.ledger, self.rules)

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
        live = {
            token.id: f"{token.node_id} {token.status}" for token in self.sites[0].tokens.values() if token.status != "completed"
        }
        return f"the run does not end; in it are {live}"

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


class Caller:
    """Who sends a command, and again with the same key until it hears yes, or the run is over."""

    def __init__(self, world: World, site: Site, ask: Ask) -> None:
        self._world = world
        self._site = site
        self._ask = ask
        self._tries = 0
        self._answers: list[Any] = []

    def ask(self) -> None:
        """Send it."""
        if self._answers or self._site.is_finished:
            return
        self._tries += 1
        for _ in range(self._ask.copies):
            self._site.send(self._fact(), self._hear, self._ask.key)
        if self._ask.copies > 1 or self._tries > 1:
            self._world.note("command_doubled")
        self._world.after(between(self._world.plan.seed, 200, 8_000, "again", self._ask.key, self._tries) * MS, self.ask)

    def _fact(self) -> facts.Fact:
        return facts.CancelRun(reason=f"asked for as {self._ask.key}", key=self._ask.key)

    def _hear(self, answer: Any) -> None:
        """Invariant 9: what is answered yes is on the disk, and every yes is the same."""
        if isinstance(answer, Exception):
            return
        require(self._ask.key in self._site.disk.keys, "I9", f"{self._ask.key} was answered, and is not durable")
        if not self._answers:
            self._world.note("command")
        self._answers.append(answer)
        require(answer == self._answers[0], "I9", f"{self._ask.key} was answered {answer}, and before {self._answers[0]}")
        self._site.acknowledged.add(self._ask.key)


def check_the_end(world: World, site: Site) -> None:
    """What must hold of a run that is over."""
    site.auditor.end()
    check_replay(site)
    held = world.events.runs[site.run_id]
    require([held.lines.get(i + 1) for i in range(len(site.lines))] == site.lines, "I11", "the event service holds other events")
    require(len(held.lines) == len(site.lines), "I11", f"the event service holds {len(held.lines)} events of {len(site.lines)}")
    require(site.reported == str(site.auditor.status), "I1", f"{site.reported} was reported at last: it is {site.auditor.status}")
    for key in site.acknowledged:
        require(key in site.disk.keys, "I9", f"{key} was answered yes, and is forgotten")
