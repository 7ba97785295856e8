from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.errors import ActionNotFoundError, ConflictError, DefinitionError, NotFoundError, WonderError
from wonder_ray.resources.records import BundleContent, RunFilter, RunProjection, StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.state import RunStatus
from wonder_ray.values import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.resources.lines import Lines
    from wonder_ray.clock import SimulatedClock

FLOW = b'{"name":"crawl","nodes":[]}'


@pytest.fixture
def service(place: str, clock: SimulatedClock, log: Lines) -> Iterator[ResourcesService]:
    service = ResourcesService(place, log=log, clock=clock)
    yield service
    service.close()


def start(service: ResourcesService, **fields: Any) -> str:
    return service.start_run(StartRequest(workflow_name="crawl", **fields))[0].run_id


# --- workspaces and projects -----------------------------------------------------------------------------------------------


def test_a_new_registry_has_the_default_workspace_and_project(service: ResourcesService) -> None:
    assert [each.workspace_id for each in service.list_workspaces()] == ["default"]
    assert [each.project_id for each in service.list_projects()] == ["default"]


def test_a_workspace_is_made_changed_and_removed(service: ResourcesService, log: Lines) -> None:
    made = service.create_workspace("team", description="ours")
    assert service.get_workspace("team") == made
    assert [each.project_id for each in service.list_projects(workspace_id="team")] == ["default"]
    assert service.update_workspace("team", description="yours", rate_per_s=5).rate_per_s == 5
    assert service.update_workspace("team", rate_per_s=7, burst=9).description == "yours"
    assert service.update_workspace("team").burst == 9
    assert service.update_workspace("team", unlimited=True).rate_per_s is None
    service.delete_workspace("team")
    with pytest.raises(NotFoundError):
        service.get_workspace("team")
    kinds = [kind for _, kind in log.kinds()]
    assert kinds == ["workspace_created", *["workspace_updated"] * 4, "workspace_deleted", "workspace_not_found"]


def test_a_project_is_made_changed_and_removed(service: ResourcesService, log: Lines) -> None:
    made = service.create_project("search", description="of words")
    assert service.get_project("search") == made
    assert service.update_project("search", description="of more").description == "of more"
    service.delete_project("search")
    with pytest.raises(NotFoundError):
        service.get_project("search")
    assert [kind for _, kind in log.kinds()] == ["project_created", "project_updated", "project_deleted", "project_not_found"]


def test_names_are_taken_once_and_what_is_missing_is_told(service: ResourcesService, log: Lines) -> None:
    service.create_workspace("team")
    service.create_project("p", workspace_id="team")
    for again in (lambda: service.create_workspace("team"), lambda: service.create_project("p", workspace_id="team")):
        with pytest.raises(ConflictError, match="exists already"):
            again()
    for missing in (
        lambda: service.create_project("p", workspace_id="gone"),
        lambda: service.list_projects(workspace_id="gone"),
        lambda: service.update_workspace("gone", description=""),
        lambda: service.delete_workspace("gone"),
        lambda: service.put_definition(FLOW, workspace_id="gone"),
        lambda: service.put_bundle("a" * 64, BundleContent(), workspace_id="gone"),
    ):
        with pytest.raises(NotFoundError, match="no workspace 'gone'"):
            missing()
    kinds = [kind for level, kind in log.kinds() if level == "warning"]
    assert kinds == ["conflict"] * 2 + ["workspace_not_found"] * 6


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 200, "a\0"])
def test_a_malformed_name_is_refused(service: ResourcesService, log: Lines, name: str) -> None:
    for ask in (
        lambda: service.create_workspace(name),
        lambda: service.get_workspace(name),
        lambda: service.create_project(name),
        lambda: service.delete_project(name),
    ):
        with pytest.raises(DefinitionError, match="not a name"):
            ask()
    assert log.kinds() == [("warning", "validation_failed")] * 4


def test_a_description_that_not_every_database_can_store_is_refused(service: ResourcesService) -> None:
    for text in ("a\0b", "\ud800", "x" * 3000):
        with pytest.raises(WonderError, match="the description"):
            service.create_workspace("team", description=text)


