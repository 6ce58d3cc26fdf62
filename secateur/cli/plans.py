"""Commands about plans: for other tools and from them, on tasks, trained further."""

from pathlib import Path
from typing import Annotated

import typer

from ..space.errors import SecateurError, suggest
from ..terminal import goes_on, watching
from .runs import print_report
from .shared import MOST_TOKENS, PICK, Json, RunPath, Workers, console, errors, print_json

app = typer.Typer()


@app.command(rich_help_panel="Plans")
def export(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or a plan file.", metavar="RUN|PLAN.json")],
    to: Annotated[str | None, typer.Option(help="The format; --list shows them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to: a new folder.")] = None,
    pick: Annotated[str | None, typer.Option(help=PICK)] = None,
    every: Annotated[bool, typer.Option("--list", help="Show which formats can carry the plan, and why not.")] = False,
    vocabulary: Annotated[
        str | None, typer.Option(help="For gguf: a GGUF of the dense model to take the vocabulary from, or 'none'.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="For gguf: the type of its matrices: q8_0, q5_1, q5_0, q4_1 or q4_0.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a plan for other tools."""
    from ..runs.stages.exporting import carriers, export_plan, larger_than_source, plan_of

    plan = plan_of(source, pick)
    if every and as_json:
        print_json([{"format": form.name, "about": form.about, "refused": why} for form, why in carriers(plan)])
        return
    if every:
        from ..runs.report.fitting import Column, print_table

        columns = [Column("format"), Column("what it is", text=True), Column("this plan", text=True)]
        rows = [(form.name, form.about, f"no: {reason}" if reason else "yes") for form, reason in carriers(plan)]
        print_table(console, f"Formats for {plan.name}", columns, rows)
        return
    if to is None or out is None:
        raise SecateurError("export: say --to FORMAT and --out FOLDER, or --list to see the formats")
    with goes_on("nothing was written; export again"):
        options = {"vocabulary": vocabulary, "quantize": quantize}
        written = export_plan(plan, to, out, trusted=source.is_dir(), options=options)
    console.print(f"wrote {written} (plan {plan.name})", soft_wrap=True)
    if (warning := larger_than_source(plan, written, source)) is not None:
        errors.print(f"secateur: {warning}", style="yellow", soft_wrap=True)


@app.command(rich_help_panel="Plans")
def push(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or a plan file.", metavar="RUN|PLAN.json")],
    repo: Annotated[str, typer.Option(help="The repository on the hub: OWNER/NAME; made where there is none.")],
    pick: Annotated[str | None, typer.Option(help=PICK)] = None,
    public: Annotated[bool, typer.Option(help="Everybody may see a repository that is made.")] = False,
) -> None:
    """Upload a plan to the Hugging Face hub, as a checkpoint with a model card; as whoever is logged in there."""
    from ..runs.stages.pushing import push as carry_out

    with goes_on("push again: what is there already is not uploaded twice"):
        address = carry_out(source, repo, pick, private=not public)
    console.print(f"pushed {address}", soft_wrap=True)


@app.command("import", rich_help_panel="Plans")
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
    from ..plans.reading import format_of
    from ..runs.report.tables import print_plan
    from ..runs.stages.exporting import import_plan

    print_plan(console, import_plan(file, model, out, dtype))
    console.print(f"read {file} as {format_of(file)}; wrote {out}", soft_wrap=True)


@app.command("eval", rich_help_panel="Plans")
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
    as_json: Json = False,
) -> None:
    """Evaluate plans of a run, or a checkpoint, on downstream tasks (lm-eval, an optional extra)."""
    from ..fitness.model.dtypes import DTYPES
    from ..fitness.scores.tasks import TaskRun
    from ..runs.record.folder import RunFolder
    from ..runs.report.rows import origin_of
    from ..runs.report.tables import print_tasks
    from ..runs.stages.tasks import evaluate_checkpoint, evaluate_run, is_run

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
                evaluate_run(run, pick or ["found", origin_of(run.recipe)], names, folder, how, trained, watcher)
            if as_json:
                from ..api import summary_of

                print_json(summary_of(run)[1])
                return
            print_report(run)
        return
    if pick or trained or settings:
        raise SecateurError(f"eval: {target} is no run; --pick, --trained and --set are for runs")
    with watching(console, errors) as watcher:
        results = evaluate_checkpoint(target, names, folder, how, dtype, watcher)
    if as_json:
        print_json(results)
        return
    rows = [("task", "metric", "value", "standard error", "documents")]
    for result in results:
        for metric, (value, error) in result.metrics.items():
            shown = f"{error:.4f}" if error is not None else ""
            rows.append((result.task, metric, f"{value:.4f}", shown, f"{result.documents:,}"))
    print_tasks(console, rows)


@app.command(rich_help_panel="Plans")
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
    from ..runs.record.folder import RunFolder
    from ..runs.report.tables import print_tuned
    from ..runs.stages.tuning import tune as carry_out

    with (
        RunFolder.open(run, writing=False) as folder,
        goes_on("the same command goes on from the last saved state"),
        watching(console, errors) as watcher,
    ):
        tuned = carry_out(folder, pick, tokens, every, out, settings or [], watcher)
    print_tuned(console, [(point.tokens, point.losses) for point in tuned.points], tuned.prediction)
    console.print(f"wrote {tuned.checkpoint}", soft_wrap=True)
