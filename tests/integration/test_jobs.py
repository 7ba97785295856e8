"""`wonder submit` and `scripts/submit.py` against a real Ray with its dashboard and token auth."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.clusters import TOP, Cluster, cluster_with_dashboard, free_ports
from wonder_ray.logs.query import LogReader
from wonder_ray.reading import Reader
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray

FLOW = """
import wonder_ray as wonder
import helper_of_the_flow


def node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def shout(words: list) -> list:
    return [helper_of_the_flow.loud(word) for word in words]


def count(word: str) -> dict:
    print("counting", word)
    return {"word": word, "letters": len(word)}


def fail() -> None:
    raise ValueError("not today")


words = wonder.Workflow("words", input={"type": "array"}, output={"counts": "state.counts"})
words.node("shout", shout, input={"words": "input"}, output={"state.words": "result"})
words.node("count", count, input={"word": "item"})
words.compute("done")
words.transition("shout", "count", foreach="state.words", group="words")
words.transition("count", "done", join=wonder.All("words", merge=wonder.Append("state.counts")))

where = wonder.Workflow("where", output={"task": "state.task"})
where.node("look", node, output={"state.task": "result"})

failing = wonder.Workflow("failing")
failing.node("fail", fail, retry=wonder.Retry(max_attempts=1))
print("the flow is imported")
"""
PYTHON_CLIENT = """
import sys
import urllib.error
import urllib.request
import wonder_ray as wonder
from words_to_count import words

with wonder.connect(sys.argv[1], storage=sys.argv[2]) as client:
    run = client.start(words, ["a", "bc"], trace=False)
    run.result(90)
    client.flush()
    print(run.id)
"""
CHANGING = {
    "run_id",
    "root_run_id",
    "workflow_run_id",
    "created_us",
    "started_us",
    "ended_us",
    "duration_ms",
    "timestamp",
    "turn_now",
}
CHANGING |= {"token_id", "turn", "sequence_number", "epoch"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "words_to_count.py").write_text(FLOW)
    (folder / "helper_of_the_flow.py").write_text("def loud(word):\n    return word.upper()\n")
    (folder / "drive.py").write_text(PYTHON_CLIENT)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_with_dashboard(tmp_path_factory.mktemp("cluster") / "storage") as started:
        yield started


PROBES: Final = (
    *(("GET", path) for path in ("/api/jobs/", "/api/version", "/api/v0/actors", "/api/v0/nodes", "/api/v0/logs?node_id=x")),
    *(("GET", path) for path in ("/nodes?view=summary", "/api/cluster_status", "/api/serve/applications/", "/logical/actors")),
    *(("GET", path) for path in ("/worker/traceback?pid=1", "/task/traceback", "/worker/cpu_profile?pid=1&ip=127.0.0.1")),
    *(("POST", "/api/jobs/"), ("PUT", "/api/serve/applications/"), ("PUT", "/api/packages/gcs/_ray_pkg_x.zip")),
    ("GET", "/api/actors/kill?actor_id=x&force_kill=true"),
)
"""What runs code, or tells of it."""


def probe(dashboard: str, method: str, path: str, token: str | None) -> int:
    """The status that a stranger is answered with."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    asked = urllib.request.Request(dashboard + path, b"{}" if method != "GET" else None, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def submit(cluster: Cluster, project: Path, *args: object) -> subprocess.CompletedProcess[str]:
    flow = project / "words_to_count.py"
    return cluster.wonder("submit", flow, "--address", cluster.dashboard, *args)


