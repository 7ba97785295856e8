"""Who asks something of runs: callers that repeat themselves until they are answered, and one who sees what runs wait for.

A caller sends its command with one key, again and again, until it hears yes or a refusal. Whatever is lost on the way: a yes
means that the command is durable and was carried out once, a refusal that nothing of it was recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.chance import between, draw
from tests.simulation.violations import require
from wonder_ray.errors import CommandRefusedError
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from tests.simulation.sites import Site
    from tests.simulation.world import World

MS: Final = 1_000
LOOK_EVERY_MS: Final = 700
REPEATABLE: Final = frozenset({"cancel", "pause", "continue"})
"""What is answered yes without a trace where it is so already."""


class Ask(msgspec.Struct, frozen=True):
    """One command that a caller sends, again and again until it hears yes."""

    kind: str
    at_ms: int
    key: str
    copies: int = 1
    """How often it is sent at once: the same caller, the same key."""
    target: str = ""
    """The signal, gate or group that is meant."""
    value: Any = None

    def fact(self) -> facts.Fact:
        """What a coordinator is told."""
        key = self.key
        made: dict[str, Any] = {
            "cancel": lambda: facts.CancelRun(reason=f"asked for as {key}", key=key, compensate=bool(self.value)),
            "pause": lambda: facts.PauseRun(reason="a rest", key=key),
            "continue": lambda: facts.ContinueRun(key=key),
            "signal": lambda: facts.SignalRun(name=self.target, payload=self.value, key=key),
            "answer": lambda: facts.AnswerGate(gate=self.target, answer=self.value, key=key),
            "update": lambda: facts.UpdateState(changes=self.value, key=key),
            "complete": lambda: facts.CompleteGroup(group=self.target, key=key),
            "seal": lambda: facts.SealGroup(group=self.target, key=key),
            "add": lambda: facts.AddMembers(group=self.target, items=self.value, key=key),
        }
        fact: facts.Fact = made[self.kind]()
        return fact


class Caller:
    """Who sends one command."""

    def __init__(self, world: World, site: Site, ask: Ask) -> None:
        self._world = world
        self._site = site
        self._ask = ask
        self._tries = 0
        self._answers: list[Any] = []
        self.is_done = False

    def ask(self) -> None:
        """Send it."""
        if self.is_done or self._site.is_finished:
            self.is_done = True
            return
        self._tries += 1
        for _ in range(self._ask.copies):
            self._site.send(self._ask.fact(), self._hear, self._ask.key)
        if self._ask.copies > 1 or self._tries > 1:
            self._world.note("command_doubled")
        self._world.after(between(self._world.plan.seed, 200, 8_000, "again", self._ask.key, self._tries) * MS, self.ask)

    def _hear(self, answer: Any) -> None:
        """Invariant 9: what is answered yes is on the disk, and every yes is the same; what is refused leaves no trace."""
        site, ask = self._site, self._ask
        if isinstance(answer, CommandRefusedError):
            require(not site.recorded[ask.key] or self._answers, "I9", f"{ask} was refused, and is recorded: {answer}")
            self._world.note("command_refused")
            self.is_done = True
            return
        if isinstance(answer, Exception):
            return
        require(ask.key in site.disk.keys, "I9", f"{ask} was answered, and is not durable")
        carried_out = site.recorded[ask.key] == 1 or ask.kind in REPEATABLE
        require(carried_out, "I9", f"{ask} was answered yes, and is recorded {site.recorded[ask.key]} times")
        if not self._answers:
            self._world.note("command")
        self._answers.append(answer)
        require(answer == self._answers[0], "I9", f"{ask} was answered {answer}, and before {self._answers[0]}")
        site.acknowledged.add(ask.key)
        self.is_done = True


class Outsider:
    """Looks now and then at what runs wait for, and does some of it: so that every run ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._looks = 0
        self._callers: dict[tuple[str, str], Caller] = {}

    def look(self) -> None:
        """See what is waited for."""
        self._looks += 1
        for site in list(self._world.sites):
            if not site.is_finished:
                self._look_at(site)
        self._world.after(LOOK_EVERY_MS * MS, self.look)

    def _look_at(self, site: Site) -> None:
        if site.run_status == "paused" and self._feels_like("continue", site.run_id):
            self._do(site, "continue", "")
        for token in list(site.tokens.values()):
            if token.status == "waiting_for_gate" and self._feels_like("answer", token.id):
                wrong = draw(self._world.plan.seed, "wrong", token.id, self._looks) < 0.2
                self._do(
                    site, "answer", token.id, "no number" if wrong else between(self._world.plan.seed, 0, 3, "answer", token.id)
                )
            elif token.status == "waiting_for_signal" and self._feels_like("signal", token.id):
                self._do(site, "signal", site.signal_of(token.node_id), between(self._world.plan.seed, 0, 3, "signal", token.id))
            elif token.status == "pending" and site.is_guarded(token.node_id) and self._feels_like("update", token.id):
                self._do(site, "update", "", {"state.door": "open"})
        for group in list(site.groups.values()):
            if group.open and str(group.status) == "open" and self._feels_like("group", group.id):
                self._see_to_group(site, group.id, group.added)

    def _see_to_group(self, site: Site, group_id: str, added: int) -> None:
        what = between(self._world.plan.seed, 0, 9, "what", group_id, self._looks)
        if what < 4 and added < 3:
            self._do(site, "add", group_id, [1, 2][: 1 + what % 2])
        else:
            self._do(site, "complete" if what == 9 else "seal", group_id)

    def _feels_like(self, what: str, about: str) -> bool:
        return draw(self._world.plan.seed, "feels like", what, about, self._looks) < 0.4

    def _do(self, site: Site, kind: str, target: str, value: Any = None) -> None:
        """One command at a time about one thing."""
        busy = self._callers.get((site.run_id, kind + target))
        if busy is None or busy.is_done:
            ask = Ask(kind, 0, f"outsider-{self._looks}-{kind}-{target}", 1, target, value)
            caller = self._callers[site.run_id, kind + target] = Caller(self._world, site, ask)
            caller.ask()
