"""The `wonder` command: one file per group of commands.

Everything that only looks at runs works on the storage folder alone, and never starts Ray. What a command needs is imported
when it runs, so that `wonder --help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process.

    Exit codes: 0 done (for `run` and `resume`: the run completed), 1 it did not, 2 what was asked for cannot be done (bad
    arguments, input, definition, run or storage), 130 interrupted.
    """
    from wonder_ray.cli.app import app

    app(prog_name="wonder")
