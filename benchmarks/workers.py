"""What workers are worth: measured on this machine's cores, and beyond them computed from a real search's batches.

    python -m benchmarks.workers measure
    python -m benchmarks.workers record demo-depth runs-local/batches.json
    python -m benchmarks.workers simulate runs-local/batches.json

`measure`: batches of SmolLM2's subnets, none seen before, by this process with one thread and with two, and by two
worker processes with one thread each, in turns. `record` carries a recipe out alone and notes every batch that was
evaluated, how long that took, and how long the search thought in between. `simulate` divides these batches among more
and more workers, as `fitness.workers.division` does, and adds up when each would have been finished: layer passes and
rows through the head at the pace that they were recorded at, the search's own time as it was, what sending a call and
its answer took (`--sending`, which `measure` says), and the opening of a worker (`--opening`).
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy
import torch
import typer

from benchmarks.setup import RESULTS, shown, table_of
from secateur.api import run
from secateur.fitness.evaluator import SubnetEvaluator, aligned, neighbours
from secateur.fitness.memory import batch_size
from secateur.fitness.workers import calls
from secateur.fitness.workers.division import Division, divide, finished
from secateur.fitness.workers.spread import Spread
from secateur.operators.sampling import on_budget
from secateur.runs.asked.reading import read_recipe, with_others
from secateur.runs.problem import build_space
from secateur.runs.workers import team_of
from secateur.runs.workplace import workplace_of
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES
from secateur.space.space import Space

app = typer.Typer(add_completion=False)
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@app.command()
def measure(recipe: Path = Path("demo-sparsity"), rounds: int = 5, genomes: int = 12, sequences: int = 8) -> None:
    """This process against two workers, in turns."""
    wanted = read_recipe(recipe)
    space = build_space(wanted)
    bench = workplace_of(wanted, space).open(space)
    evaluator, length = bench.evaluator(space, "calibration", wanted.scores), wanted.calibration.length
    rng = np.random.default_rng(0)
    evaluator.teacher.prepare(range(sequences))
    with team_of(with_others(wanted, ["workers=2"]), space, {}, threads=1) as team:
        assert team is not None
        started = time.perf_counter()
        team.one(calls.speed)
        opening = time.perf_counter() - started
        spread = Spread(team, space, LOSSES, "calibration", wanted.scores, length)

        def threads(count: int) -> Callable[[Sequence[Genome]], list[Evaluation]]:
            def evaluate(some: Sequence[Genome]) -> list[Evaluation]:
                torch.set_num_threads(count)
                return list(evaluator(some, range(sequences)))

            return evaluate

        ways: dict[str, Callable[[Sequence[Genome]], list[Evaluation]]] = {
            "1 process, 1 thread": threads(1),
            "1 process, 2 threads": threads(2),
            "2 workers, 1 thread each": lambda some: list(spread(some, range(sequences))),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        losses: list[dict[str, list[tuple[float, ...]]]] = []
        for number in range(rounds + 1):
            some = [on_budget(space, rng) for _ in range(genomes)]
            found: dict[str, list[tuple[float, ...]]] = {}
            for name, evaluate in ways.items():
                started = time.perf_counter()
                told = evaluate(some)
                if number:  # the first opens what is opened once
                    times[name].append(time.perf_counter() - started)
                found[name] = [
                    one.losses["kl"] for one in sorted(_joined(told), key=lambda one: some.index(one.genome))
                ]
            losses.append(found)
        sending = []
        for _ in range(20):
            started = time.perf_counter()
            team.one(calls.open_place)
            sending.append(time.perf_counter() - started)
    base = times["1 process, 1 thread"]
    rows = [
        (
            name,
            f"{statistics.median(values):.2f} s",
            f"{statistics.median(one / two for one, two in zip(base, values, strict=True)):.2f}",
            str(all(one[name] == one["1 process, 1 thread"] for one in losses)),
        )
        for name, values in times.items()
    ]
    title = f"{genomes} genomes on {sequences} sequences"
    shown(
        RESULTS / "workers.md",
        table_of(title, ("who", "seconds", "times as fast", "same losses"), rows),
        f"Opening a worker {opening:.1f} s; sending a call and its answer {1000 * statistics.median(sending):.0f} ms.",
    )


def _joined(told: Sequence[Evaluation]) -> list[Evaluation]:
    """One evaluation a genome."""
    parts: dict[Genome, list[Evaluation]] = {}
    for one in told:
        parts.setdefault(one.genome, []).append(one)
    return [
        LOSSES.joined(sorted(some, key=lambda one: one.sequences.start), genome, range(some[-1].sequences.stop))
        for genome, some in parts.items()
    ]


@app.command()
def record(recipe: Path, out: Path) -> None:
    """Carries a recipe out alone, and notes every batch of losses that was evaluated."""
    batches: list[dict[str, Any]] = []
    evaluate = SubnetEvaluator.__call__

    def noted(self: SubnetEvaluator, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        began = time.perf_counter()
        yield from evaluate(self, genomes, sequences)
        batches.append(
            {
                "levels": [list(genome.levels) for genome in genomes],
                "sequences": [sequences.start, sequences.stop],
                "length": self.teacher.text.length,
                "began": began,
                "ended": time.perf_counter(),
            }
        )

    SubnetEvaluator.__call__ = noted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        run(recipe, Path(folder) / "run")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"recipe": str(recipe), "batches": batches}))
    print(f"{len(batches)} batches in {out}")


@app.command()
def simulate(
    recorded: Path,
    sending: Annotated[float, typer.Option(help="Seconds that a call and its answer take.")] = 0.02,
    opening: Annotated[float, typer.Option(help="Seconds until a worker is ready.")] = 12.0,
    together: Annotated[int | None, typer.Option(help="Sequences of a batch, which is not divided.")] = None,
) -> None:
    """When the batches of a recorded search would have been finished by more workers."""
    values = json.loads(recorded.read_text())
    recipe = read_recipe(Path(values["recipe"]))
    space, batches = build_space(recipe), values["batches"]
    thinking = sum(max(0.0, late["began"] - early["ended"]) for early, late in pairwise(batches))
    divided = [_divided(space, batch, 1, together) for batch in batches]
    rows_of = [len(batch["levels"]) * (batch["sequences"][1] - batch["sequences"][0]) for batch in batches]
    passes = np.array([[one.undivided, rows] for one, rows in zip(divided, rows_of, strict=True)], dtype=float)
    seconds = np.array([batch["ended"] - batch["began"] for batch in batches])
    pace, _ = scipy.optimize.nnls(passes, seconds)
    summary = (
        f"{len(batches)} batches, {sum(rows_of):,} sequences scored, {int(passes[:, 0].sum()):,} layer passes; "
        f"{1000 * pace[0]:.2f} ms a pass, {1000 * pace[1]:.2f} ms a sequence's head; evaluating {seconds.sum():.0f} s, "
        f"thinking {thinking:.0f} s; {together or 'as many as evaluated'} sequences together; a call and its answer "
        f"{sending} s, opening {opening} s."
    )
    found = []
    for count in WORKERS:
        total, twice, evaluating = thinking + (opening if count > 1 else 0.0), 0, 0.0
        for batch in batches:
            division = _divided(space, batch, count, together) if count > 1 else _divided(space, batch, 1, together)
            times = [
                pace[0] * part_passes + pace[1] * len(part.genomes) * len(part.sequences)
                for part, part_passes in zip(division.parts, division.each, strict=True)
            ]
            evaluating += finished(times, count) + (sending if count > 1 else 0.0)
            twice += division.passes - division.undivided
        found.append((count, total + evaluating, evaluating, twice / max(1.0, float(passes[:, 0].sum()))))
    rows = [
        (str(count), f"{found[0][2] / evaluating:.2f}", f"{found[0][1] / total:.2f}", f"{100 * twice:.0f} %")
        for count, total, evaluating, twice in found
    ]
    headings = ("workers", "evaluating, times as fast", "whole run, times as fast", "passes made twice")
    name = Path(values["recipe"]).stem + (f"-{together}" if together else "")
    shown(RESULTS / f"workers-{name}.md", table_of(name, headings, rows), summary)


def _divided(space: Space, batch: dict[str, Any], count: int, together: int | None) -> Division:
    pairs = neighbours(space, [Genome(tuple(levels)) for levels in batch["levels"]])
    batches = aligned(range(*batch["sequences"]), together or batch_size(batch["length"], accelerator=False))
    return divide([states for _, states in pairs], batches, count)


if __name__ == "__main__":
    app()
