"""`wonder submit`: send a workflow file to a cluster as a job, follow it, and end as its run ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from wonder_ray.cli.carrying import send_token_at_hand
from wonder_ray.cli.flows import parse_labels, parse_object
from wonder_ray.cli.following import tell_result
from wonder_ray.cli.options import Flow, Input, Key, Labels, LastLineJson, Trace, WorkflowName
from wonder_ray.cli.output import print_json, warn

if TYPE_CHECKING:
    from wonder_ray.jobs import Job, JobEnd, Jobs

Dashboard: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard: http://HEAD:8265."),
]
INTERRUPTED: Final = 130
ON_THE_CLUSTER: Final = "   (on the cluster)"
MESSAGE_CHARS_MAX: Final = 2_000


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(submit)


def submit(
    file: Flow,
    *,
    address: Dashboard = None,
    input_: Input = None,
    json: LastLineJson = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the cluster has the job.")] = False,
    storage: Annotated[
        str | None, typer.Option(metavar="DIR", help="The storage folder on the cluster. [default: its WONDER_STORAGE]")
    ] = None,
    key: Key = None,
    trace: Trace = False,
    label: Labels = None,
    name: WorkflowName = None,
    working_dir: Annotated[
        Path | None, typer.Option("--working-dir", metavar="DIR", help="What is uploaded. [default: the folder of FILE]")
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Packages to install for this run, one requirement a line.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="The interpreter on the cluster. [default: that of Ray's workers]")
    ] = None,
    num_cpus: Annotated[float | None, typer.Option("--entrypoint-num-cpus", help="CPUs to reserve for the driver.")] = None,
    num_gpus: Annotated[float | None, typer.Option("--entrypoint-num-gpus", help="GPUs to reserve for the driver.")] = None,
    memory: Annotated[int | None, typer.Option("--entrypoint-memory", help="Bytes to reserve for the driver.")] = None,
    resources: Annotated[
        str | None, typer.Option("--entrypoint-resources", metavar="JSON", help="Custom resources to reserve for the driver.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept by Ray with the job; may be repeated.")
    ] = None,
    submission_id: Annotated[str | None, typer.Option("--submission-id", metavar="ID", help="A name for the job.")] = None,
) -> None:
    """Send a workflow to a cluster through the Ray Job API, follow its log, and end as its run ends.

    Exit code 0 when the run completed, 1 when it ended otherwise, 2 when it could not be started. Ctrl-C leaves the job alone.
    """
    from wonder_ray.jobs import job_of, read_requirements

    job = job_of(
        file,
        working_dir=working_dir,
        input=sys.stdin.read() if input_ == "-" else input_,
        storage=storage,
        name=name,
        key=key,
        trace=trace,
        labels=parse_labels(label or []),
        requirements=() if requirements is None else read_requirements(requirements),
        python=python,
        metadata=parse_labels(metadata or [], "--metadata"),
        submission_id=submission_id,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        resources=parse_object("--entrypoint-resources", resources),
    )
    _carry_out(job, address, json=json, wait=not no_wait)


def _carry_out(job: Job, address: str | None, *, json: bool, wait: bool) -> None:
    from wonder_ray.jobs import Jobs

    job.check()
    send_token_at_hand()
    jobs = Jobs(address)
    sent = jobs.submit(job)
    typer.echo(f"job {sent} at {jobs.address}", err=True)
    if not wait:
        _tell_sent(jobs, sent, json=json)
        return
    try:
        end = jobs.follow(sent, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        _tell_how_to_go_on(jobs, sent)
        raise typer.Exit(INTERRUPTED) from None
    _tell_end(end, json=json)
    raise typer.Exit(end.exit_code)


def _tell_sent(jobs: Jobs, submission_id: str, *, json: bool) -> None:
    if json:
        print_json({"submission_id": submission_id, "address": jobs.address})
    else:
        typer.echo(f"job {submission_id}")
        typer.echo(f"  look     ray job logs --follow --address {jobs.address} {submission_id}")


def _tell_how_to_go_on(jobs: Jobs, submission_id: str) -> None:
    typer.echo(f"\nwonder: the job goes on: ray job logs --follow --address {jobs.address} {submission_id}", err=True)
    typer.echo("wonder: to end its run: `wonder cancel RUN` on the cluster (stopping the job leaves the run alone)", err=True)


def _tell_end(end: JobEnd, *, json: bool) -> None:
    if end.result is not None:
        found = {**end.result, "submission_id": end.submission_id}
        if json:
            print_json(found)
        else:
            tell_result(found, hint=ON_THE_CLUSTER)
        return
    warn(f"job {end.submission_id} {end.status}: {end.message[-MESSAGE_CHARS_MAX:].strip()}")
    if end.run_id is not None:
        warn(f"run {end.run_id} was started, and goes on without its driver: `wonder show {end.run_id}`{ON_THE_CLUSTER}")
