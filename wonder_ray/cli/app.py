"""The command line put together, and what an error looks like on it: one message on stderr, and an exit code."""

from __future__ import annotations

import traceback
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from wonder_ray.cli import (
    administering,
    analysing,
    answering,
    checking,
    clusters,
    controlling,
    definitions,
    forking,
    histories,
    logs,
    looking,
    running,
    serving,
    storing,
    submitting,
)
from wonder_ray.errors import HistoryConflictError, ServiceUnavailableError, StaleEpochError, WonderError

DEBUG: Final = "--debug"
FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130
NOT_THE_CALLERS: Final = (HistoryConflictError, ServiceUnavailableError, StaleEpochError)
"""Errors that another call with other arguments would not mend."""


class Commands(TyperGroup):
    """The commands, with `--debug` understood anywhere among their arguments, and errors told as people read them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note `--debug`, and take it out."""
        ctx.meta[DEBUG] = DEBUG in args
        return super().parse_args(ctx, [arg for arg in args if arg != DEBUG])

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except WonderError as error:
            raise _told(error, str(error), debug=ctx.meta[DEBUG]) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # who read our output has seen enough
                raise
            raise _told(error, f"{type(error).__name__}: {error}", debug=ctx.meta[DEBUG]) from None
        except Exception as error:
            if (type(error).__module__ or "").startswith(("typer.", "click.")):  # usage, exit, abort
                raise
            said = str(error).strip().splitlines() or [""]  # of a remote traceback the last line says what happened
            text = f"{type(error).__name__}: {said[-1]}\n(not expected: {DEBUG} shows where it comes from)"
            raise _told(error, text, debug=ctx.meta[DEBUG]) from None


def _told(error: Exception, text: str, *, debug: bool) -> typer.Exit:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"wonder: {text}", err=True)
    return typer.Exit(REFUSED if isinstance(error, WonderError) and not isinstance(error, NOT_THE_CALLERS) else FAILED)


app = typer.Typer(
    cls=Commands,
    name="wonder",
    help="Durable workflows for Ray: run them, look at them, go on with them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from wonder_ray import __version__

        typer.echo(f"wonder-ray {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Durable workflows for Ray: run them, look at them, go on with them."""


for group in (
    running,
    answering,
    controlling,
    forking,
    looking,
    histories,
    logs,
    analysing,
    definitions,
    submitting,
    clusters,
    serving,
    storing,
    administering,
    checking,
):
    group.add_to(app)
