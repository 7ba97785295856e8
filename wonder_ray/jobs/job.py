"""What is submitted: a workflow file, its folder, and the command that runs it on the cluster.

>>> Job(file=Path("flow.py"), key="monday").entrypoint("/venv/bin/python")
'exec /venv/bin/python -m wonder_ray.cli run flow.py --json --key monday'
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.errors import InputError, PayloadError, WonderError
from wonder_ray.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENT_BYTES_MAX: Final = 100_000
"""Of the input: Linux takes 128 KiB in one argument of a command."""
HEAD_RESOURCE: Final = "node:__internal_head__"
"""Ray's own resource of the head node, where the storage folder is: an entrypoint that asks for resources stays there, too."""
EXCLUDES: Final = (".git/", ".venv/", "venv/", "__pycache__/", "node_modules/", "*.pyc")


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
