from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from wonder_ray.errors import KeyConflictError
from wonder_ray.resources.records import StartRequest

if TYPE_CHECKING:
    from wonder_ray.resources.store import ResourcesStore


IDS = [f"run_{0:012x}_{number:016x}" for number in range(3)]


def test_a_child_is_started_once_in_the_latest_version_or_a_pinned_one(store: ResourcesStore) -> None:
    first = store.get_definition("crawl", "latest").version
    parent = store.create_run(StartRequest(workflow_name="crawl"))[0]
    request = StartRequest(
        workflow_name="crawl",
        workflow_version="latest",
        run_id=IDS[0],
        parent_run_id=parent.run_id,
        parent_token_id="t_1",
        root_run_id=parent.run_id,
        depth=1,
        fork=b'{"run_id":"r","sequence":3,"changes":{}}',
    )
    child, created = store.create_run(request)
    second, _ = store.put_definition(b'{"name":"crawl","nodes":[2]}')
    assert created
    assert store.create_run(request) == (child, False)
    assert store.started_before(request) == child == store.get_run(child.run_id)
    assert (child.workflow_version, child.depth, child.parent_token_id, child.root_run_id, child.fork) == (
        first,
        1,
        "t_1",
        parent.run_id,
        request.fork,
    )
    pinned = msgspec.structs.replace(request, workflow_version=first, run_id=IDS[1])
    newest = msgspec.structs.replace(request, run_id=IDS[2])
    assert [store.create_run(each)[0].workflow_version for each in (pinned, newest)] == [first, second]
    for other, what in (
        (msgspec.structs.replace(request, parent_run_id=None), "parent"),
        (msgspec.structs.replace(request, fork=None), "fork"),
    ):
        with pytest.raises(KeyConflictError, match=f"another {what}"):
            store.create_run(other)