@pytest.mark.parametrize(("rate_per_s", "burst"), [(-1, None), (float("inf"), None), (float("nan"), None), (1, -1), (None, 5)])
def test_a_limit_that_makes_no_sense_is_refused(service: ResourcesService, rate_per_s: float | None, burst: float | None) -> None:
    with pytest.raises(WonderError):
        service.update_workspace("default", rate_per_s=rate_per_s, burst=burst)


def test_what_is_in_use_stays(service: ResourcesService) -> None:
    service.create_workspace("team")
    service.create_project("p", workspace_id="team")
    service.put_definition(FLOW, workspace_id="team")
    start(service, workspace_id="team", project_id="p")
    with pytest.raises(ConflictError, match="1 runs, 1 definitions"):
        service.delete_workspace("team")
    with pytest.raises(ConflictError, match="1 runs"):
        service.delete_project("p", workspace_id="team")
    for delete in (service.delete_workspace, service.delete_project):
        with pytest.raises(ConflictError, match="it stays"):
            delete("default")
    service.create_workspace("keys")
    service.create_api_key("k", ("admin",), workspace_id="keys")
    with pytest.raises(ConflictError, match="1 API keys"):
        service.delete_workspace("keys")


def test_api_keys_that_have_ended_go_with_their_workspace(service: ResourcesService, clock: SimulatedClock) -> None:
    service.create_workspace("keys")
    revoked = service.create_api_key("revoked", ("admin",), workspace_id="keys")
    good = service.create_api_key("good", ("admin",), workspace_id="keys", expires_us=clock.now_us() + 5_000_000)
    service.revoke_api_key(revoked.record.key_id)
    with pytest.raises(ConflictError, match="1 API keys"):
        service.delete_workspace("keys")
    assert len(service.list_api_keys(workspace_id="keys")) == 2  # nothing was removed
    clock.advance(seconds=6)
    service.delete_workspace("keys")
    with pytest.raises(NotFoundError):
        service.get_api_key(good.record.key_id)


def test_a_definition_that_no_run_has_is_removed(service: ResourcesService, log: Lines) -> None:
    first, second = (service.put_definition(b'{"name":"crawl","nodes":[],"n":%d}' % n) for n in (1, 2))
    start(service, workflow_version=first)
    for version in (None, first):
        with pytest.raises(ConflictError, match="has 1 runs, which keep it"):
            service.delete_definition("crawl", version=version)
    with pytest.raises(DefinitionError, match="not registered"):
        service.delete_definition("crawl", version="0" * 64)
    with pytest.raises(DefinitionError, match="not registered"):
        service.delete_definition("nobody")
    log.lines.clear()
    assert service.delete_definition("crawl", version="latest") == [second]
    assert [(kind, fields["versions"]) for _, kind, _, fields in log.lines] == [("definition_deleted", [second])]
    assert [each.version for each in service.list_definitions(name="crawl").definitions] == [first]
    assert service.get_run(start(service)).workflow_version == first
    service.create_workspace("team")
    for number in range(3):
        service.put_definition(b'{"name":"crawl","nodes":[],"n":%d}' % number, workspace_id="team")
    assert len(service.delete_definition("crawl", workspace_id="team")) == 3
    service.delete_workspace("team")


def test_a_bundle_goes_with_the_last_definition_that_names_it(service: ResourcesService, bundle: BundleContent) -> None:
    for name in (b"one", b"two"):
        service.put_definition(b'{"name":"%s","nodes":[],"bundle":"%s"}' % (name, b"b" * 64))
    service.delete_definition("one")
    assert service.get_bundle("b" * 64).content == bundle
    service.delete_definition("two")
    with pytest.raises(NotFoundError):
        service.get_bundle("b" * 64)


def test_a_run_needs_a_project_that_exists(service: ResourcesService, log: Lines) -> None:
    service.put_definition(FLOW)
    with pytest.raises(NotFoundError, match="no project 'gone'"):
        start(service, project_id="gone")
    assert service.list_runs().runs == []
    assert log.kinds()[-1] == ("warning", "project_not_found")


