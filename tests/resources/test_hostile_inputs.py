"""Hostile inputs at the doors of the registry, on SQLite and on PostgreSQL: they are refused, or find nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.security.corpus import registry_cases
from tests.security.hostile import IDS, SQL
from tests.security.knocking import knock
from wonder_ray.errors import WonderError
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = {"team": "data"}


def started(place: str) -> ResourcesService:
    service = ResourcesService(place)
    service.put_definition(b'{"name":"w","nodes":[]}')
    service.start_run(StartRequest(workflow_name="w", labels=LABELS))
    return service


def test_hostile_inputs_are_refused(place: str) -> None:
    service = started(place)
    before = service.list_runs().runs
    cases = list(registry_cases(service))
    assert len(cases) >= 600
    problems = {f"{case.door} {case.shown}": problem for case in cases if (problem := knock(case)) is not None}
    assert problems == {}
    assert service.list_runs().runs == before
    assert [each.name for each in service.list_definitions().definitions] == ["w"]
    service.close()


def test_hostile_filters_find_nothing(place: str) -> None:
    service = started(place)
    assert len(service.list_runs(labels=LABELS).runs) == 1

    def found(filters: dict[str, Any]) -> Iterator[object]:
        with suppress(WonderError):
            yield from service.list_runs(**filters).runs

    for text in [*IDS, *SQL, "team' OR '1'='1", "team') --", "$.team", "team]", '"team"', "data' OR '1'='1"]:
        tried: tuple[dict[str, Any], ...] = (
            {"labels": {text: "data"}},
            {"labels": {"team": text}},
            {"workflow": text},
            {"project_id": text},
        )
        for filters in tried:
            assert list(found(filters)) == [], filters
    service.close()
