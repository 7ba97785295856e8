from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wonder_ray.errors import (
    DefinitionError,
    InputError,
    KeyConflictError,
    RunNotFoundError,
    StaleEpochError,
    StorageError,
    WonderError,
)
from wonder_ray.resources.checks import INPUT_BYTES_MAX
from wonder_ray.resources.records import BundleContent, RunProjection, StartRequest
from wonder_ray.resources.request_log import NullLog
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from pathlib import Path

    from tests.resources.lines import Lines

DEFINITION = b'{"name":"crawl","nodes":[],"input":{"type":"object","required":["site"],"properties":{"site":{"type":"string"}}}}'
GOOD = b'{"site":"x"}'


@pytest.fixture
def service(log: Lines) -> ResourcesService:
    service = ResourcesService(":memory:", log=log)
    service.put_definition(DEFINITION)
    log.lines.clear()
    return service


@pytest.mark.parametrize(
    "given", [b'{"site":5}', b"{}", b"nonsense", b"[" * 100 + b"]" * 100, b'"' + b"x" * INPUT_BYTES_MAX + b'"']
)
def test_a_rejected_input_leaves_one_line_and_nothing_else(service: ResourcesService, log: Lines, given: bytes) -> None:
    with pytest.raises(InputError):
        service.start_run(StartRequest(workflow_name="crawl", input=given, key="k"))
    assert log.kinds() == [("warning", "input_rejected")]
    assert service.list_runs().runs == []
    assert service.find_run("k") is None


def test_the_line_of_a_rejected_input_does_not_quote_it(service: ResourcesService, log: Lines) -> None:
    with pytest.raises(InputError, match="12345678"):
        service.start_run(StartRequest(workflow_name="crawl", input=b'{"site":12345678}'))
    assert log.lines[0][3]["pointer"] == "/site"
    assert "12345678" not in str(log.lines)


def test_creations_are_logged_once(service: ResourcesService, log: Lines) -> None:
    request = StartRequest(workflow_name="crawl", input=GOOD, key="k")
    run, created = service.start_run(request)
    assert created
    assert service.start_run(request) == (run, False)
    service.put_definition(DEFINITION)
    service.put_definition(b'{"name":"walk","nodes":[]}')
    assert log.kinds() == [("info", "run_created"), ("info", "definition_created")]
    assert log.lines[0][3]["trace_id"] == run.run_id


def test_a_repetition_by_key_holds_even_if_the_latest_version_would_refuse_it(service: ResourcesService) -> None:
    run, _ = service.start_run(StartRequest(workflow_name="crawl", input=GOOD, key="k"))
    service.put_definition(b'{"name":"crawl","nodes":[],"input":{"type":"integer"}}')
    assert service.start_run(StartRequest(workflow_name="crawl", input=GOOD, key="k")) == (run, False)
    with pytest.raises(InputError):
        service.start_run(StartRequest(workflow_name="crawl", input=GOOD))
    service.start_run(StartRequest(workflow_name="crawl", workflow_version=run.workflow_version, input=GOOD))


def test_of_large_schemas_only_some_are_kept(service: ResourcesService) -> None:
    for number in range(30):
        text = b'{"name":"large%d","nodes":[],"input":{"description":"%s","required":["n%d"]}}' % (number, b"x" * 250_000, number)
        service.put_definition(text)
        service.start_run(StartRequest(workflow_name=f"large{number}", input=b'{"n%d":1}' % number))
    assert service._schemas.size == sum(size for _, size in service._schemas._values.values()) <= 4 * 1024 * 1024
    assert 10 < len(service._schemas) < 30
    for number in (0, 29):  # whether kept or not
        service.start_run(StartRequest(workflow_name=f"large{number}", input=b'{"n%d":1}' % number))
        with pytest.raises(InputError):
            service.start_run(StartRequest(workflow_name=f"large{number}", input=b"{}"))


