"""The API over a registry, runs on the pure core, and a log, in one process: no Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.testclient import TestClient

from tests.core import CoreRun
from tests.resources.lines import Lines
from wonder_ray.client import Client, Run
from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator.messages import Snapshot
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.events.news import News
from wonder_ray.events.query import EventRow
from wonder_ray.fold import fold
from wonder_ray.http import Backend, Limits, create_app
from wonder_ray.planning.facts import CommandFact, Fork, StartRun
from wonder_ray.planning.queries import evaluate_query, gates_of, waiting_of
from wonder_ray.reading import node_counts
from wonder_ray.resources.master_key import load_master_keys
from wonder_ray.resources.records import BundleContent, RunProjection, StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.state import Lineage
from wonder_ray.storage.layout import Layout
from wonder_ray.values import canonical, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

from wonder_ray.resources.records import RunRecord

BUNDLE = "ab" * 32


def approval() -> WorkflowDefinition:
    """Asks, waits to be paid, and is done."""
    flow = Workflow("approval", output={"answer": "state.answer", "paid": "state.paid"})
    flow.gate("ask", input={"amount": "input.amount"}, output={"state.answer": "result"})
    flow.wait_signal("paid", output={"state.paid": "result"})
    flow.transition("ask", "paid")
    return flow.definition()


class CoreServices:
    """The services: the real registry, runs on the core."""

    def __init__(self, layout: Layout, clock: SimulatedClock, log: Lines) -> None:
        self.resources = ResourcesService(layout.resources, clock=clock, log=log, master_keys=load_master_keys(layout.master_key))
        self.cores: dict[str, CoreRun] = {}
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        """Run and key -> the first answer."""
        self.broken: dict[str, Exception] = {}
        """Method -> what calling it raises."""

    def call(self, service: str, method: str, *args: Any, within_s: float = 0.0, **named: Any) -> Any:
        if method in self.broken:
            raise self.broken[method]
        if method == "get_definition":  # which the actor takes in order
            return self.resources.get_definition(*args[:2], workspace_id=(*args, named.get("workspace_id"))[2])
        target = self.resources if service == "resources" and method != "ping" else self
        return getattr(target, method)(*args, **named)

    def ping(self) -> dict[str, Any]:
        return {}

    def flush(self) -> None:
        """What is in files stays so."""

    def activate(self, run_id: str) -> None:
        if run_id not in self.cores:
            record = self.resources.get_run(run_id)
            found = self.resources.get_definition(record.workflow_name, record.workflow_version, workspace_id=record.workspace_id)
            core = CoreRun(WorkflowDefinition.model_validate_json(found.definition), run_id=run_id)
            self.cores[run_id] = core
            core.turn(StartRun(input=decode(record.input), workflow_name="test", workflow_version="v", fork=self._fork(record)))
            self.go_on(run_id)

    def _fork(self, record: RunRecord) -> Fork | None:
        if record.fork is None:
            return None
        asked = decode(record.fork)
        source = Lineage(run_id=asked["run_id"], sequence=asked["sequence"])
        state = fold(source.run_id, self.cores[source.run_id].rows, at=source.sequence)
        return Fork(source=source, state=state, at_us=self.cores[source.run_id].clock.now_us(), changes=asked["changes"])

    def go_on(self, run_id: str) -> None:
        core = self.cores[run_id].run_on()
        run = core.state.run
        epoch = self.resources.get_run(run_id).epoch or self.resources.take_epoch(run_id, 0, None)
        output = None if run.output is None else encode(run.output)
        told = RunProjection(
            status=run.status, started_us=run.started_us, ended_us=run.ended_us, output=output, events=run.sequence
        )
        self.resources.report(run_id, epoch, told)

    def read(self, run_id: str, after: int = 0, limit: int | None = None, stream: str = "events") -> list[EventRow]:
        record = self.resources.get_run(run_id)
        if stream == "trace" or run_id not in self.cores:
            return []
        names = ("workspace_id", "project_id", "root_run_id", "parent_run_id", "workflow_name", "workflow_version")
        constant = {name: getattr(record, name) for name in names} | {"workflow_run_id": run_id}
        rows = [row for row in self.cores[run_id].rows if row["sequence_number"] > after]
        return [EventRow(**constant, **row) for row in rows[:limit]]

    def news(self, wanted: list[tuple[str, int]]) -> list[News]:
        asked = [(run_id, after, self.read(run_id, after)) for run_id, after in wanted]
        return [News(run_id, after, rows[-1].sequence_number, rows) for run_id, after, rows in asked if rows]


class CoreAsking:
    """How a run's coordinator is asked."""

    def __init__(self, services: CoreServices, run_id: str) -> None:
        self._services, self._run_id = services, run_id

    def activate(self) -> None:
        """It always lives."""

    def until_answered(self, _method: str, fact: CommandFact) -> dict[str, Any]:
        if fact.key is not None and (first := self._services.answers.get((self._run_id, fact.key))):
            return first
        answer = self._services.cores[self._run_id].say(fact)
        if fact.key is not None:
            self._services.answers[self._run_id, fact.key] = answer
        self._services.go_on(self._run_id)
        return answer

    def if_alive(self, method: str, *args: Any) -> Any:
        core = self._services.cores[self._run_id]
        state = core.state
        if method == "query":
            return {"value": evaluate_query(state, *args)}
        if method == "gates":
            return gates_of(state, core.graph)
        run = state.run
        return Snapshot(
            run_id=self._run_id,
            status=str(run.status),
            epoch=1,
            turn=core.turns,
            events=run.sequence,
            tokens=len(state.tokens),
            nodes=node_counts(state),
            in_flight=0,
            started_us=run.started_us,
            ended_us=run.ended_us,
            waiting=tuple(waiting_of(state, core.graph)),
        )


