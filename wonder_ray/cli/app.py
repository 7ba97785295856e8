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
from wonder_ray.cli.reaching import choose_server, no_server_yet
from wonder_ray.errors import HistoryConflictError, ServiceUnavailableError, StaleEpochError, WonderError

DEBUG: Final = "--debug"
SERVER: Final = "--server"
FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130
NOT_THE_CALLERS: Final = (HistoryConflictError, ServiceUnavailableError, StaleEpochError)
"""Errors that another call with other arguments would not mend."""


class Commands(TyperGroup):
    """The commands, with `--debug` and `--server` understood anywhere, and errors told as people read them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note `--debug`, and take it out; put `--server URL` in front, where typer wants it."""
        ctx.meta[DEBUG] = DEBUG in args
        return super().parse_args(ctx, _server_first([arg for arg in args if arg != DEBUG]))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with no_server_yet():
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


def _server_first(args: list[str]) -> list[str]:
    """Without the rest of a line that ends its options."""
    end = args.index("--") if "--" in args else len(args)
    for place, arg in enumerate(args[:end]):
        size = 2 if arg == SERVER else 1 if arg.startswith(f"{SERVER}=") else 0
        if size:
            return [*args[place : place + size], *args[:place], *args[place + size :]]
    return args


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
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            SERVER,
            metavar="URL",
            envvar="WONDER_SERVER",
            help="Speak to a `wonder serve` with the API key in WONDER_API_KEY, instead of a storage folder; may stand anywhere.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has had it
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[  # noqa: ARG001 - taken out before, and told in the help
        bool, typer.Option(DEBUG, help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Durable workflows for Ray: run them, look at them, go on with them."""
    said = getattr(context.get_parameter_source("server"), "name", "") == "COMMANDLINE"
    choose_server(server, context.invoked_subcommand, said=said)


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
