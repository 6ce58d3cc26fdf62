"""Commands about runs: begun, gone on with, shown, compared."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..space.errors import SecateurError, StorageError
from ..terminal import goes_on, watching
from .recipes import read
from .shared import PICK, Json, RecipeFile, RunPath, Settings, Workers, console, errors, print_json

app = typer.Typer()


@app.command(rich_help_panel="Runs")
def search(
    recipe: RecipeFile,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs-local/NAME-N by default.")] = None,
) -> None:
    """Search, compare with the baselines, confirm on held-out text, and write the report.

    A folder that was begun with the same recipe is gone on with.
    """
    wanted = read(recipe, settings)
    path = out or _own_folder(recipe.stem, wanted)
    if wanted.seeds is None:
        _search(wanted, path)
    else:
        _search_draws(wanted, path)


def _search(wanted: Any, path: Path) -> None:
    """One run, from its beginning or from where it is."""
    from ..runs.record.folder import RunFolder, begun_with
    from ..runs.run import start

    if begun_with(path, wanted):
        console.print(f"run {path} was begun before: going on with it", soft_wrap=True)
        try:
            with RunFolder.open(path, asked=wanted) as folder:
                _carry_out(folder)
        except SecateurError as error:
            raise SecateurError(f"{error} (to begin anew, name another folder by --out)") from error
        return
    with console.status("loading the model and its texts"), goes_on("nothing has been begun; search again"):
        folder, loaded = start(wanted, path)
    with folder:
        console.print(f"run {folder.path}", soft_wrap=True)
        _carry_out(folder, loaded)


@app.command(rich_help_panel="Runs")
def resume(run: RunPath, settings: Workers = None) -> None:
    """Continue a run from wherever it was stopped; nothing that was evaluated is evaluated again."""
    from ..runs.draws import is_drawn, recipe_of
    from ..runs.record.folder import RunFolder

    if is_drawn(run):
        _search_draws(recipe_of(run), run, settings or [])
        return
    with RunFolder.open(run, settings=settings or []) as folder:
        _carry_out(folder)


@app.command(rich_help_panel="Runs")
def report(
    run: RunPath,
    pick: Annotated[str | None, typer.Option(help=f"{PICK} Shows that plan alone.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report again from the journal and print its tables; needs no model."""
    from ..runs.draws import is_drawn
    from ..runs.record.folder import RunFolder
    from ..runs.report.tables import print_plan
    from ..runs.stages.exporting import pick_plan

    if is_drawn(run):
        if pick is not None:
            raise SecateurError(f"--pick {pick}: {run} has several draws; name one of its folders, such as draw-0")
        _report_draws(run, as_json)
        return
    with RunFolder.open(run, writing=False) as folder, goes_on("report again"):
        if as_json:
            from ..api import summary_of

            print_json(pick_plan(folder, pick).model_dump(mode="json") if pick else summary_of(folder)[1])
        elif pick is None:
            try:
                print_report(folder)
            except StorageError as error:  # the tables are shown, which was asked for too
                errors.print(f"secateur: the pages are as they were: {error}", style="yellow", soft_wrap=True)
        else:
            print_plan(console, pick_plan(folder, pick))


def _search_draws(wanted: Any, path: Path, settings: list[str] | None = None) -> None:
    """A run for each draw of the texts, one after another, then what they come to together."""
    from ..runs.asked.reading import with_others
    from ..runs.draws import begin_draws, drawn

    if begin_draws(wanted, path):
        console.print(f"{path} was begun before: going on with it", soft_wrap=True)
    draws = drawn(wanted, path)
    for number, (seed, folder, recipe) in enumerate(draws, start=1):
        console.print(f"draw {number} of {len(draws)}: seed {seed}")
        _search(with_others(recipe, settings or []), folder)
    _report_draws(path)


def _report_draws(path: Path, as_json: bool = False) -> None:
    from ..api import draws_of
    from ..runs.report.tables import print_draws

    found = draws_of(path)
    if as_json:
        print_json(found)
        return
    print_draws(console, found)
    console.print(f"report: {path / 'index.html'}", soft_wrap=True)


@app.command(rich_help_panel="Runs")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs of one problem.", metavar="RUN…")],
    out: Annotated[Path | None, typer.Option(help="Also write the fronts into one HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """Compare several runs of one problem: hypervolume, joint front, or the found plans; needs no model."""
    from ..api import compare_all
    from ..runs.report.tables import print_compared

    compared = compare_all(runs, out)
    if as_json:
        print_json(compared)
        return
    print_compared(console, compared)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)


@app.command(rich_help_panel="Runs")
def dashboard(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
) -> None:
    """Open the run in optuna-dashboard (optional extra), while it is carried out too; ends with Ctrl-C."""
    from ..runs.following import followed

    try:
        import optuna_dashboard
    except ImportError:
        raise SecateurError("dashboard: needs optuna-dashboard; pip install 'secateur[dashboard]'") from None

    def say(message: str) -> None:
        errors.print(message, style="yellow", soft_wrap=True)

    try:
        with goes_on("the same command opens it again"), followed(run, say) as storage:
            console.print(f"run {run}; http://{host}:{port}/", soft_wrap=True)
            optuna_dashboard.run_server(storage, host=host, port=port)
    except (OSError, OverflowError) as error:
        raise SecateurError(f"dashboard: cannot listen at --host {host} --port {port}: {error}") from error


def _own_folder(name: str, recipe: Any) -> Path:
    """`runs-local/NAME-N`: the last that was begun with that recipe; else the first that is free."""
    from ..runs.draws import drawn_with
    from ..runs.record.folder import begun_with

    number, found = 1, None
    while (path := Path("runs-local") / f"{name}-{number}").exists():
        if begun_with(path, recipe, differing=True) or drawn_with(path, recipe):
            found = path
        number += 1
    return found or path


def _carry_out(folder: Any, loaded: Any = None) -> None:
    from ..runs.run import execute

    with goes_on(f"go on from here with: secateur resume {shlex.quote(str(folder.path))}"):
        with watching(console, errors) as watcher:
            execute(folder, watcher, loaded)
        print_report(folder)


def print_report(folder: Any) -> None:
    """Prints the tables, then writes pages and plans; what cannot be written is told after what can be shown."""
    from ..api import summary_of
    from ..runs.report.front import FrontSummary
    from ..runs.report.tables import print_front, print_summary
    from ..runs.report.write import estimated, shown_costs, write_report

    space, summary = summary_of(folder)
    budgets = [*map(str, space.budgets), *map(str, folder.recipe.limits)]
    if isinstance(summary, FrontSummary):
        print_front(console, summary, budgets)
    else:
        print_summary(console, summary, budgets, shown_costs(folder, space), estimated(space))
    write_report(folder, space, summary)
    console.print(f"report: {folder.path / 'report' / 'index.html'}", soft_wrap=True)
