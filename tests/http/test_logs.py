"""The log across runs: the lines of one workspace, or of all for an API key that is good for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wonder_ray.logs.archive import archive_old
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.world import Api

LINE = LogLine(timestamp=1_000, level="info", service="executor", event_type="stdout")


def write(storage: Path, *lines: LogLine) -> None:
    store = LogStore(Layout(storage).logs, "test")
    store.append(list(lines), 1)
    store.close()


def line(message: str, **fields: Any) -> LogLine:
    return msgspec.structs.replace(LINE, message=message, **fields)


@pytest.fixture
def run(api: Api, storage: Path) -> str:
    """A run of `default` with lines, beside lines of another workspace and of services."""
    run_id, other = api.start(), api.start("other")
    write(
        storage,
        line("begun", trace_id=run_id, workspace_id="default", node_id="fetch"),
        line("broken", timestamp=2_000, trace_id=run_id, workspace_id="default", node_id="train", level="error"),
        line("mine, of no run", timestamp=3_000, workspace_id="default", service="resources", level="warning"),
        line("theirs", timestamp=4_000, trace_id=other, workspace_id="other"),
        line("of a service", timestamp=5_000, service="events", event_type="db_query_slow"),
    )
    return run_id


def told(api: Api, query: str = "", **how: str) -> list[str]:
    answer = api.call("GET", f"/v1/logs{query}", **how)
    assert answer.status_code == 200, answer.text
    assert answer.json()["skipped"] == 0
    return [each["message"] for each in answer.json()["lines"]]


def test_a_key_of_one_workspace_sees_its_lines_alone(api: Api, run: str) -> None:
    assert told(api) == ["begun", "broken", "mine, of no run"]
    assert told(api, key=api.new_key("logs:read", workspace="other")) == ["theirs"]


def test_a_key_for_all_workspaces_sees_all_lines_or_those_of_the_one_it_names(api: Api, run: str) -> None:
    key = api.new_key("logs:read", workspace=None)
    assert told(api, key=key) == ["begun", "broken", "mine, of no run", "theirs", "of a service"]
    assert told(api, key=key, Wonder_Workspace="other") == ["theirs"]


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("run={run}", ["begun", "broken"]),
        ("run=latest", ["begun", "broken"]),
        ("node=train", ["broken"]),
        ("level=warning", ["broken", "mine, of no run"]),
        ("service=resources", ["mine, of no run"]),
        ("event_type=std%25", ["begun", "broken", "mine, of no run"]),
        ("text=BROK", ["broken"]),
        ("since_us=2000&until_us=3000", ["broken"]),
        ("limit=1", ["mine, of no run"]),
        ("service=events", []),
    ],
)
def test_lines_are_chosen(api: Api, run: str, query: str, messages: list[str]) -> None:
    assert told(api, f"?{query.format(run=run)}") == messages


def test_a_run_of_another_workspace_is_unknown(api: Api, run: str) -> None:
    assert api.call("GET", f"/v1/logs?run={run}", key=api.new_key("logs:read", workspace="other")).status_code == 404
    assert told(api, f"?run={run}", key=api.new_key("logs:read", workspace=None)) == ["begun", "broken"]


@pytest.mark.parametrize("query", ["level=loud", "service=nobody", "limit=0", "limit=1001", "since_us=-1"])
def test_what_cannot_be_looked_for_is_refused(api: Api, query: str) -> None:
    assert api.call("GET", f"/v1/logs?{query}").status_code == 422


def test_the_archive_is_searched_where_it_is_asked_for(api: Api, run: str, storage: Path) -> None:
    archive_old(storage, before="2999-01-01")
    assert told(api) == []
    assert told(api, "?archive=true") == ["begun", "broken", "mine, of no run"]
