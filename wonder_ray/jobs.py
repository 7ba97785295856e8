"""Sending a workflow file to a cluster through the Ray Job API: one job carries out one run, and ends as the run ends.

The job's entrypoint is `wonder run` on the cluster, so that a run that was submitted is like any other. Its driver may be lost:
the run goes on.

>>> Job(file=Path("flow.py"), key="monday").entrypoint("/venv/bin/python")
'exec /venv/bin/python -m wonder_ray.cli run flow.py --json --key monday'
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from wonder_ray.errors import InputError, PayloadError, WonderError
from wonder_ray.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CONNECT_SECONDS: Final = 5.0
ARGUMENT_BYTES_MAX: Final = 100_000
"""Of the input: Linux takes 128 KiB in one argument of a command."""
HEAD_RESOURCE: Final = "node:__internal_head__"
"""Ray's own resource of the head node, where the storage folder is: an entrypoint that asks for resources stays there, too."""
EXCLUDES: Final = (".git/", ".venv/", "venv/", "__pycache__/", "node_modules/", "*.pyc")
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
API_SERVER: Final = "RAY_API_SERVER_ADDRESS"
RAY_AUTH_MODE: Final = "RAY_AUTH_MODE"
TAILS_MAX: Final = 20
PAUSE_SECONDS: Final = 0.5
STARTING_SECONDS: Final = 60.0
"""How long a cluster that has just been started may have nobody yet who takes jobs."""
END_SECONDS: Final = 30.0
"""How long the status of a job may lag behind the end of its log."""
FAILED, REFUSED = 1, 2
_NOT_YET: Final = "No available agent to submit job"
_PYTHON_OF_WORKERS: Final = "--python_worker_command="


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is submitted.

    Attributes:
        file: The workflow file, relative to `working_dir`.
        working_dir: What is uploaded; by default the folder of the file.
        input: The run's input: a JSON text, or `@path` of a file in `working_dir`.
        storage: The storage folder on the cluster's head; by default what `WONDER_STORAGE` says there.
        name: Which workflow, of a file with several.
        key: The caller's name for the run.
        trace: Whether to record trace events.
        labels: For finding the run again.
        requirements: Lines of a requirements file, installed for the driver and for every task whose node has no runtime
            environment of its own.
        python: The interpreter on the cluster; by default that of Ray's own workers there.
        metadata: Kept by Ray with the job.
        submission_id: Of the job; by default made by Ray. An id is taken once.
        num_cpus: Reserved for the driver, like the next three; by default nothing.
        num_gpus: See `num_cpus`.
        memory: Bytes.
        resources: Custom ones.
    """

    file: Path
    working_dir: Path | None = None
    input: str | None = None
    storage: str | None = None
    name: str | None = None
    key: str | None = None
    trace: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    python: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    submission_id: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def entrypoint(self, python: str | None) -> str:
        """The command that the cluster's shell runs; without a `python`, in the environment that Ray makes for requirements."""
        options = {"--input": self.input, "--storage": self.storage, "--name": self.name, "--key": self.key}
        if self.requirements:
            options["--runtime-env"] = encode({"pip": list(self.requirements)}).decode()
        words = ["-m", "wonder_ray.cli", "run", self.file.as_posix(), "--json"]
        for option, value in options.items():
            words += [] if value is None else [option, value]
        words += ["--trace"] if self.trace else []
        for label, value in self.labels.items():
            words += ["--label", f"{label}={value}"]
        interpreter = '"$VIRTUAL_ENV/bin/python"' if python is None else shlex.quote(python)
        return f"exec {interpreter} {shlex.join(words)}"

    def runtime_env(self) -> dict[str, Any]:
        """What Ray sets up for the driver."""
        env: dict[str, Any] = {"working_dir": str(self.folder), "excludes": list(EXCLUDES)}
        return env | ({"pip": list(self.requirements)} if self.requirements else {})

    def asked(self) -> dict[str, Any]:
        """The driver's resources as `submit_job` takes them: on the head in any case, where the storage folder is."""
        found = {
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory,
            "entrypoint_resources": dict(self.resources),
        }
        if any(found.values()):
            found["entrypoint_resources"] = {**self.resources, HEAD_RESOURCE: 0.001}
        return {name: value for name, value in found.items() if value}

    @property
    def folder(self) -> Path:
        """What is uploaded."""
        return (self.working_dir or Path()).resolve()

    def check(self) -> None:
        """Raise what is wrong with it before anything is uploaded."""
        if not self.folder.is_dir():
            raise WonderError(f"--working-dir {self.folder}: there is no such folder")
        if not (self.folder / self.file).is_file():
            raise WonderError(f"{self.file}: there is no such file in {self.folder}, which is what the cluster will get")
        if self.input is not None and not self.input.startswith("@"):
            _check_text(self.input)


