"""The command line: its commands, and what each prints; `__main__` turns how they end into a message and a status."""

import shlex
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .space.errors import SecateurError, StorageError, suggest
from .terminal import Terminal, goes_on, watching

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Searches for non-uniform compression plans of transformer models: which layer keeps how much.",
)
console, errors = Terminal(), Terminal(stderr=True)

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
PICK = "Which plan: 'found' or a baseline's name; of a front 'knee', a rank, or a limit such as 'latency<=0.6x'."
MOST_TOKENS = 10**13
RunPath = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: key=value, such as effort.tokens=50000.")
]
Workers = Annotated[list[str] | None, typer.Option("--set", help="Other workers than the recipe's: workers=4.")]


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        console.print(f"secateur {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Searches for non-uniform compression plans of transformer models: which layer keeps how much."""


@app.command()
def search(
    recipe: RecipeFile,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs-local/NAME-N by default.")] = None,
) -> None:
    """Search, compare with the baselines, confirm on held-out text, and write the report."""
    from .runs.asked.reading import read_recipe
    from .runs.run import start

    wanted = read_recipe(recipe, settings or [])
    with console.status("loading the model and its texts"), goes_on("nothing has been begun; search again"):
        folder, loaded = start(wanted, out or _free_folder(recipe.stem))
    with folder:
        console.print(f"run {folder.path}", soft_wrap=True)
        _carry_out(folder, loaded)


@app.command()
def resume(run: RunPath, settings: Workers = None) -> None:
    """Continue a run from wherever it was stopped; nothing that was evaluated is evaluated again."""
    from .runs.record.folder import RunFolder

    with RunFolder.open(run, settings=settings or []) as folder:
        _carry_out(folder)


@app.command()
def report(
    run: RunPath,
    pick: Annotated[str | None, typer.Option(help=f"{PICK} Shows that plan alone.")] = None,
) -> None:
    """Write the report again from the journal and print its tables; needs no model."""
    from .runs.record.folder import RunFolder
    from .runs.report.tables import print_plan
    from .runs.stages.exporting import pick_plan

    with RunFolder.open(run, writing=False) as folder, goes_on("report again"):
        if pick is None:
            try:
                _report(folder)
            except StorageError as error:  # the tables are shown, which was asked for too
                errors.print(f"secateur: the pages are as they were: {error}", style="yellow", soft_wrap=True)
        else:
            print_plan(console, pick_plan(folder, pick))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or a plan file.", metavar="RUN|PLAN.json")],
    to: Annotated[str | None, typer.Option(help="The format; --list shows them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to: a new folder.")] = None,
    pick: Annotated[str | None, typer.Option(help=PICK)] = None,
    every: Annotated[bool, typer.Option("--list", help="Show which formats can carry the plan, and why not.")] = False,
    vocabulary: Annotated[
        str | None, typer.Option(help="For gguf: a GGUF of the dense model to take the vocabulary from, or 'none'.")
    ] = None,
) -> None:
    """Write a plan for other tools."""
    from .runs.stages.exporting import carriers, export_plan, larger_than_source, plan_of

    plan = plan_of(source, pick)
    if every:
        table = Table(title=f"Formats for {plan.name}", title_justify="left")
        for heading in ("format", "what it is", "this plan"):
            table.add_column(heading)
        for form, reason in carriers(plan):
            table.add_row(form.name, form.about, f"no: {reason}" if reason else "yes")
        console.print(table)
        return
    if to is None or out is None:
        raise SecateurError("export: say --to FORMAT and --out FOLDER, or --list to see the formats")
    with goes_on("nothing was written; export again"):
        options = {"vocabulary": vocabulary} if vocabulary is not None else {}
        written = export_plan(plan, to, out, trusted=source.is_dir(), options=options)
    console.print(f"wrote {written}", soft_wrap=True)
    if (warning := larger_than_source(plan, written)) is not None:
        errors.print(f"secateur: {warning}", style="yellow", soft_wrap=True)