class CoreClient(Client):
    """A client of these services."""

    def __init__(self, layout: Layout, services: CoreServices) -> None:
        self.storage = layout
        self._services: Any = services


class CoreBackend(Backend):
    """Runs whose coordinators are here."""

    def run(self, record: RunRecord) -> Run:
        run = super().run(record)
        run._asking = CoreAsking(self.client._services, record.run_id)  # type: ignore[assignment, arg-type] # the same methods
        return run


class Api:
    """The API, and what stands behind it: two workspaces (`default`, `other`), one registered workflow in each."""

    def __init__(self, storage: Path, limits: Limits | None = None) -> None:
        layout = Layout(storage).prepare()
        self.storage = layout.root
        self.clock = SimulatedClock()
        self.log = Lines()
        self.services = CoreServices(layout, self.clock, Lines())
        self.resources = self.services.resources
        if "other" not in [each.workspace_id for each in self.resources.list_workspaces()]:
            self.resources.create_workspace("other")
        for workspace in ("default", "other"):
            content = BundleContent(targets=["shop:charge"], files=["shop.py"])
            self.resources.put_bundle(BUNDLE, content, workspace_id=workspace)
            self.resources.put_definition(canonical(approval().to_json()), workspace_id=workspace)
        self.app = create_app(CoreBackend(CoreClient(layout, self.services)), self.log, limits)
        self.key = self.new_key("admin")
        self.http = TestClient(self.app, raise_server_exceptions=False)

    def new_key(self, *scopes: str, workspace: str | None = "default", **options: Any) -> str:
        return self.resources.create_api_key("test", scopes, workspace_id=workspace, **options).token

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None, **extra: str) -> Any:
        """A request with the key of the default workspace, or another (an empty one: none)."""
        token = self.key if key is None else key
        sent = ({"Authorization": f"Bearer {token}"} if token else {}) | {k.replace("_", "-"): v for k, v in extra.items()}
        content = None if body is None else msgspec.json.encode(body)
        more = {} if body is None else {"Content-Type": "application/json"}
        headers = {name.encode(): value.encode() for name, value in (sent | more).items()}
        return self.http.request(method, path, content=content, headers=headers)

    def start(self, workspace: str = "default", amount: int = 5) -> str:
        """A run that waits at its gate."""
        request = StartRequest(workflow_name="approval", input=encode({"amount": amount}), workspace_id=workspace)
        record, _ = self.resources.start_run(request)
        self.services.activate(record.run_id)
        return record.run_id

    def logged(self, event_type: str) -> list[dict[str, Any]]:
        return [fields for _, kind, _, fields in self.log.lines if kind == event_type]