def job_of(file: Path, *, working_dir: Path | None = None, input: str | None = None, **more: Any) -> Job:  # noqa: A002 - the field's name
    """A job for a file as this machine names it.

    `input` may be `@path` of a file here: one in the uploaded folder is passed on as such, the text of any other in the command.

    Example:
        >>> job_of(Path("jobs/flow.py")).file
        PosixPath('flow.py')
    """
    folder = (working_dir or file.parent).resolve()
    inside = file.resolve()
    if not inside.is_relative_to(folder):
        raise WonderError(f"{file} is not in the working directory {folder}, which is all that the cluster will get")
    return Job(file=inside.relative_to(folder), working_dir=folder, input=_portable(input, folder), **more)


def _portable(text: str | None, folder: Path) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    path = Path(text[1:]).resolve()
    if path.is_relative_to(folder):
        return f"@{path.relative_to(folder).as_posix()}"
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--input {text}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_text(text: str) -> None:
    try:
        decode(text)
    except PayloadError as error:
        raise InputError(f"--input: {error}") from None
    if (size := len(text.encode())) > ARGUMENT_BYTES_MAX:
        msg = f"--input has {size:,} bytes, more than a command can hold ({ARGUMENT_BYTES_MAX:,}): put it into a file in the "
        raise InputError(f"{msg}working directory, and say --input @file")


def read_requirements(path: Path) -> tuple[str, ...]:
    """The lines of a requirements file that say something."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WonderError(f"--requirements {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


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
            command = job.entrypoint(job.python or (None if job.requirements else self._python()))
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
        watcher = _Watcher(write)
        with self._meant():
            asyncio.run(self._tail(submission_id, watcher))
            details = asyncio.run(self._end(submission_id))
        status = str(getattr(details.status, "value", details.status))
        code = _exit_code(status, details.driver_exit_code)
        return JobEnd(submission_id, status, watcher.run_id, watcher.result, code, details.message or "")

    async def _tail(self, submission_id: str, watcher: _Watcher) -> None:
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

    def _python(self) -> str:
        """The interpreter of Ray's workers on the head: what is called `python` on its path may have neither Ray nor us."""
        answer = self._client._do_request("GET", "/nodes?view=summary")  # noqa: SLF001 - it adds the token; Ray has no public way
        nodes = answer.json()["data"]["summary"] if answer.ok else []
        heads = [node for node in nodes if node.get("raylet", {}).get("isHeadNode")]
        for node in heads or nodes:
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


class _Watcher:
    """Reads a log as it grows: passes lines on, and keeps what `wonder run --json` says of the run."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._rest = ""
        self.chars = 0
        self.run_id: str | None = None
        self.result: dict[str, Any] | None = None

    def take(self, text: str) -> None:
        """More of the log."""
        self.chars += len(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._note(line)

    def finish(self) -> None:
        """There is no more."""
        rest, self._rest = self._rest, ""
        if rest:
            self._note(rest)

    def _note(self, line: str) -> None:
        words = line.split()
        if len(words) == 2 and words[0] == "run" and words[1].startswith("run_"):  # noqa: PLR2004 - "run", and its id
            self.run_id = words[1]
        found = _result(line)
        if found is None:
            self._write(line)
        else:
            self.result, self.run_id = found, found["run_id"]


def _result(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"run_id"'):
        return None
    try:
        found = decode(line)
    except PayloadError:
        return None
    return found if isinstance(found, dict) and {"run_id", "status", "output", "error"} <= set(found) else None


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
