"""All commands, and the options before them."""

from typing import Annotated

import typer

from . import plans, recipes, runs
from .shared import console, errors

ABOUT = "Searches for non-uniform compression plans of transformer models: which layer keeps how much."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)
for part in (recipes, runs, plans):
    app.add_typer(part.app)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        console.print(f"secateur {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,  # noqa: ARG001 - read by `__main__`
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors and JSON.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Searches for non-uniform compression plans of transformer models: which layer keeps how much."""
    console.silent = errors.silent = quiet
