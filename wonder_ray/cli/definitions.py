"""`wonder validate` and `wonder import`: definitions, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from wonder_ray.cli.options import AsJson, WorkflowName
from wonder_ray.cli.output import counted, print_json, safe
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.soundness import Soundness

REFUSED: Final = 2

imports = typer.Typer(help="Make a definition of another system's workflow.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(validate)
    app.add_typer(imports, name="import")


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .py, .json or .yaml file.")],
    json: AsJson = False,
    name: WorkflowName = None,
    soundness: Annotated[
        bool, typer.Option(help="Explore what can happen in a run, and report what can get stuck, never runs or is left behind.")
    ] = True,
    bound: Annotated[
        int | None,
        typer.Option("--bound", metavar="N", help="Give up exploring after N states. [default: 5000]", min=1, show_default=False),
    ] = None,
) -> None:
    """Check a definition: every problem, with its node, field and mend. Exit code 2 when there are errors.

    One without errors is explored: it is sound, or unsound (with an example), or that is unknown: after the bound, or since data
    decides. Conditions count as free there, so what is found may be impossible for reasons that lie in the data: it does not
    change the exit code.
    """
    try:
        flows = _flows(file, name)
        problems = [found for flow in flows for found in _problems(flow)]
    except DefinitionError as error:
        flows = []
        problems = [_problem("error", str(error))]
    errors = sum(found["severity"] == "error" for found in problems)
    wrong = {found.get("workflow") for found in problems if found["severity"] == "error"}
    explored = [_explore(flow, bound) for flow in flows if soundness and flow.name not in wrong]
    if json:
        told = {"file": str(file), "ok": not errors, "workflows": [flow.name for flow in flows], "problems": problems}
        print_json(told | {"soundness": msgspec.to_builtins(explored)})
    else:
        _print(file, flows, problems, errors)
        for result in explored:
            _print_soundness(result)
    raise typer.Exit(REFUSED if errors else 0)


def _print(file: Path, flows: list[Workflow | WorkflowDefinition], problems: list[dict[str, Any]], errors: int) -> None:
    for found in problems:
        typer.echo(f"{found['severity']}: {found['text']}", err=found["severity"] == "error")
    names = ", ".join(flow.name for flow in flows)
    count = f"{errors} errors, {len(problems) - errors} warnings"
    typer.echo(f"{file}: {names + ': ' if names else ''}{count if problems else 'ok'}", err=bool(errors))


def _explore(flow: Workflow | WorkflowDefinition, bound: int | None) -> Soundness:
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.soundness import STATES_MAX, check_soundness

    definition = flow.definition() if isinstance(flow, Workflow) else flow
    return check_soundness(definition, states_max=bound or STATES_MAX)


def _print_soundness(result: Soundness) -> None:
    for word, problems in (("unsound", result.problems), ("undecided", result.undecided)):
        for problem in problems:
            typer.echo(f"{word}: {safe(problem.message)}")
            for number, step in enumerate(problem.example, 1):
                typer.echo(f"  {number:>3}. {safe(step)}")
    count = f"{counted(len(result.problems), 'problem')}, " if result.problems else ""
    seen = result.reason or counted(result.states, "state")
    typer.echo(f"{result.workflow}: {result.verdict} ({count}{seen})")


def _flows(file: Path, name: str | None) -> list[Workflow | WorkflowDefinition]:
    from wonder_ray.cli.flows import PYTHON, load_flow, load_flows

    if file.suffix != PYTHON:
        from wonder_ray.definitions.files import load_definition

        return [load_definition(file, checked=False)]
    return list(load_flows(file).values()) if name is None else [load_flow(file, name).flow]


def _problems(flow: Workflow | WorkflowDefinition) -> list[dict[str, Any]]:
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.validation import validate as check

    found = flow.problems() if isinstance(flow, Workflow) else check(flow)
    return [
        _problem(
            problem.severity,
            problem.message,
            workflow=flow.name,
            node=problem.node,
            transition=problem.transition,
            field=problem.field,
            mend=problem.mend,
            text=str(problem),
        )
        for problem in found
    ]


def _problem(severity: str, message: str, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("workflow", "node", "transition", "field", "mend"))
    return {"severity": severity, "message": message, **empty, "text": message} | more


@imports.callback()
def import_() -> None:
    """Make a definition of another system's workflow."""


@imports.command()
def wfformat(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A workflow instance in WfFormat (JSON).")],
    out: Annotated[Path, typer.Option("--out", metavar="FLOW.json", help="Where to write the definition (.json or .yaml).")],
    runtime_scale: Annotated[
        float,
        typer.Option("--runtime-scale", metavar="F", help="Tasks sleep F times as long as they were recorded to take.", min=0),
    ] = 0.0,
    json: AsJson = False,
) -> None:
    """Import a recorded workflow of the WfCommons format (WfFormat 1.5 and 1.6); its tasks return digests of their ancestors."""
    from wonder_ray.definitions.files import dump_definition
    from wonder_ray.interop.wfformat import import_wfformat

    if not file.is_file():
        raise DefinitionError(f"{file}: there is no such file")
    if not out.parent.is_dir():
        raise DefinitionError(f"--out {out}: there is no folder {out.parent}")
    definition = import_wfformat(file, runtime_scale=runtime_scale)
    dump_definition(definition, out)
    found = {"name": definition.name, "nodes": len(definition.nodes), "transitions": len(definition.transitions), "out": str(out)}
    if json:
        print_json(found)
    else:
        typer.echo(
            f"{out}: {found['name']}, {found['nodes']} nodes, {found['transitions']} transitions; run it: wonder run {out}"
        )
