"""A storage folder with runs in it, made without Ray: the core runs definitions, and their rows go to the real services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.core import CoreRun
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.errors import ActionError
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.resources.records import RunProjection, RunRecord, StartRequest
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.sqlite import SqliteRunStore
from wonder_ray.values import canonical, encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.wire import Stream

COMPLETED = "run_0192f0c1a2b1_0000000000000001"
FAILED = "run_0192f0c1a2b2_0000000000000002"
OPEN = "run_0192f0c1a2b3_0123456789abcdef"
QUEUED = "run_0192f0c1a2b4_0000000000000004"
SHIPPED = 4
"""How many events of the open run are with the event service; the others only its file has."""
LOG_US = 1_700_000_000_000_000


class Prepared(NamedTuple):
    """The folder, and what the runs in it are known to be."""

    storage: Path
    completed: CoreRun
    failed: CoreRun
    open: CoreRun


def crawl() -> WorkflowDefinition:
    """list -> fetch per url -> report."""
    flow = Workflow("crawl", output={"pages": "state.pages"})
    flow.node("list", "crawl:list_urls", input={"site": "input.site"}, output={"state.urls": "result"})
    flow.node("fetch", "crawl:fetch", input={"url": "item"})
    flow.compute("report", output={"state.count": "size(state.pages)"})
    flow.transition("list", "fetch", foreach="state.urls", group="pages")
    flow.transition("fetch", "report", join=All("pages", merge=Append("state.pages")))
    return flow.definition()


def list_urls(site: str) -> list[str]:
    return [f"{site}/{i}" for i in range(3)]


def broken(url: str) -> str:
    raise ActionError("Unlucky", f"no page at {url}\x1b[31m", retryable=False)


def prepare(storage: Path) -> Prepared:
    """Four runs: completed, failed, open (without a coordinator), and queued; and three log lines."""
    layout = Layout(storage).prepare()
    registry = ResourcesStore(layout.resources)
    registry.put_definition(canonical(crawl().to_json()))
    completed = CoreRun(crawl(), {"list": list_urls}, trace=True).run({"site": "a"})
    failed = CoreRun(crawl(), {"list": list_urls, "fetch": broken}).run({"site": "b"})
    started = CoreRun(crawl(), {"list": list_urls})
    started.store = SqliteRunStore(layout.run_file(OPEN))  # type: ignore[assignment] # the same interface
    started.start({"site": "c"})
    started.finish("list")
    started.finish("fetch")
    started.store.close()
    with EventService(storage) as service:
        for run_id, run in ((COMPLETED, completed), (FAILED, failed), (OPEN, started)):
            record = register(registry, run_id, run)
            service.open(run_id, 1)
            send(service, record, "events", run.rows if run_id != OPEN else run.rows[:SHIPPED])
            send(service, record, "trace", run.traces)
    registry.create_run(StartRequest(workflow_name="crawl", run_id=QUEUED, input=encode({"site": "d"})))
    registry.close()
    _write_log(layout)
    return Prepared(storage, completed, failed, started)


def register(registry: ResourcesStore, run_id: str, run: CoreRun, workflow: str = "crawl", **fields: Any) -> RunRecord:
    """A run as the registry knows it, however far it is."""
    state = run.state.run
    labels = {"team": "data"} if run_id == COMPLETED else {}
    request = StartRequest(
        workflow_name=workflow, run_id=run_id, input=encode(state.input), labels=labels, trace=run.tracer is not None, **fields
    )
    registry.create_run(request)
    registry.take_epoch(run_id, 0, {"kind": "dedicated", "pid": 7})
    started_us, ended_us = state.started_us, state.ended_us
    projection = RunProjection(
        status=state.status,
        started_us=started_us,
        ended_us=ended_us,
        output=None if state.output is None else encode(state.output),
        error=None if state.error is None else encode(state.error.as_json()),
        tokens=len(run.state.tokens),
        events=state.sequence if ended_us is not None else 1,
        duration_ms=None if ended_us is None or started_us is None else (ended_us - started_us) / 1000,
    )
    registry.report(run_id, 1, projection)
    return registry.get_run(run_id)


def send(service: EventService, record: RunRecord, stream: Stream, rows: Sequence[dict[str, Any]]) -> None:
    """Give its rows to the event service."""
    if not rows:
        return
    info = RunInfo(record.run_id, "default", "default", record.run_id, None, record.workflow_name, record.workflow_version)
    lines = b"\n".join(msgspec.json.encode(row) for row in rows)
    acks = service.submit([EventBatch(info, stream, 1, 1, len(rows), lines)])
    assert acks[0].outcome == "ok", acks


def _write_log(layout: Layout) -> None:
    store = LogStore(layout.logs, "test")
    lines = [
        LogLine(timestamp=LOG_US, level="info", service="executor", event_type="stdout", message="hello", trace_id=COMPLETED),
        LogLine(
            timestamp=LOG_US + 1_000_000,
            level="error",
            service="executor",
            event_type="action_failed",
            message="no page",
            trace_id=FAILED,
            node_id="fetch",
            error_stack="Traceback:\n  boom",
            metadata='{"attempt":1}',
        ),
        LogLine(timestamp=LOG_US + 2_000_000, level="warning", service="resources", event_type="db_query_slow", message="slow"),
    ]
    store.append(lines, LOG_US)
    store.close()
