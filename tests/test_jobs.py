"""What is sent to a cluster, and what its answers mean; a real one is in `integration/test_jobs.py`."""

from __future__ import annotations

import shlex
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.errors import InputError, WonderError
from wonder_ray.jobs import ARGUMENT_BYTES_MAX, HEAD_RESOURCE, Job, Jobs, job_of, read_requirements, sending
from wonder_ray.jobs.log import Watcher
from wonder_ray.jobs.sending import _exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    file = tmp_path / "project" / "flows" / "my flow.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    return file


def words(job: Job, python: str | None = "/venv/bin/python") -> list[str]:
    """The command as a shell would split it, without `exec`."""
    return shlex.split(job.entrypoint(python))[1:]


def test_the_command_survives_the_shell(flow: Path) -> None:
    text = """{"a": "it's $HOME; rm -rf / \\" `x`"}"""
    job = job_of(flow, input=text, storage="/mnt/my data", name="f", key="k 1", trace=True, labels={"team": "a b", "x": "y=z"})
    assert words(job) == [
        "/venv/bin/python", "-m", "wonder_ray.cli", "run", "my flow.py", "--json", "--input", text, "--storage", "/mnt/my data",
        "--name", "f", "--key", "k 1", "--trace", "--label", "team=a b", "--label", "x=y=z",
    ]  # fmt: skip
    assert job.runtime_env()["working_dir"] == str(flow.parent)


def test_requirements_are_for_the_driver_and_for_its_tasks(flow: Path) -> None:
    listed = flow.parent / "requirements.txt"
    listed.write_text("# what we need\nscikit-learn==1.5\n\n  numpy<3\n")
    job = job_of(flow, requirements=read_requirements(listed))
    assert job.runtime_env()["pip"] == ["scikit-learn==1.5", "numpy<3"]
    assert words(job)[-2:] == ["--runtime-env", '{"pip":["scikit-learn==1.5","numpy<3"]}']
    assert job.entrypoint(None).startswith('exec "$VIRTUAL_ENV/bin/python" -m')
    with pytest.raises(WonderError, match="cannot be read"):
        read_requirements(flow.parent / "none.txt")


def test_the_working_directory_is_the_folder_of_the_file_or_one_around_it(flow: Path) -> None:
    around = flow.parents[1]
    job = job_of(flow, working_dir=around)
    assert (job.file.as_posix(), job.folder) == ("flows/my flow.py", around)
    job.check()
    with pytest.raises(WonderError, match="not in the working directory"):
        job_of(flow, working_dir=around / "elsewhere")
    with pytest.raises(WonderError, match="no such file"):
        job_of(flow.parent / "gone.py").check()


def test_an_input_file_is_uploaded_or_read(flow: Path, tmp_path: Path) -> None:
    inside, outside = flow.parent / "in.json", tmp_path / "out.json"
    inside.write_text('{"big": 1}')
    outside.write_text('{"small": 1}\n')
    assert job_of(flow, input=f"@{inside}").input == "@in.json"
    assert job_of(flow, input=f"@{outside}").input == '{"small": 1}'
    with pytest.raises(InputError, match="cannot be read"):
        job_of(flow, input=f"@{tmp_path / 'none.json'}")
    with pytest.raises(InputError, match="--input: "):
        job_of(flow, input="{oops").check()
    with pytest.raises(InputError, match="say --input @file"):
        job_of(flow, input='"' + "x" * ARGUMENT_BYTES_MAX + '"').check()


def test_a_driver_with_resources_stays_where_the_storage_is(flow: Path) -> None:
    assert job_of(flow).asked() == {}
    assert job_of(flow, num_cpus=2, memory=5, resources={"disk": 1}).asked() == {
        "entrypoint_num_cpus": 2,
        "entrypoint_memory": 5,
        "entrypoint_resources": {"disk": 1, HEAD_RESOURCE: 0.001},
    }


def test_a_log_is_read_in_any_pieces() -> None:
    result = '{"run_id":"run_1","status":"completed","output":{"n":1},"error":null,"tokens":1,"events":3}'
    text = f'starting\nrun run_0192f0c1a2b3_0123456789abcdef\n{{"run_id": broken\n{result}\nlast words'
    for size in (1, 3, 7, len(text)):
        seen: list[str] = []
        watcher = Watcher(seen.append)
        for start in range(0, len(text), size):
            watcher.take(text[start : start + size])
        watcher.finish()
        assert seen == ["starting", "run run_0192f0c1a2b3_0123456789abcdef", '{"run_id": broken', "last words"]
        assert watcher.result is not None
        assert (watcher.run_id, watcher.result["output"], watcher.chars) == ("run_1", {"n": 1}, len(text))


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", -9, 1),
        ("FAILED", None, 2),
        ("STOPPED", None, 1),
    ],
)
def test_the_exit_code_is_the_driver_s_where_it_came_to_its_end(status: str, driver: int | None, code: int) -> None:
    assert _exit_code(status, driver) == code


