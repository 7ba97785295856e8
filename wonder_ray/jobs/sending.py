"""The jobs of a cluster: a workflow is sent, its log followed, and its end told.

>>> jobs = Jobs("http://127.0.0.1:8265")  # doctest: +SKIP
>>> jobs.follow(jobs.submit(job_of(Path("flow.py"))), print).exit_code  # doctest: +SKIP
0
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from wonder_ray.errors import WonderError
from wonder_ray.jobs.log import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wonder_ray.jobs.job import Job

CONNECT_SECONDS: Final = 5.0
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
API_SERVER: Final = "RAY_API_SERVER_ADDRESS"
TAILS_MAX: Final = 20
PAUSE_SECONDS: Final = 0.5
STARTING_SECONDS: Final = 60.0
"""How long a cluster that has just been started may have nobody yet who takes jobs."""
END_SECONDS: Final = 30.0
"""How long the status of a job may lag behind the end of its log."""
FAILED, REFUSED = 1, 2
_NOT_YET: Final = "No available agent to submit job"
_PYTHON_OF_WORKERS: Final = "--python_worker_command="


class JobEnd(NamedTuple):
    """How a job ended; `result` is what `wonder run --json` said last, None when it was not reached."""

    submission_id: str
    status: str
    run_id: str | None
    result: dict[str, Any] | None
    exit_code: int
    message: str


class Jobs:
    """The jobs of one cluster.

    Args:
        address: `http://host:8265`, the dashboard's; by default `$RAY_API_SERVER_ADDRESS`.

    Raises:
        WonderError: Nothing answers there, it wants another token, or `ray[default]` is not installed here.

    Example:
        >>> jobs = Jobs("http://127.0.0.1:8265")  # doctest: +SKIP
        >>> jobs.follow(jobs.submit(job_of(Path("flow.py"))), print).exit_code  # doctest: +SKIP
        0
    """

    def __init__(self, address: str | None = None) -> None:
        found = address or os.environ.get(API_SERVER)
        if not found:
            raise WonderError("which cluster? --address http://HEAD:8265 (its dashboard), or RAY_API_SERVER_ADDRESS")
        self.address: Final = found
        _check_listening(found)
        with self._meant():
            self._client: Any = _client(found)

    def submit(self, job: Job) -> str:
        """Upload the folder and start the job; its submission id."""
        job.check()
        with self._meant():
            any_python = job.python is not None or bool(job.requirements)
            nodes = [] if any_python and not job.asked() else self._nodes()
            _check_head(job, nodes)
            command = job.entrypoint(job.python if any_python else self._python(nodes))
            deadline = time.monotonic() + STARTING_SECONDS
            while True:
                try:
                    return self._submit(job, command)
                except RuntimeError as error:
                    if _NOT_YET not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(PAUSE_SECONDS)

    def _submit(self, job: Job, command: str) -> str:
        sent: str = self._client.submit_job(
            entrypoint=command,
            runtime_env=job.runtime_env(),
            metadata={name: value for name, value in _metadata(job).items() if value},
            submission_id=job.submission_id,
            **job.asked(),
        )
        return sent

    def follow(self, submission_id: str, write: Callable[[str], None]) -> JobEnd:
        """Hand every line of the job's log to `write` as it comes, but for the result; how the job ended."""
        watcher = Watcher(write)
        with self._meant():
            asyncio.run(self._tail(submission_id, watcher))
            details = asyncio.run(self._end(submission_id))
        status = str(getattr(details.status, "value", details.status))
        code = _exit_code(status, details.driver_exit_code)
        return JobEnd(submission_id, status, watcher.run_id, watcher.result, code, details.message or "")

    async def _tail(self, submission_id: str, watcher: Watcher) -> None:
        """The log from its beginning; a connection that breaks is made again, and what was seen is skipped."""
        from aiohttp import ClientError

        for _ in range(TAILS_MAX):
            position = 0
            try:
                async for text in self._client.tail_job_logs(submission_id):
                    fresh = text[max(0, watcher.chars - position) :]
                    position += len(text)
                    watcher.take(fresh)
            except (ClientError, OSError, RuntimeError):
                if _has_ended(self._client.get_job_info(submission_id)):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                break
        watcher.finish()

    async def _end(self, submission_id: str) -> Any:
        """The details of the job, once it has ended."""
        for _ in range(round(END_SECONDS / PAUSE_SECONDS)):
            details = self._client.get_job_info(submission_id)
            if _has_ended(details):
                return details
            await asyncio.sleep(PAUSE_SECONDS)
        msg = f"job {submission_id} has written its last line and goes on: `ray job status {submission_id}`"
        raise WonderError(msg)

    def _nodes(self) -> list[dict[str, Any]]:
        """What the dashboard tells of the head node; of all nodes where it does not say which that is."""
        answer = self._client._do_request("GET", "/nodes?view=summary")  # noqa: SLF001 - it adds the token; Ray has no public way
        nodes = answer.json()["data"]["summary"] if answer.ok else []
        return [node for node in nodes if _is_head(node)] or nodes

    def _python(self, nodes: list[dict[str, Any]]) -> str:
        """The interpreter of Ray's workers on the head: what is called `python` on its path may have neither Ray nor us."""
        for node in nodes:
            for word in node.get("cmdline") or ():
                if word.startswith(_PYTHON_OF_WORKERS):
                    return shlex.split(word.removeprefix(_PYTHON_OF_WORKERS))[0]
        raise WonderError(f"{self.address} does not tell which Python its workers use: name it with --python /path/to/python")

    @contextmanager
    def _meant(self) -> Iterator[None]:
        """Ray's errors as ours."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            said = str(error).splitlines()[0]
            mend = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token of that cluster"
            raise WonderError(f"{self.address} refused us: {said}; {mend}") from None
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            said = str(error).strip() or type(error).__name__
            raise WonderError(f"{self.address}: {said}") from error


def _is_head(node: dict[str, Any]) -> bool:
    return bool(node.get("raylet", {}).get("isHeadNode"))


def _check_head(job: Job, nodes: list[dict[str, Any]]) -> None:
    """Raise where the driver would wait for what the head does not have; Ray lets it, for a quarter of an hour."""
    wanted = {"CPU": ("num-cpus", job.num_cpus), "GPU": ("num-gpus", job.num_gpus), "memory": ("memory", job.memory)}
    for head in filter(_is_head, nodes):
        total = head["raylet"].get("resourcesTotal") or {}
        for resource, (option, amount) in wanted.items():
            has = total.get(resource, 0)
            if amount and amount > has:
                msg = f"--entrypoint-{option} {amount:g}: the head has {has:g}, and drivers run there, beside the storage"
                raise WonderError(f"{msg}; leave it out: a driver only waits, and a workflow's nodes have their own")


def _exit_code(status: str, driver: int | None) -> int:
    """The driver's own code where it came to its end; 2 when it could not even be started."""
    if driver is not None:
        return driver if driver >= 0 else FAILED
    return REFUSED if status == "FAILED" else FAILED


def _metadata(job: Job) -> dict[str, str]:
    own = {"wonder_file": job.file.as_posix(), "wonder_key": job.key or "", "wonder_storage": job.storage or ""}
    return own | dict(job.metadata)


def _has_ended(details: Any) -> bool:
    return str(getattr(details.status, "value", details.status)) in ENDED


def _check_listening(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise WonderError(f"{address!r} is no address of a Ray dashboard: it looks like http://HEAD:8265")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise WonderError(
            f"no Ray dashboard answers at {address} ({error.strerror or error}); is it started, and reachable?"
        ) from None


def _client(address: str) -> Any:
    import logging

    for module in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").addFilter(lambda record: record.levelno > logging.INFO)
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
    before = os.environ.get(API_SERVER)
    os.environ[API_SERVER] = address  # RAY_ADDRESS, which names another port, would win over the argument
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address)
    finally:
        if before is None:
            del os.environ[API_SERVER]
        else:
            os.environ[API_SERVER] = before
