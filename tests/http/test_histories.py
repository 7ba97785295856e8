"""Pages and streams of events: each event once, in order, from wherever a reader was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.http.world import Api
from tests.remote.carrying import InProcess
from wonder_ray.http import Limits
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.remote import connect
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path


def messages(text: str) -> list[dict[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append({"id": int(fields["id"]), "event": fields["event"], "data": msgspec.json.decode(fields["data"])})
    return found


def ended(api: Api) -> str:
    run_id = api.start()
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid"})
    return run_id


def test_pages_follow_each_other_without_hole_or_overlap(api: Api) -> None:
    run_id, after, seen = ended(api), 0, []
    while rows := (page := api.call("GET", f"/v1/runs/{run_id}/events?limit=3&after={after}").json())["rows"]:
        seen += [row["sequence_number"] for row in rows]
        after = page["last"]
    assert seen == list(range(1, len(api.services.cores[run_id].rows) + 1))


def test_an_event_has_its_details_decoded(api: Api) -> None:
    run_id = ended(api)
    first = api.call("GET", f"/v1/runs/{run_id}/events?limit=1").json()["rows"][0]
    assert (first["event_type"], first["details"]["input"]) == ("workflow.started", {"amount": 5})


@pytest.mark.parametrize("seen", [0, 1, 4])
def test_a_stream_goes_on_after_the_last_event_seen(api: Api, seen: int) -> None:
    run_id = ended(api)
    answer = api.call("GET", f"/v1/runs/{run_id}/events/stream?after=1", Last_Event_ID=str(seen))
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = messages(answer.text)
    assert [each["id"] for each in found] == list(range(seen + 1, len(api.services.cores[run_id].rows) + 1))
    assert (found[-1]["event"], found[-1]["data"]["event_type"]) == ("workflow.completed", "workflow.completed")


def test_a_stream_that_was_seen_whole_is_not_to_be_opened_again(api: Api) -> None:
    run_id = ended(api)
    last = len(api.services.cores[run_id].rows)
    assert api.call("GET", f"/v1/runs/{run_id}/events/stream", Last_Event_ID=str(last)).status_code == 204


def test_a_stream_of_a_run_that_goes_on_ends_after_its_time_and_is_resumed(storage: Path) -> None:
    api = Api(storage, Limits(stream_s=0.01))
    run_id = api.start()
    first = messages(api.call("GET", f"/v1/runs/{run_id}/events/stream").text)
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    second = messages(api.call("GET", f"/v1/runs/{run_id}/events/stream", Last_Event_ID=str(first[-1]["id"])).text)
    assert [each["id"] for each in first + second] == list(range(1, len(api.services.cores[run_id].rows) + 1))
    assert second


def test_a_stream_holds_so_much_and_no_more_and_is_resumed(storage: Path) -> None:
    """Ray Serve keeps in memory what a client does not read."""
    api = Api(storage, Limits(stream_bytes=600))
    run_id, seen, streams = ended(api), [0], 0
    while (answer := api.call("GET", f"/v1/runs/{run_id}/events/stream", Last_Event_ID=str(seen[-1]))).status_code == 200:
        found = messages(answer.text)
        assert len(answer.content) - len(answer.text.rpartition("id: ")[2]) < 700
        seen += [each["id"] for each in found]
        streams += 1
    assert seen == list(range(len(api.services.cores[run_id].rows) + 1))
    assert streams > 2
    followed = connect("http://test", api_key=api.key, transport=InProcess(api)).run(run_id).events(follow=True)
    assert [row.sequence_number for row in followed] == seen[1:]


@pytest.mark.parametrize("bad", ["-1", "x", "9" * 30, "1.5"])
def test_a_malformed_event_id_is_refused(api: Api, bad: str) -> None:
    run_id = api.start()
    assert api.call("GET", f"/v1/runs/{run_id}/events/stream", Last_Event_ID=bad).status_code == 422


def test_the_log_of_a_run_and_of_no_other(api: Api, storage: Path) -> None:
    run_id, other = api.start(), api.start("other")
    store = LogStore(Layout(storage).logs, "test")
    line = LogLine(timestamp=1, level="info", service="executor", event_type="stdout", message="mine", trace_id=run_id)
    store.append([line, msgspec.structs.replace(line, message="theirs", trace_id=other)], 1)
    store.close()
    lines = api.call("GET", f"/v1/runs/{run_id}/logs").json()["lines"]
    assert [each["message"] for each in lines] == ["mine"]
    assert api.call("GET", f"/v1/runs/{run_id}/logs?level=error").json()["lines"] == []
