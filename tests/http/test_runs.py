"""Runs over HTTP: what is accepted is durable, what is repeated has no further effect, what is refused says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wonder_ray.errors import ServiceUnavailableError, StorageError

if TYPE_CHECKING:
    from tests.http.world import Api


def test_a_start_is_committed_before_its_202(api: Api) -> None:
    answer = api.call("POST", "/v1/runs", {"workflow": "approval", "input": {"amount": 3}, "labels": {"team": "x"}})
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"/v1/runs/{run_id}"
    assert api.resources.get_run(run_id).labels == {"team": "x"}


def test_a_start_whose_commit_fails_is_no_202(api: Api) -> None:
    api.services.broken["start_run"] = ServiceUnavailableError("the registry did not answer")
    answer = api.call("POST", "/v1/runs", {"workflow": "approval"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert api.resources.list_runs().runs == []


def test_a_start_that_cannot_be_activated_yet_is_accepted(api: Api) -> None:
    api.services.broken["activate"] = ServiceUnavailableError("the directory did not answer")
    assert api.call("POST", "/v1/runs", {"workflow": "approval"}).status_code == 202
    assert len(api.resources.list_runs().runs) == 1


def test_an_idempotency_key_finds_the_first_run(api: Api) -> None:
    body = {"workflow": "approval", "input": {"amount": 3}}
    first, second = (api.call("POST", "/v1/runs", body, Idempotency_Key="monday") for _ in range(2))
    assert first.json()["run_id"] == second.json()["run_id"]
    assert [each.headers.get("idempotent-replayed") for each in (first, second)] == [None, "true"]
    other = api.call("POST", "/v1/runs", body | {"input": 4}, Idempotency_Key="monday")
    assert (other.status_code, other.json()["run_id"]) == (409, first.json()["run_id"])
    elsewhere = api.call("POST", "/v1/runs", body, key=api.new_key("runs:write", workspace="other"), Idempotency_Key="monday")
    assert elsewhere.json()["run_id"] != first.json()["run_id"]


def test_a_run_is_answered_signalled_and_done(api: Api) -> None:
    run_id = api.start()
    shown = api.call("GET", f"/v1/runs/{run_id}").json()
    assert (shown["status"], shown["live"], shown["waiting"][0]["node_id"]) == ("waiting", True, "ask")
    (gate,) = api.call("GET", f"/v1/runs/{run_id}/gates").json()["gates"]
    assert gate["shown"] == {"amount": 5}
    assert api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes", "by": "ann"}).json()["accepted"]
    assert api.call("POST", f"/v1/runs/{run_id}/query", {"expression": "state.answer"}).json() == {"value": "yes"}
    assert api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid", "payload": 7}).json()["delivered"]
    done = api.call("GET", f"/v1/runs/{run_id}").json()
    assert (done["status"], done["output"], done["live"]) == ("completed", {"answer": "yes", "paid": 7}, False)
    refused = api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:wonder-ray:problem:command-refused")


def test_a_command_with_a_key_counts_once(api: Api) -> None:
    run_id = api.start()
    sent = [api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid"}, Idempotency_Key="p-17") for _ in range(2)]
    assert sent[0].json() == sent[1].json()
    assert len(api.services.cores[run_id].events("signal.received")) == 1


def test_a_run_is_paused_resumed_updated_and_cancelled(api: Api) -> None:
    run_id = api.start()
    assert api.call("POST", f"/v1/runs/{run_id}/pause", {"reason": "lunch"}).status_code == 202
    assert api.call("GET", f"/v1/runs/{run_id}").json()["status"] == "paused"
    assert api.call("POST", f"/v1/runs/{run_id}/resume").status_code == 202
    assert api.call("POST", f"/v1/runs/{run_id}/updates", {"changes": {"state.limit": 5}}).status_code == 202
    assert api.call("GET", f"/v1/runs/{run_id}/state").json()["state"] == {"limit": 5}
    assert api.call("POST", f"/v1/runs/{run_id}/cancel", {"reason": "enough"}).status_code == 202
    assert api.call("GET", f"/v1/runs/{run_id}").json()["status"] == "cancelled"


def test_a_fork_begins_where_it_is_told(api: Api) -> None:
    run_id = api.start()
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    made = api.call("POST", f"/v1/runs/{run_id}/forks", {"set": {"state.answer": "no"}}, Idempotency_Key="again")
    assert made.status_code == 202
    fork_id = made.json()["run_id"]
    assert api.call("GET", f"/v1/runs/{fork_id}/state").json()["state"] == {"answer": "no"}
    again = api.call("POST", f"/v1/runs/{run_id}/forks", {"set": {"state.answer": "no"}}, Idempotency_Key="again")
    assert again.json()["run_id"] == fork_id


def test_the_state_at_an_event(api: Api) -> None:
    run_id = api.start()
    then = len(api.services.cores[run_id].rows)
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    assert api.call("GET", f"/v1/runs/{run_id}/state?at={then}").json()["state"] == {}
    assert api.call("GET", f"/v1/runs/{run_id}/state").json()["state"] == {"answer": "yes"}


def test_runs_are_listed_in_pages(api: Api) -> None:
    started = [api.start() for _ in range(3)]
    first = api.call("GET", "/v1/runs?limit=2").json()
    second = api.call("GET", f"/v1/runs?limit=2&cursor={first['cursor']}").json()
    assert [each["run_id"] for each in first["runs"] + second["runs"]] == started[::-1]
    assert second["cursor"] is None
    assert api.call("GET", "/v1/runs?status=failed").json()["runs"] == []


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"workflow": "nobody"}, 422, "definition-refused"),
        ({"workflow": "approval", "version": "0" * 64}, 422, "definition-refused"),
        ({"workflow": "approval", "unknown": 1}, 422, "invalid"),
        ({"workflow": "approval", "labels": {"a": 1}}, 422, "invalid"),
        ({"workflow": "approval", "project": "nowhere"}, 404, "not-found"),
        ({}, 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
def test_a_start_that_cannot_be_says_why(api: Api, body: object, status: int, kind: str) -> None:
    answer = api.call("POST", "/v1/runs", body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:wonder-ray:problem:{kind}"), answer.text
    assert api.resources.list_runs().runs == []


def test_what_is_refused_is_not_quoted(api: Api) -> None:
    answer = api.call("POST", "/v1/runs", {"workflow": ["hunter2"]})
    assert "hunter2" not in answer.text


def test_an_error_of_the_service_tells_no_path(api: Api) -> None:
    api.services.broken["list_runs"] = StorageError("/var/lib/wonder/resources.sqlite is damaged")
    answer = api.call("GET", "/v1/runs")
    assert answer.status_code == 500
    assert "/var/lib" not in answer.text
    assert "/var/lib" in repr(api.log.lines)


def test_an_unexpected_error_is_a_problem_with_a_log_line(api: Api) -> None:
    api.services.broken["list_runs"] = RuntimeError("a bug")
    answer = api.call("GET", "/v1/runs", X_Request_ID="r-1")
    assert (answer.status_code, answer.json()["request_id"], answer.headers["x-request-id"]) == (500, "r-1", "r-1")
    assert "a bug" not in answer.text
    (line,) = [message for level, kind, message, _ in api.log.lines if kind == "request_failed"]
    assert line == "a bug"
