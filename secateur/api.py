"""What Python users call, and the command line with them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_text
from .plans.plan import Plan
from .runs import problem
from .runs.describe import Description
from .runs.describe import describe as describe_recipe
from .runs.draws import begin_draws, drawn, is_drawn, opened, recipe_of
from .runs.given import Asked, Objects, beginning, read
from .runs.record.folder import RunFolder, begun_with
from .runs.report.compare import Compared, compare_runs, comparison_page
from .runs.report.draws import Drawn, draws_page, summarise_draws
from .runs.report.front import FrontSummary, summarise_front
from .runs.report.notebook import frame_of, run_html
from .runs.report.page import rendered
from .runs.report.study import write_study
from .runs.report.summary import Summary, summarise
from .runs.report.write import shown_costs, write_report
from .runs.run import execute, start
from .runs.stages.exporting import export_plan, pick_plan
from .runs.watcher import Calling, Progress
from .space.errors import SecateurError
from .space.space import Space

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Compared",
    "Description",
    "Drawn",
    "Plan",
    "Progress",
    "Run",
    "compare_all",
    "describe",
    "draw",
    "resume",
    "run",
    "study_of",
    "summary_of",
]


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run on disk.

    `summary` is the comparison with the baselines; `plan()` any of its plans; `export()` writes one for other tools.
    """

    path: Path

    @property
    def summary(self) -> Summary:
        """What was found beside the baselines; raises SecateurError while there is nothing to report."""
        with RunFolder.open(self.path, writing=False) as folder:
            return summarise(folder, problem.space_of(folder))

    @property
    def front(self) -> FrontSummary | None:
        """The front; None where the recipe asks for one plan, or the search has not finished."""
        with RunFolder.open(self.path, writing=False) as folder:
            return summarise_front(folder, problem.space_of(folder))

    def frame(self) -> "DataFrame":
        """One row of pandas for each plan: costs, scores on every text, and the difference to what was found."""
        with RunFolder.open(self.path, writing=False) as folder:
            return frame_of(summary_of(folder)[1])

    def _repr_html_(self) -> str:
        """In a notebook: verdict and comparison."""
        with RunFolder.open(self.path, writing=False) as folder:
            space, found = summary_of(folder)
            return run_html(found, shown_costs(folder, space))

    def plan(self, pick: str = "found") -> Plan:
        """The plan that `pick` means: "found", a baseline's name; for a front "knee", a rank, "latency<=0.6x"."""
        with RunFolder.open(self.path, writing=False) as folder:
            return pick_plan(folder, pick)

    def export(
        self,
        to: str,
        out: str | Path,
        pick: str = "found",
        vocabulary: str | None = None,
        quantize: str | None = None,
    ) -> Path:
        """Writes the plan as `to` (see `FORMATS`) into the new folder `out`; returns what was written.

        Of `gguf`, `vocabulary`: a GGUF of the dense model that has it, or "none", by default that of the model;
        `quantize`: the type of its matrices, such as "q4_0", by default the model's dtype.
        """
        options = {"vocabulary": vocabulary, "quantize": quantize}
        return export_plan(self.plan(pick), to, Path(out), trusted=True, options=options)


def describe(recipe: Asked) -> Description:
    """What a recipe would search, and what it would take; `run` says what may be given.

    Raises:
        SecateurError: anything in the recipe that does not fit.
    """
    return describe_recipe(read(recipe))


def run(
    recipe: Asked,
    out: str | Path,
    watch: Callable[[Progress], None] | None = None,
    *,
    model: Any = None,
    tokenizer: Any = None,
    text: Iterable[str] | None = None,
    held_out: Iterable[str] | None = None,
) -> Run:
    """Carries out a recipe (a YAML file, the name of one that ships with us, or plain values) in the new folder `out`.

    Args:
        recipe: what is searched; it need not name what is given as an object.
        out: the run's folder.
        watch: called with every step of progress; what it raises ends the run, which can be resumed.
        model, tokenizer: of transformers, loaded, and changed or not; kept in `out` as they are now, from where the run
            loads them, so that it can be resumed and workers can open them.
        text: documents to score candidates on; kept in `out`.
        held_out: documents that the search never sees; by default some of `text` are kept from it.

    Raises:
        SecateurError: anything in the recipe that does not fit, or `out` is taken.
    """
    with beginning(recipe, Path(out), Objects(model, tokenizer, text, held_out)) as wanted:
        if wanted.seeds is not None:
            raise SecateurError("seeds: a run is of one draw; secateur.draw carries out several")
        folder, loaded = start(wanted, Path(out))
    with folder:
        execute(folder, Calling(watch) if watch is not None else None, loaded)
        write_report(folder, *summary_of(folder))
    return Run(Path(out))


def resume(path: str | Path, settings: Sequence[str] = (), watch: Callable[[Progress], None] | None = None) -> Run:
    """Continues a run from wherever it was stopped, with other workers where `settings` say so ("workers=4").

    `watch`: as of `run`.

    Raises:
        SecateurError: `path` is no run.
    """
    with RunFolder.open(Path(path), settings=settings) as folder:
        execute(folder, Calling(watch) if watch is not None else None)
        write_report(folder, *summary_of(folder))
    return Run(Path(path))


def summary_of(folder: RunFolder) -> tuple[Space, Summary | FrontSummary]:
    """What an open run has come to; raises SecateurError when it has nothing to report yet."""
    folder.check_begun()
    space = problem.space_of(folder)
    return space, summarise_front(folder, space) or summarise(folder, space)


def compare_all(paths: Sequence[Path], out: Path | None = None) -> list[Compared]:
    """Compares finished runs of one problem, and writes their fronts into the page `out`.

    Raises:
        SecateurError: a folder that is no run, has not finished, or is of another problem; `out` exists.
    """
    if out is not None and out.exists():
        raise SecateurError(f"{out} exists; --out names another file")
    with ExitStack() as stack:
        folders = [stack.enter_context(RunFolder.open(path, writing=False)) for path in paths]
        runs = [(folder, problem.space_of(folder)) for folder in folders]
        compared = compare_runs(runs)
        if out is not None:
            write_text(out, comparison_page(runs))
    return compared


def draws_of(path: Path) -> Drawn:
    """What several draws of a recipe's texts come to together; writes their page into the folder.

    Raises:
        SecateurError: the folder has none.
    """
    if not is_drawn(path):
        raise SecateurError(f"{path}: has no draws; a recipe with 'seeds' makes some")
    wanted = recipe_of(path)
    with opened(path) as draws:
        found = summarise_draws(draws, len(wanted.draws))
        if found.seeds:
            write_text(path / "index.html", rendered(draws_page(draws[0][1], found)))
    return found


def draw(recipe: Asked, out: str | Path, watch: Callable[[Progress], None] | None = None) -> Drawn:
    """Carries out a recipe with `seeds` in the folder `out`, a run for each draw; goes on where it was stopped.

    Raises:
        SecateurError: anything in the recipe that does not fit, or `out` is taken.
    """
    wanted, path = read(recipe), Path(out)
    begin_draws(wanted, path)
    for _, folder, one in drawn(wanted, path):
        if begun_with(folder, one):
            resume(folder, watch=watch)
        else:
            run(one, folder, watch)
    return draws_of(path)


def study_of(path: Path) -> Path:
    """Writes a run as an Optuna study (journal file) into its report; returns the file."""
    with RunFolder.open(path, writing=False) as folder:
        return write_study(folder, problem.space_of(folder))