def test_a_run_is_the_same_whoever_starts_it(cluster: Cluster, project: Path) -> None:
    job = submit(cluster, project, "--name", "words", "--input", '["a", "bc"]', "--json", "--metadata", "team=data")
    assert job.returncode == 0, job.stderr
    told = json.loads(job.stdout)
    assert (told["status"], told["output"]) == (
        "completed",
        {"counts": [{"word": "A", "letters": 1}, {"word": "BC", "letters": 2}]},
    )
    assert told["storage"] == str(cluster.storage)
    assert "the flow is imported" in job.stderr
    assert f"job {told['submission_id']} at {cluster.dashboard}" in job.stderr
    assert services_outside_of_jobs(cluster)

    flow = project / "words_to_count.py"
    by_hand = ["run", flow, "--name", "words", "--input", '["a", "bc"]', "--address", cluster.gcs, "--json"]
    command = cluster.wonder(*by_hand, "--storage", cluster.storage)
    assert command.returncode == 0, command.stderr
    driver = subprocess.run(
        [sys.executable, "drive.py", cluster.gcs, str(cluster.storage)],
        cwd=project, env=cluster.env, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert driver.returncode == 0, driver.stderr
    over_http = started_over_http(cluster, flow)
    runs = [told["run_id"], json.loads(command.stdout)["run_id"], driver.stdout.split()[-1], over_http]
    reader = Reader(cluster.storage)
    shown = [without_what_changes(reader.show(run)) for run in runs]
    assert shown[0] == shown[1] == shown[2] == shown[3]
    histories = [sorted_history(reader, run) for run in runs]
    assert histories[0] == histories[1] == histories[2] == histories[3]


def started_over_http(cluster: Cluster, flow: Path) -> str:
    """A run that `wonder run --server` has started and watched, with the file whose code the cluster has."""
    at = ["--address", cluster.gcs, "--storage", cluster.storage]
    served = cluster.wonder("serve", *at, "--port", free_ports(1)[0], "--json")
    assert served.returncode == 0, served.stderr
    key = cluster.wonder("key", "create", "jobs", "--scope", "admin", "--json", "--storage", cluster.storage)
    by_http = ["run", flow, "--name", "words", "--input", '["a", "bc"]', "--json", "--server", json.loads(served.stdout)["url"]]
    done = cluster.wonder(*by_http, env={"WONDER_API_KEY": json.loads(key.stdout)["token"]})
    assert done.returncode == 0, done.stderr
    assert cluster.wonder("serve", "--stop", "--address", cluster.gcs).returncode == 0
    return str(json.loads(done.stdout)["run_id"])


def without_what_changes(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in CHANGING}


def sorted_history(reader: Reader, run: str) -> list[str]:
    """What happened in a run, whenever it did: batches of tasks come back in any order."""
    names = ("event_type", "node_id", "path_id", "attempt", "workflow_name", "workflow_version", "workspace_id", "project_id")
    return sorted(str([getattr(row, name) for name in names]) for row in reader.events(run))


def services_outside_of_jobs(cluster: Cluster) -> bool:
    """Whether the services that the job needed, and therefore had made, carry nothing of it."""
    script = """
import os, sys, ray
ray.init(sys.argv[1], namespace="wonder", log_to_driver=False)
names = ("resources", "directory", "events", "logs")
pids = [ray.get(ray.get_actor(name).ping.remote())["pid"] for name in names]
print([os.readlink(f"/proc/{pid}/cwd") for pid in pids])
"""
    asked = subprocess.run(
        [sys.executable, "-c", script, cluster.gcs], env=cluster.env, capture_output=True, text=True, timeout=60, check=True
    )
    return "working_dir_files" not in asked.stdout and asked.stdout.count("'") == 8


@pytest.mark.slow
def test_a_job_ends_as_its_run_ends(cluster: Cluster, project: Path) -> None:
    failed = submit(cluster, project, "--name", "failing")
    assert failed.returncode == 1, failed.stderr
    assert "error    ValueError: not today (node fail)" in failed.stdout
    refused = submit(cluster, project, "--name", "words", "--input", '{"no": "array"}', "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "make it a value of type array" in refused.stderr


@pytest.mark.slow
def test_the_script_sends_and_leaves(cluster: Cluster, project: Path) -> None:
    flow = project / "words_to_count.py"
    name = "words-of-the-day"
    sent = subprocess.run(
        [sys.executable, TOP / "scripts" / "submit.py", flow, "--name", "words", "--input", "[]", "--key", name,
         "--address", cluster.dashboard, "--no-wait", "--json", "--submission-id", name,
         "--entrypoint-resources", '{"head": 0.5}'],
        env=cluster.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout) == {"submission_id": name, "address": cluster.dashboard}
    again = submit(cluster, project, "--submission-id", name)
    assert again.returncode == 2
    assert "already exists" in again.stderr
    found = submit(cluster, project, "--name", "words", "--input", "[]", "--key", name, "--json")
    assert found.returncode == 0, found.stderr
    assert [run.key for run in Reader(cluster.storage).runs(workflow="words")].count(name) == 1


def test_services_and_coordinators_live_on_the_head_and_tasks_do_not(cluster: Cluster, project: Path) -> None:
    job = submit(cluster, project, "--name", "where", "--json")
    assert job.returncode == 0, job.stderr
    told = json.loads(job.stdout)
    standing = cluster.wonder("status", "--address", cluster.gcs, "--json")
    services = {each["service"]: each["node"] for each in json.loads(standing.stdout)["services"]}
    lines = LogReader(cluster.storage).search(trace_id=told["run_id"], event_type="coordinator_started")
    [coordinator] = [decode(line.metadata)["placement"]["node"] for line in lines if line.metadata]
    assert {*services.values(), coordinator} == {services["resources"]}
    assert told["output"]["task"] not in {None, services["resources"]}


def test_a_driver_that_asks_for_more_than_the_head_has_is_refused(cluster: Cluster, project: Path) -> None:
    """Ray would let the job wait for a quarter of an hour."""
    refused = submit(cluster, project, "--name", "where", "--entrypoint-num-cpus", "1")
    assert refused.returncode == 2
    assert "--entrypoint-num-cpus 1: the head has 0" in refused.stderr


def test_another_token_is_refused(cluster: Cluster, project: Path) -> None:
    flow = project / "words_to_count.py"
    for env in ({"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
        refused = cluster.wonder("submit", flow, "--name", "words", "--address", cluster.dashboard, env=env)
        assert refused.returncode == 2
        assert "RAY_AUTH_TOKEN" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("0" * 64, 403)], ids=["no token", "another token"])
def test_probes_of_the_dashboard_are_refused(cluster: Cluster, token: str | None, status: int) -> None:
    answers = {f"{method} {path}": probe(cluster.dashboard, method, path, token) for method, path in PROBES}
    assert answers == dict.fromkeys(answers, status)
    assert probe(cluster.dashboard, "GET", "/api/version", cluster.env["RAY_AUTH_TOKEN"]) == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requirements_reach_the_driver_and_its_tasks(cluster: Cluster, tmp_path: Path) -> None:
    wheel = tmp_path / "tiny_words-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_words.py", "def greet(name):\n    return f'hello {name}'\n")
        archive.writestr("tiny_words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\n")
        archive.writestr("tiny_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_words-1.0.dist-info/RECORD", "")
    project = tmp_path / "project"
    project.mkdir()
    (project / "greeting.py").write_text(
        "import tiny_words\nimport wonder_ray as wonder\n\n\ndef greet(name):\n    return tiny_words.greet(name)\n\n\n"
        "flow = wonder.Workflow('greeting', output={'said': 'state.said'})\n"
        "flow.node('greet', greet, input={'name': 'input'}, output={'state.said': 'result'})\n"
    )
    (project / "requirements.txt").write_text(f"--no-index\n{wheel}\n")
    args = ["--input", '"you"', "--json", "--requirements", project / "requirements.txt"]
    job = cluster.wonder("submit", project / "greeting.py", "--address", cluster.dashboard, *args, timeout=280)
    assert job.returncode == 0, job.stderr
    assert json.loads(job.stdout)["output"] == {"said": "hello you"}