class FakeClient:
    """A job whose log breaks off twice before it ends."""

    def __init__(self) -> None:
        self.tails = 0
        self.log = "one\ntwo\nthree\n"

    async def tail_job_logs(self, _submission_id: str) -> Any:
        self.tails += 1
        yield self.log[: 6 * self.tails]
        if self.tails < 3:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, _submission_id: str) -> Any:
        class Details:
            status = "SUCCEEDED" if self.tails == 3 else "RUNNING"
            driver_exit_code = 0
            message = "Job finished successfully."

        return Details


def test_a_log_that_breaks_off_is_followed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sending, "_client", lambda _address: FakeClient())
    monkeypatch.setattr(sending, "_check_listening", lambda _address: None)
    seen: list[str] = []
    end = Jobs("http://head:8265").follow("job", seen.append)
    assert seen == ["one", "two", "three"]
    assert (end.status, end.exit_code, end.result, end.run_id) == ("SUCCEEDED", 0, None, None)


class FakeCluster:
    """Takes jobs, and tells of its nodes."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = nodes
        self.looks = 0
        self.commands: list[str] = []

    def _do_request(self, _method: str, _path: str) -> Any:
        self.looks += 1

        class Answer:
            ok = True
            json = staticmethod(lambda: {"data": {"summary": list(self.nodes)}})

        return Answer

    def submit_job(self, entrypoint: str, **_more: Any) -> str:
        self.commands.append(entrypoint)
        return "job"


def node(python: str, **raylet: Any) -> dict[str, Any]:
    return {"cmdline": ["raylet", f"--python_worker_command={python} worker.py"], "raylet": raylet}


@pytest.fixture
def sent_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCluster], Jobs]:
    def connected(cluster: FakeCluster) -> Jobs:
        monkeypatch.setattr(sending, "_client", lambda _address: cluster)
        monkeypatch.setattr(sending, "_check_listening", lambda _address: None)
        return Jobs("http://head:8265")

    return connected


def test_the_interpreter_is_that_of_the_head_or_of_any_node_where_none_is_called_head(
    flow: Path, sent_to: Callable[[FakeCluster], Jobs]
) -> None:
    told = FakeCluster(node("/worker/python"), node("/head/python", isHeadNode=True, resourcesTotal={"CPU": 2.0}))
    sent_to(told).submit(job_of(flow, num_cpus=2))
    silent = FakeCluster(node("/some/python"))
    sent_to(silent).submit(job_of(flow))
    assert [told.commands[0].split()[1], silent.commands[0].split()[1]] == ["/head/python", "/some/python"]
    assert (told.looks, silent.looks) == (1, 1)


def test_nodes_are_looked_at_only_where_something_depends_on_them(flow: Path, sent_to: Callable[[FakeCluster], Jobs]) -> None:
    cluster = FakeCluster(node("/head/python", isHeadNode=True, resourcesTotal={"CPU": 2.0}))
    jobs = sent_to(cluster)
    jobs.submit(job_of(flow, python="/mine/python"))
    jobs.submit(job_of(flow, requirements=("emoji",)))
    assert cluster.looks == 0
    with pytest.raises(WonderError, match="--entrypoint-num-cpus 3: the head has 2"):
        jobs.submit(job_of(flow, python="/mine/python", num_cpus=3))
    assert cluster.looks == 1
    assert cluster.commands[0].startswith("exec /mine/python -m")
    assert cluster.commands[1].startswith('exec "$VIRTUAL_ENV/bin/python" -m')


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b"no")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def other_server() -> Iterator[str]:
    """Something that speaks HTTP, and is no Ray."""
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_that_is_none_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, other_server: str) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")  # which Ray's client would take instead
    with pytest.raises(WonderError, match="which cluster"):
        Jobs()
    with pytest.raises(WonderError, match="no address of a Ray dashboard"):
        Jobs("127.0.0.1:8265")
    with pytest.raises(WonderError, match=r"no Ray dashboard answers at http://127.0.0.1:1 \(Connection refused\)"):
        Jobs("http://127.0.0.1:1")
    with pytest.raises(WonderError, match=f"{other_server}: 500 Server Error"):
        Jobs(other_server)
