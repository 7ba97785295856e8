"""Conformance: the same laws on a file, in memory and in PostgreSQL."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wonder_ray.errors import (
    DefinitionError,
    KeyConflictError,
    RunNotFoundError,
    StaleEpochError,
    StorageError,
    WonderError,
)
from wonder_ray.resources.records import RunProjection, RunRecord, StartRequest
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.state import RunStatus

if TYPE_CHECKING:
    from pathlib import Path

PLACE = {"kind": "dedicated", "node": "n1", "host": "h", "pid": 7}


def start(store: ResourcesStore, key: str | None = None, run_id: str | None = None, workflow: str = "crawl") -> RunRecord:
    return store.create_run(StartRequest(workflow_name=workflow, key=key, run_id=run_id))[0]


def run_id_of(prefix: str) -> str:
    return f"run_{prefix:0<12}_{0:016x}"


# ----------------------------------------------------------------------------------------------------------- definitions


def test_a_definition_is_named_by_its_content_and_registered_once(store: ResourcesStore) -> None:
    one = store.put_definition(b'{"name":"a","nodes":[],"bundle":"b1"}')
    again = store.put_definition(b'{ "bundle": "b1", "nodes": [], "name": "a" }')
    found = store.get_definition("a", one[0])
    assert one[1]
    assert again == (one[0], False)
    assert (found.version, found.bundle) == (hashlib.sha256(found.definition).hexdigest(), "b1")


def test_the_latest_definition_is_the_one_registered_last(store: ResourcesStore) -> None:
    first, _ = store.put_definition(b'{"name":"a","nodes":[1]}')
    second, _ = store.put_definition(b'{"name":"a","nodes":[2]}')
    store.put_definition(b'{"name":"a","nodes":[1]}')
    assert store.get_definition("a").version == second
    assert [each.version for each in store.list_definitions(name="a").definitions] == [second, first]
    assert {each.name for each in store.list_definitions().definitions} == {"a", "crawl"}


def test_workspaces_do_not_see_each_other(store: ResourcesStore) -> None:
    store.workspaces.create("other", "")
    store.put_definition(b'{"name":"crawl","nodes":[]}', workspace_id="other")
    store.create_run(StartRequest(workflow_name="crawl", key="k", workspace_id="other"))
    assert store.find_run("k") is None
    assert store.list_runs().runs == []
    assert len(store.list_definitions(workspace_id="other").definitions) == 1


@pytest.mark.parametrize("definition", [b"[]", b"{}", b'{"name": 5}', b'{"name": "a b"}', b"nonsense", b'{"name": "a/../b"}'])
def test_a_definition_without_a_usable_name_is_refused(store: ResourcesStore, definition: bytes) -> None:
    with pytest.raises(WonderError):
        store.put_definition(definition)


def test_other_content_under_a_stored_version_is_refused(tmp_path: Path) -> None:
    store = ResourcesStore(tmp_path / "r.sqlite")
    version, _ = store.put_definition(b'{"name":"a","nodes":[]}')
    with sqlite3.connect(tmp_path / "r.sqlite") as connection:
        connection.execute("update definitions set definition = ?", (b'{"name":"a"}',))
    connection.close()
    with pytest.raises(DefinitionError, match="immutable"):
        store.put_definition(b'{"name":"a","nodes":[]}')
    with pytest.raises(StorageError, match="damaged"):
        store.get_definition("a", version)


# ---------------------------------------------------------------------------------------------------------------- starts


def test_a_new_run_is_queued_without_epoch_and_placement(store: ResourcesStore) -> None:
    request = StartRequest(workflow_name="crawl", input=b'{"b":1,"a":2}', labels={"team": "x"}, trace=True, key="k")
    run, created = store.create_run(request)
    assert created
    assert (run.status, run.epoch, run.placement, run.root_run_id) == (RunStatus.QUEUED, 0, None, run.run_id)
    assert store.get_run(run.run_id) == run == store.find_run("k")
    assert (run.input, run.labels, run.trace) == (b'{"b":1,"a":2}', {"team": "x"}, True)


def test_the_same_key_finds_the_same_run_however_its_input_is_spelled(store: ResourcesStore) -> None:
    first = store.create_run(StartRequest(workflow_name="crawl", key="k", input=b'{"a":1,"b":[2]}'))
    again = store.create_run(StartRequest(workflow_name="crawl", key="k", input=b'{ "b": [2], "a": 1 }'))
    assert again == (first[0], False)


def test_a_reused_key_is_refused_with_what_differs(store: ResourcesStore) -> None:
    version, _ = store.put_definition(b'{"name":"crawl","nodes":[2]}')
    run = start(store, "k")
    for request, what in (
        (StartRequest(workflow_name="crawl", key="k", input=b"1"), "another input"),
        (StartRequest(workflow_name="walk", key="k"), "another workflow"),
        (StartRequest(workflow_name="crawl", workflow_version="0" * 64, key="k"), "another version"),
    ):
        with pytest.raises(KeyConflictError, match=what) as caught:
            store.create_run(request)
        assert run.run_id in str(caught.value)
        assert caught.value.run_id == run.run_id
    assert run.workflow_version == version
    assert len(store.list_runs().runs) == 1


def test_a_key_finds_its_run_when_only_the_code_bundle_is_another(store: ResourcesStore) -> None:
    """A bundle holds the neighbours of a workflow's file: a note beside it must not make a retried start fail."""
    versions = [store.put_definition(b'{"name":"crawl","nodes":[],"bundle":"%s"}' % code)[0] for code in (b"a", b"b")]
    first, again = (
        store.create_run(StartRequest(workflow_name="crawl", workflow_version=version, key="k")) for version in versions
    )
    assert again == (first[0], False)
    assert first[0].workflow_version == versions[0]
    other, _ = store.put_definition(b'{"name":"crawl","nodes":[1],"bundle":"b"}')
    with pytest.raises(KeyConflictError, match="another version"):
        store.create_run(StartRequest(workflow_name="crawl", workflow_version=other, key="k"))