@app.command("eval")
def eval_(
    target: Annotated[str, typer.Argument(help="A run, or a checkpoint: folder, GGUF or package:NAME.")],
    tasks: Annotated[str, typer.Option(help="Names of lm-eval tasks, separated by commas.")],
    include: Annotated[Path | None, typer.Option(help="A folder with task definitions (YAML) of your own.")] = None,
    pick: Annotated[
        list[str] | None, typer.Option(help=f"{PICK} May be repeated; 'dense', 'all'. Default: found and dense.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task; all by default.")] = None,
    fewshot: Annotated[int | None, typer.Option(min=0, help="Examples before each question.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 16,
    seed: Annotated[int, typer.Option(help="Draws the examples.")] = 0,
    trained: Annotated[bool, typer.Option(help="After the training that the search gave its candidates.")] = False,
    dtype: Annotated[str, typer.Option(help="Of a checkpoint: float32, bfloat16 or float16.")] = "float32",
    allow_code: Annotated[bool, typer.Option(help="Task definitions may run Python (!function).")] = False,
    settings: Workers = None,
) -> None:
    """Evaluate plans of a run, or a checkpoint, on downstream tasks (lm-eval, an optional extra)."""
    from .fitness.model.dtypes import DTYPES
    from .fitness.scores.tasks import TaskRun
    from .runs.record.folder import RunFolder
    from .runs.report.tables import print_tasks
    from .runs.stages.tasks import evaluate_checkpoint, evaluate_run, is_run

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise SecateurError("eval: --tasks names no task")
    if dtype not in DTYPES:
        raise SecateurError(f"--dtype {dtype}; {suggest(dtype, DTYPES)}")
    how, folder = TaskRun(limit, fewshot, batch_size, seed, allow_code), str(include) if include is not None else None
    if is_run(target):
        with (
            RunFolder.open(Path(target), settings=settings or []) as run,
            goes_on("the same command goes on with the tasks that are left"),
        ):
            with watching(console, errors) as watcher:
                evaluate_run(run, pick or ["found", "dense"], names, folder, how, trained, watcher)
            _report(run)
        return
    if pick or trained or settings:
        raise SecateurError(f"eval: {target} is no run; --pick, --trained and --set are for runs")
    with watching(console, errors) as watcher:
        results = evaluate_checkpoint(target, names, folder, how, dtype, watcher)
    rows = [("task", "metric", "value", "standard error", "documents")]
    for result in results:
        for metric, (value, error) in result.metrics.items():
            shown = f"{error:.4f}" if error is not None else ""
            rows.append((result.task, metric, f"{value:.4f}", shown, f"{result.documents:,}"))
    print_tasks(console, rows)


@app.command()
def tune(
    run: RunPath,
    tokens: Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="How many to train on.")],
    out: Annotated[Path, typer.Option(help="Folder of the training; one that is there is gone on with.")],
    pick: Annotated[str, typer.Option(help=PICK)] = "found",
    every: Annotated[
        int, typer.Option(min=1, max=MOST_TOKENS, help="Tokens between two saved states, with a look at held-out text.")
    ] = (50_000),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="How to train: training.what=full, training.learning_rate=1e-4, …")
    ] = None,
) -> None:
    """Train a plan further and write it as a checkpoint; a killed training goes on from its last saved state."""
    from .runs.record.folder import RunFolder
    from .runs.report.tables import print_tuned
    from .runs.stages.tuning import tune as carry_out

    with (
        RunFolder.open(run, writing=False) as folder,
        goes_on("the same command goes on from the last saved state"),
        watching(console, errors) as watcher,
    ):
        tuned = carry_out(folder, pick, tokens, every, out, settings or [], watcher)
    print_tuned(console, [(point.tokens, point.losses) for point in tuned.points], tuned.prediction)
    console.print(f"wrote {tuned.checkpoint}", soft_wrap=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A plan, list or recipe of another tool.", metavar="FILE")],
    model: Annotated[str, typer.Option(help="The dense model it is for: folder, GGUF or package:NAME.")],
    out: Annotated[Path, typer.Option(help="Where to: a new plan file (JSON).")],
    dtype: Annotated[
        str,
        typer.Option(help="The dtype that bytes are counted in: float32, bfloat16, float16, or auto."),
    ] = "auto",
) -> None:
    """Read another tool's file as a plan, to export it, or to start a search from it."""
    from .runs.report.tables import print_plan
    from .runs.stages.exporting import import_plan

    print_plan(console, import_plan(file, model, out, dtype))
    console.print(f"wrote {out}", soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs of one problem.", metavar="RUN…")],
    out: Annotated[Path | None, typer.Option(help="Also write the fronts into one HTML page.")] = None,
) -> None:
    """Compare several runs of one problem: hypervolume, joint front, or the found plans; needs no model."""
    from .api import compare_all
    from .runs.report.tables import print_compared

    print_compared(console, compare_all(runs, out))
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)