def test_a_run_has_the_version_that_its_input_was_checked_against(
    service: ResourcesService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer one that comes in between may refuse the input."""
    first = service.put_definition(b'{"name":"moving","nodes":[],"input":{"required":["old"]}}')
    create = service._store.create_run

    def overtaken(request: StartRequest, **given: Any) -> Any:
        service.put_definition(b'{"name":"moving","nodes":[],"input":{"required":["new"]}}')
        return create(request, **given)

    with monkeypatch.context() as patched:
        patched.setattr(service._store, "create_run", overtaken)
        run, _ = service.start_run(StartRequest(workflow_name="moving", input=b'{"old":1}', key="k"))
    assert run.workflow_version == first
    for version in (None, "latest", first):
        again = service.start_run(StartRequest(workflow_name="moving", input=b'{"old":1}', key="k", workflow_version=version))
        assert again == (run, False)
    with pytest.raises(InputError):
        service.start_run(StartRequest(workflow_name="moving", input=b'{"old":1}'))


def test_a_repetition_by_run_id_holds_even_if_the_latest_version_would_refuse_it(service: ResourcesService) -> None:
    """A parent repeats the start of its child after a crash, by name and id."""
    request = StartRequest(workflow_name="crawl", workflow_version="latest", input=GOOD, run_id=f"run_{1:012x}_{1:016x}", depth=1)
    child, created = service.start_run(request)
    assert created
    service.put_definition(b'{"name":"crawl","nodes":[],"input":{"type":"integer"}}')
    assert service.start_run(request) == (child, False)


def test_a_key_finds_its_run_when_only_the_code_bundle_is_another(service: ResourcesService) -> None:
    versions = []
    for code in ("a" * 64, "b" * 64):
        service.put_bundle(code, BundleContent())
        versions.append(service.put_definition(b'{"name":"walk","bundle":"%s"}' % code.encode()))
    requests = [StartRequest(workflow_name="walk", key="k", workflow_version=version) for version in versions]
    (first, _), (again, created) = map(service.start_run, requests)
    assert (again, created) == (first, False)


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": "x" * 300},
        {"key": "a\nb"},
        {"workspace_id": "a/b"},
        {"project_id": ""},
        {"workflow_name": "../x"},
        {"labels": {str(i): "" for i in range(100)}},
        {"labels": {"a": "x" * 300}},
        {"run_id": "mine"},
        {"depth": -1},
        {"workflow_name": "unknown"},
    ],
)
def test_a_malformed_start_is_refused_and_logged(service: ResourcesService, log: Lines, change: dict[str, Any]) -> None:
    request = msgspec.structs.replace(StartRequest(workflow_name="crawl", input=GOOD), **change)
    with pytest.raises(WonderError):
        service.start_run(request)
    assert log.kinds() == [("warning", "validation_failed")]
    assert service.list_runs().runs == []


def test_a_definition_with_a_bad_input_schema_is_refused(service: ResourcesService, log: Lines) -> None:
    with pytest.raises(DefinitionError, match="no JSON Schema"):
        service.put_definition(b'{"name":"bad","nodes":[],"input":{"type":"strin"}}')
    assert log.kinds() == [("warning", "validation_failed")]
    assert service.list_definitions(name="bad").definitions == []


def test_refusals_are_told_apart_in_the_log(service: ResourcesService, log: Lines) -> None:
    run, _ = service.start_run(StartRequest(workflow_name="crawl", input=GOOD, key="k"))
    service.take_epoch(run.run_id, 4, None)
    with pytest.raises(KeyConflictError):
        service.start_run(StartRequest(workflow_name="crawl", input=b'{"site":"y"}', key="k"))
    with pytest.raises(StaleEpochError):
        service.report(run.run_id, 4, RunProjection(events=1))
    with pytest.raises(RunNotFoundError):
        service.get_run("run_f")
    kinds = [name for _, name in log.kinds()]
    assert kinds == ["run_created", "epoch_taken", "key_conflict", "stale_epoch_refused", "run_not_found"]


def test_slow_queries_are_logged_with_their_duration(log: Lines) -> None:
    service = ResourcesService(":memory:", log=log, slow_query_ms=0)
    service.list_runs()
    service.put_definition(DEFINITION)
    slow = [fields for _, kind, _, fields in log.lines if kind == "db_query_slow"]
    assert [fields["query"] for fields in slow] == ["list_runs", "put_definition"]
    assert all(fields["duration_ms"] >= 0 for fields in slow)


def test_a_failing_database_is_logged_as_an_error(tmp_path: Path, log: Lines) -> None:
    service = ResourcesService(tmp_path / "r", log=log)
    service.close()
    (tmp_path / "r").write_bytes(b"overwritten" * 1000)
    with pytest.raises(StorageError):
        service.list_runs()
    assert log.kinds() == [("error", "db_error")]


def test_the_whole_life_of_a_run_goes_through_the_service() -> None:
    service = ResourcesService(":memory:", log=NullLog())
    version = service.put_definition(DEFINITION)
    assert service.get_definition("crawl").version == version
    run, _ = service.start_run(StartRequest(workflow_name="crawl", input=GOOD))
    assert [each.run_id for each in service.unfinished()] == [run.run_id]
    epoch = service.take_epoch(run.run_id, service.take_service_epoch("events"), {"kind": "dedicated"})
    assert service.report(run.run_id, epoch, RunProjection(tokens=1))
    assert service.release_placement(run.run_id, epoch)
    assert service.get_run("latest").tokens == 1
    service.close()