# --- code bundles ----------------------------------------------------------------------------------------------------------


def flow(*actions: str, bundle: str | None = "b" * 64) -> bytes:
    nodes = [{"id": f"n{number}", "action": action} for number, action in enumerate(actions)]
    return encode({"name": "crawl", "nodes": nodes} | ({} if bundle is None else {"bundle": bundle}))


@pytest.fixture
def bundle(service: ResourcesService) -> BundleContent:
    content = BundleContent(targets=["crawl:fetch"], pickles=["tidy"], files=["crawl.py", "tools/__init__.py", "tools/net.py"])
    service.put_bundle("b" * 64, content)
    return content


def test_a_bundle_is_registered_once(service: ResourcesService, bundle: BundleContent, log: Lines) -> None:
    assert not service.put_bundle("b" * 64, bundle)
    assert service.get_bundle("b" * 64).content == bundle
    assert log.kinds() == [("info", "bundle_created")]
    for sha256 in ("x", "B" * 64, "../" + "b" * 61):
        with pytest.raises(DefinitionError, match="sha256"):
            service.put_bundle(sha256, bundle)


def test_a_definition_names_only_registered_bundles(service: ResourcesService, bundle: BundleContent, log: Lines) -> None:
    with pytest.raises(NotFoundError, match="not registered"):
        service.put_definition(flow("crawl:fetch", bundle="c" * 64))
    service.create_workspace("other")
    with pytest.raises(NotFoundError, match="workspace 'other'"):
        service.put_definition(flow("crawl:fetch"), workspace_id="other")
    assert [kind for level, kind in log.kinds() if level == "warning"] == ["bundle_not_found"] * 2
    assert service.list_definitions().definitions == []


@pytest.mark.parametrize("action", ["crawl:fetch", "crawl:other", "tools.net:get", "tools:x", "tidy", "os.path:join"])
def test_an_action_that_can_be_there_is_accepted(service: ResourcesService, bundle: BundleContent, action: str) -> None:
    service.put_definition(flow(action))


@pytest.mark.parametrize("action", ["untidy", "tools.gone:get", "crawl.net:get", ""])
def test_an_action_that_is_not_there_is_told(service: ResourcesService, bundle: BundleContent, log: Lines, action: str) -> None:
    with pytest.raises(ActionNotFoundError, match="node 'n1'") as caught:
        service.put_definition(flow("crawl:fetch", action))
    assert repr(action) in str(caught.value)
    assert log.kinds()[-1] == ("warning", "action_not_found")
    assert service.list_definitions().definitions == []


def test_an_action_by_value_needs_a_bundle(service: ResourcesService, log: Lines) -> None:
    service.put_definition(flow("crawl:fetch", bundle=None))
    with pytest.raises(ActionNotFoundError, match="names no code bundle"):
        service.put_definition(flow("tidy", bundle=None))


def test_actions_of_steps_and_undos_are_looked_for_too(service: ResourcesService, bundle: BundleContent) -> None:
    for node in (
        {"id": "s", "kind": "steps", "steps": [{"name": "a", "action": "tidy"}, {"name": "b", "action": "gone"}]},
        {"id": "u", "action": "tidy", "undo": {"action": "gone"}},
    ):
        with pytest.raises(ActionNotFoundError, match="'gone'"):
            service.put_definition(encode({"name": "crawl", "nodes": [node], "bundle": "b" * 64}))


def test_a_malformed_definition_does_not_hide_behind_the_search_for_actions(service: ResourcesService) -> None:
    shapes: tuple[Any, ...] = (None, 5, [None, 5, {"action": 5}, {"steps": 5}, {"undo": []}])
    for nodes in shapes:
        service.put_definition(encode({"name": "crawl", "nodes": nodes}))


# --- lists -----------------------------------------------------------------------------------------------------------------


def test_versions_are_listed_in_pages_without_their_content(service: ResourcesService) -> None:
    made = [service.put_definition(encode({"name": "crawl", "nodes": [], "n": number})) for number in range(5)]
    first = service.list_definitions(name="crawl", limit=3)
    second = service.list_definitions(name="crawl", limit=3, cursor=first.cursor)
    assert [each.version for each in (*first.definitions, *second.definitions)] == made[::-1]
    assert second.cursor is None
    assert first.definitions[0].size_bytes == len(service.get_definition("crawl", made[-1]).definition)
    with pytest.raises(WonderError, match="cursor"):
        service.list_definitions(cursor="x")