@app.command()
def dashboard(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
) -> None:
    """Open the run in optuna-dashboard (optional extra), as a study derived from the journal; ends with Ctrl-C."""
    from .api import study_of

    try:
        import optuna_dashboard
    except ImportError:
        raise SecateurError("dashboard: needs optuna-dashboard; pip install 'secateur[dashboard]'") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = study_of(run)
    console.print(f"study {path}; http://{host}:{port}/", soft_wrap=True)
    try:
        with goes_on("the same command opens it again"):
            optuna_dashboard.run_server(JournalStorage(JournalFileBackend(str(path))), host=host, port=port)
    except (OSError, OverflowError) as error:
        raise SecateurError(f"dashboard: cannot listen at --host {host} --port {port}: {error}") from error


@app.command()
def space(recipe: RecipeFile, settings: Settings = None) -> None:
    """Show what would be searched, and whether the budgets can be kept; needs no weights."""
    from .runs.asked.reading import read_recipe
    from .runs.describe import describe

    description = describe(read_recipe(recipe, settings or []))
    table = Table(
        title=f"{description.genes} genes, {Decimal(description.size):.3g} combinations", title_justify="left"
    )
    for heading in ("kind", "genes", "levels (dense first)", "sites"):
        table.add_column(heading)
    for row in description.kinds:
        table.add_row(*row)
    console.print(table)
    table = Table(title=f"Costs (MACs per token at a context of {description.context} tokens)", title_justify="left")
    table.add_column("cost")
    for heading in ("dense", "smallest", "smallest of dense", "budget"):
        table.add_column(heading, justify="right")
    for cost in description.costs:
        table.add_row(*cost)
    console.print(table)
    if description.memory:
        table = Table(title="Memory, while most of each is held", title_justify="left")
        table.add_column("what")
        for heading in ("device", "host, if another", "on disk"):
            table.add_column(heading, justify="right")
        for part in description.memory:
            table.add_row(*part)
        console.print(table)
    for line in description.lines:
        console.print(line)


def _free_folder(name: str) -> Path:
    number = 1
    while (path := Path("runs-local") / f"{name}-{number}").exists():
        number += 1
    return path


def _carry_out(folder: Any, loaded: Any = None) -> None:
    from .runs.run import execute

    with goes_on(f"go on from here with: secateur resume {shlex.quote(str(folder.path))}"):
        with watching(console, errors) as watcher:
            execute(folder, watcher, loaded)
        _report(folder)


def _report(folder: Any) -> None:
    """Prints the tables, then writes pages and plans; what cannot be written is told after what can be shown."""
    from .api import summary_of
    from .runs.report.front import FrontSummary
    from .runs.report.tables import print_front, print_summary
    from .runs.report.write import estimated, shown_costs, write_report

    space, summary = summary_of(folder)
    budgets = [str(budget) for budget in space.budgets]
    if isinstance(summary, FrontSummary):
        print_front(console, summary, budgets)
    else:
        print_summary(console, summary, budgets, shown_costs(space), estimated(space))
    write_report(folder, space, summary)
    console.print(f"report: {folder.path / 'report' / 'index.html'}", soft_wrap=True)
