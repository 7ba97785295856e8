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
