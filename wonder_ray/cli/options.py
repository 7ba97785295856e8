"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Ref: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="The run: its id, the beginning of its id, or 'latest'.", show_default=False)
]
Storage: TypeAlias = Annotated[
    Path | None,
    typer.Option("--storage", metavar="DIR", envvar="WONDER_STORAGE", help="The storage folder. [default: ~/.wonder/storage]"),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", metavar="A", help="A Ray cluster ('auto', 'host:port', 'ray://...'). By default a local Ray."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, one object, on one line.")]
JsonLines: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
LastLineJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="End with one line of JSON on stdout; everything else goes to stderr.")
]
Detach: TypeAlias = Annotated[
    bool, typer.Option("--detach", help="Return as soon as the run is accepted; needs a cluster that outlives the command.")
]
Flow: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="A .py file with a Workflow at module level, or a .json or .yaml.")
]
Input: TypeAlias = Annotated[
    str | None, typer.Option("--input", metavar="JSON", help="The run's input: JSON, @file, or - for stdin.")
]
Key: TypeAlias = Annotated[
    str | None, typer.Option("--key", metavar="K", help="Your name for the run: a second start with it finds the first run.")
]
Trace: TypeAlias = Annotated[bool, typer.Option("--trace", help="Record trace events, for `wonder trace`.")]
Labels: TypeAlias = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="For finding the run again; may be repeated.")
]
WorkflowName: TypeAlias = Annotated[
    str | None, typer.Option("--name", metavar="FLOW", help="Which workflow of a .py file: its name, or its variable.")
]
CommandKey: TypeAlias = Annotated[
    str | None,
    typer.Option("--key", metavar="K", help="A repetition with the same key has no further effect, and gets the first answer."),
]
Follow: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--follow/--no-follow",
        help="Watch the run to its end, or its next wait. [default: where no cluster runs it, and a local Ray is started for it]",
        show_default=False,
    ),
]
UntilWait: TypeAlias = Annotated[
    bool,
    typer.Option("--until-wait", help="Return, too, when the run waits for somebody: `wonder answer` carries it on."),
]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is in the run's events.")]
Group: TypeAlias = Annotated[
    str, typer.Argument(metavar="GROUP", help="The group's name; where several of it are open, the id of one (`wonder state`).")
]
Changes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TARGET=JSON", help="Change the state it begins with, as state.limit=5; may be repeated."),
]