def test_runs_are_found_by_every_filter(service: ResourcesService, clock: SimulatedClock) -> None:
    first = service.put_definition(FLOW)
    service.create_project("p")
    one = start(service, labels={"team": "x", "size": "1"})
    clock.advance(seconds=10)
    two = start(service, labels={"team": "x"}, project_id="p", parent_run_id=one, root_run_id=one)
    clock.advance(seconds=10)
    service.put_definition(b'{"name":"crawl","nodes":[],"n":1}')
    three = start(service, labels={"team": "y"}, parent_run_id=two, root_run_id=one)
    service.report(three, 1, RunProjection(status=RunStatus.FAILED))
    then = service.get_run(two).created_us
    for wanted, found in (
        (RunFilter(labels={"team": "x"}), [two, one]),
        (RunFilter(labels={"team": "x", "size": "1"}), [one]),
        (RunFilter(labels={"size": "x"}), []),
        (RunFilter(project_id="p"), [two]),
        (RunFilter(version=first), [two, one]),
        (RunFilter(workflow="walk"), []),
        (RunFilter(parent_run_id=two), [three]),
        (RunFilter(root_run_id=one), [three, two, one]),
        (RunFilter(created_after_us=then), [three]),
        (RunFilter(created_before_us=then), [one]),
        (RunFilter(statuses=("failed", "queued"), labels={"team": "y"}), [three]),
        (RunFilter(statuses=("queued",)), [two, one]),
        (RunFilter(workspace_id="other"), []),
    ):
        assert [run.run_id for run in service.list_runs(wanted).runs] == found, wanted
    page = service.list_runs(labels={"team": "x"}, limit=1)
    assert [run.run_id for run in page.runs] == [two]
    assert [run.run_id for run in service.list_runs(labels={"team": "x"}, limit=1, cursor=page.cursor).runs] == [one]


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": "red"},
        {"status": "done"},
        {"workspace_id": "a b"},
        {"workflow": "a\0"},
        {"labels": {"a": "\0"}},
        {"created_after_us": 2**70},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(service: ResourcesService, log: Lines, fields: dict[str, Any]) -> None:
    with pytest.raises(WonderError):
        service.list_runs(**fields)
    assert log.kinds() == [("warning", "validation_failed")]


@pytest.mark.parametrize("ref", ["run_\0", "RUN_", "run_%", "x" * 1000, "run_~"])
def test_no_reference_reaches_the_database_that_no_id_can_begin_with(service: ResourcesService, ref: str) -> None:
    with pytest.raises(WonderError, match="no run"):
        service.get_run(ref)


def test_listing_by_what_is_rare_reads_no_other_runs() -> None:
    """The plan of each list begins with an index that has the filter in it, in the order of the list."""
    from sqlalchemy import text

    from wonder_ray.resources.runs import _listing
    from wonder_ray.resources.store import ResourcesStore

    store = ResourcesStore(":memory:")
    for wanted, index in (
        (RunFilter(), "runs_by_workspace"),
        (RunFilter(workflow="w"), "runs_by_workflow"),
        (RunFilter(project_id="p"), "runs_by_project"),
        (RunFilter(statuses=("failed",)), "runs_by_workspace_status"),
        (RunFilter(parent_run_id="r"), "runs_by_parent"),
        (RunFilter(root_run_id="r"), "runs_by_root"),
        (RunFilter(labels={"a": "b"}), "PRIMARY KEY"),
    ):
        query = str(_listing(wanted, None).limit(10).compile(store._database.engine, compile_kwargs={"literal_binds": True}))
        with store._database.engine.connect() as sql:
            plan = [row.detail for row in sql.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
        assert f"INDEX {index} " in plan[0] or (index == "PRIMARY KEY" and "PRIMARY KEY" in plan[0]), plan
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
    store.close()