def test_a_repetition_by_key_outlives_a_new_version(store: ResourcesStore) -> None:
    run = start(store, "k")
    store.put_definition(b'{"name":"crawl","nodes":[2]}')
    assert start(store, "k") == run


def test_a_repetition_by_run_id_finds_the_run(store: ResourcesStore) -> None:
    run_id = run_id_of("1")
    assert start(store, run_id=run_id) == start(store, run_id=run_id)
    with pytest.raises(KeyConflictError, match="another key"):
        start(store, key="k", run_id=run_id)
    assert len(store.list_runs().runs) == 1


@pytest.mark.parametrize("run_id", ["../x", "run_1", "run_" + "0" * 12 + "_" + "0" * 16 + "/"])
def test_a_run_id_that_the_system_cannot_have_made_is_refused(store: ResourcesStore, run_id: str) -> None:
    with pytest.raises(WonderError, match="not a run id"):
        start(store, run_id=run_id)


def test_a_run_needs_a_registered_definition(store: ResourcesStore) -> None:
    with pytest.raises(DefinitionError, match="not registered"):
        start(store, workflow="nowhere")
    with pytest.raises(DefinitionError, match="version 000"):
        store.create_run(StartRequest(workflow_name="crawl", workflow_version="0" * 64))


def test_errors_survive_pickling(store: ResourcesStore) -> None:
    start(store, "k")
    with pytest.raises(KeyConflictError) as caught:
        store.create_run(StartRequest(workflow_name="crawl", key="k", input=b"1"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.run_id) == (str(caught.value), caught.value.run_id)


def test_many_threads_with_one_key_make_one_run(store: ResourcesStore) -> None:
    made: list[tuple[RunRecord, bool]] = []

    def work(number: int) -> None:
        for i in range(5):
            made.append(store.create_run(StartRequest(workflow_name="crawl", key=f"shared-{i}")))
            start(store, f"own-{number}-{i}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.run_id for run, _ in made}) == 5
    assert sum(created for _, created in made) == 5
    assert len(store.list_runs(limit=1000).runs) == 45


# ---------------------------------------------------------------------------------------------------------------- epochs


def test_an_epoch_lies_above_the_stored_and_the_known_one(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    assert [store.take_epoch(run_id, known, PLACE) for known in (0, 0, 7, 3)] == [1, 2, 8, 9]
    assert store.get_run(run_id).epoch == 9
    assert store.get_run(run_id).placement == PLACE


def test_only_the_placement_of_the_current_epoch_is_released(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    old = store.take_epoch(run_id, 0, PLACE)
    new = store.take_epoch(run_id, 0, PLACE)
    assert not store.release_placement(run_id, old)
    assert store.get_run(run_id).placement == PLACE
    assert store.release_placement(run_id, new)
    assert store.get_run(run_id).placement is None


def test_an_ended_run_still_gives_epochs(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    store.report(run_id, store.take_epoch(run_id, 0, PLACE), RunProjection(status=RunStatus.COMPLETED))
    assert store.take_epoch(run_id, 0, PLACE) == 2


def test_service_epochs_count_by_name(store: ResourcesStore) -> None:
    assert [store.take_service_epoch(name) for name in ("events", "events", "other", "events")] == [1, 2, 1, 3]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["k1", "k2"]), st.integers(0, 5), st.booleans()), max_size=20))
def test_two_stores_on_one_file_agree_on_keys_and_never_reuse_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("two") / "r.sqlite"
    stores = [ResourcesStore(path), ResourcesStore(path)]
    stores[0].put_definition(b'{"name":"crawl","nodes":[]}')
    runs: dict[str, str] = {}
    epochs: dict[str, int] = {}
    for who, key, known, reopen in steps:
        run, created = stores[who].create_run(StartRequest(workflow_name="crawl", key=key))
        assert created == (key not in runs)
        assert runs.setdefault(key, run.run_id) == run.run_id
        epoch = stores[who].take_epoch(run.run_id, known, None)
        assert epoch > max(known, epochs.get(key, 0))
        epochs[key] = epoch
        if reopen:
            stores[who].close()
            stores[who] = ResourcesStore(path)
    for store in stores:
        store.close()


# --------------------------------------------------------------------------------------------------------------- reports


def test_a_report_is_projected_and_gives_the_duration(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    epoch = store.take_epoch(run_id, 0, PLACE)
    assert store.report(run_id, epoch, RunProjection(status=RunStatus.RUNNING, started_us=1_000_000, events=2))
    assert store.report(
        run_id, epoch, RunProjection(status=RunStatus.COMPLETED, ended_us=1_002_500, output=b"5", events=9, tokens=3)
    )
    run = store.get_run(run_id)
    assert (run.status, run.started_us, run.output, run.events, run.tokens) == (RunStatus.COMPLETED, 1_000_000, b"5", 9, 3)
    assert run.duration_ms == 2.5
    assert run.ended


def test_a_fenced_reporter_is_told_to_stop(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    old = store.take_epoch(run_id, 0, PLACE)
    store.take_epoch(run_id, 0, PLACE)
    with pytest.raises(StaleEpochError, match="stop"):
        store.report(run_id, old, RunProjection(status=RunStatus.RUNNING))
    assert store.get_run(run_id).status == RunStatus.QUEUED


def test_a_terminal_status_stays(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    epoch = store.take_epoch(run_id, 0, PLACE)
    assert store.report(run_id, epoch, RunProjection(status=RunStatus.FAILED, error=b"{}", events=5))
    ended = store.get_run(run_id)
    for later, status in (
        (epoch, RunStatus.RUNNING),
        (epoch, RunStatus.COMPLETED),
        (epoch + 1, RunStatus.RUNNING),
        (epoch, None),
    ):
        assert not store.report(run_id, later, RunProjection(status=status, events=6, output=b"1"))
    assert store.get_run(run_id) == ended
    assert store.report(run_id, epoch, RunProjection(status=RunStatus.FAILED, events=5))


def test_an_overtaken_report_is_dropped(store: ResourcesStore) -> None:
    run_id = start(store).run_id
    epoch = store.take_epoch(run_id, 0, PLACE)
    assert store.report(run_id, epoch, RunProjection(status=RunStatus.RUNNING, events=8, tokens=4))
    assert not store.report(run_id, epoch, RunProjection(status=RunStatus.RUNNING, events=3, tokens=1))
    assert store.get_run(run_id).tokens == 4
    # A rebuilt run may have lost history: under a newer epoch fewer events are news.
    assert store.report(run_id, store.take_epoch(run_id, 0, PLACE), RunProjection(events=3))


# --------------------------------------------------------------------------------------------------------------- queries


def test_unknown_runs_are_told(store: ResourcesStore) -> None:
    for ask in (
        lambda: store.get_run(run_id_of("f")),
        lambda: store.resolve_run("latest"),
        lambda: store.resolve_run(""),
        lambda: store.resolve_run("%"),
        lambda: store.take_epoch(run_id_of("f"), 0, None),
        lambda: store.release_placement(run_id_of("f"), 1),
        lambda: store.report(run_id_of("f"), 1, RunProjection()),
    ):
        with pytest.raises(RunNotFoundError):
            ask()


def test_a_run_is_found_by_a_unique_prefix_or_as_the_latest(store: ResourcesStore) -> None:
    one, two = start(store, run_id=run_id_of("2abc")), start(store, run_id=run_id_of("2abd"))
    assert store.resolve_run("run_2abc") == store.resolve_run(one.run_id) == one
    assert store.resolve_run("latest") == two
    with pytest.raises(RunNotFoundError, match="several") as caught:
        store.resolve_run("run_2ab")
    assert one.run_id in str(caught.value)
    assert two.run_id in str(caught.value)


def test_a_prefix_of_very_many_runs_lists_only_some(store: ResourcesStore) -> None:
    for i in range(15):
        start(store, run_id=run_id_of(f"3{i:02}"))
    with pytest.raises(RunNotFoundError, match=r"\.\.\.") as caught:
        store.resolve_run("run_3")
    assert len(str(caught.value).splitlines()) == 12


def test_unfinished_runs_come_oldest_first_from_all_workspaces(store: ResourcesStore) -> None:
    store.workspaces.create("other", "")
    store.put_definition(b'{"name":"crawl","nodes":[]}', workspace_id="other")
    one, ended = start(store), start(store)
    other, _ = store.create_run(StartRequest(workflow_name="crawl", workspace_id="other"))
    store.report(ended.run_id, store.take_epoch(ended.run_id, 0, None), RunProjection(status=RunStatus.CANCELLED))
    assert [run.run_id for run in store.unfinished()] == [one.run_id, other.run_id]


def test_runs_are_listed_by_status_and_workflow(store: ResourcesStore) -> None:
    store.put_definition(b'{"name":"walk","nodes":[]}')
    crawl, walk = start(store), start(store, workflow="walk")
    store.report(walk.run_id, 1, RunProjection(status=RunStatus.RUNNING))
    assert [run.run_id for run in store.list_runs(workflow="crawl").runs] == [crawl.run_id]
    assert [run.run_id for run in store.list_runs(status="running").runs] == [walk.run_id]
    with pytest.raises(WonderError, match="one of queued"):
        store.list_runs(status="done")


@settings(max_examples=20)
@given(count=st.integers(0, 12), size=st.integers(1, 6), meanwhile=st.integers(0, 2))
def test_pages_joined_are_the_list_whatever_starts_meanwhile(count: int, size: int, meanwhile: int) -> None:
    store = ResourcesStore(":memory:")
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    made = [start(store).run_id for _ in range(count)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = store.list_runs(limit=size, cursor=cursor)
        seen += [run.run_id for run in page.runs]
        assert len(page.runs) == size or page.cursor is None
        cursor = page.cursor
        if cursor is None:
            break
        for _ in range(meanwhile):
            start(store)
    assert seen == made[::-1]
    store.close()


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1;drop table runs", "9" * 30, "²"])
def test_a_foreign_cursor_is_refused(store: ResourcesStore, cursor: str) -> None:
    with pytest.raises(WonderError, match="cursor"):
        store.list_runs(cursor=cursor)


def test_a_whole_id_is_found_in_its_workspace_alone(store: ResourcesStore) -> None:
    run = start(store, "k")
    store.workspaces.create("other", "")
    assert store.resolve_run(run.run_id) == store.resolve_run(run.run_id, workspace_id="default") == run
    with pytest.raises(RunNotFoundError, match="no run"):
        store.resolve_run(run.run_id, workspace_id="other")
