"""A run killed with SIGKILL at random moments and resumed is the uninterrupted run."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.runs.record.facts import CORNERS, HYPERVOLUME, LATENCY
from secateur.runs.record.folder import RunFolder
from tests.program import FORKS
from tests.tiny import tiny_recipe

KILLS = 20


def command(arguments: list[str], cache: str) -> None:
    """`secateur ...`, slowed down a little so that there is something to interrupt."""
    from secateur.__main__ import main
    from secateur.fitness.evaluator import SubnetEvaluator

    os.environ["SECATEUR_CACHE"] = cache
    passed = SubnetEvaluator._losses

    def slower(*arguments: Any) -> Any:
        time.sleep(0.02)
        return passed(*arguments)

    SubnetEvaluator._losses = slower  # type: ignore[method-assign, assignment]
    sys.argv = ["secateur", *arguments]
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main()


def recipe_of(tiny: Path) -> dict[str, Any]:
    genes = [
        {"kind": "attention"},
        {"kind": "mlp"},
        {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]},
    ]
    return tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=genes,
        budgets={"linear_weights": "0.7x"},
        strategy={"name": "evopress", "initial": ["knapsack"], "warm": {"name": "knapsack", "sequences": 2}},
        effort={"tokens": 12000},
        baselines="all",
    )


def start(arguments: list[str], cache: Path) -> Any:
    process = FORKS.Process(target=command, args=(arguments, str(cache)))
    process.start()
    return process


def finish(arguments: list[str], cache: Path) -> None:
    process = start(arguments, cache)
    process.join()
    assert process.exitcode == 0


def record(run: Path) -> tuple[dict[tuple[str, str, int], dict[str, float]], dict[str, Any]]:
    """Every (text, subnet, sequence) with its losses, and every choice; asserts that none was evaluated twice."""
    losses: dict[tuple[str, str, int], dict[str, float]] = {}
    counts: Counter[tuple[str, str, int]] = Counter()
    with RunFolder.open(run, writing=False) as folder:
        for text, evaluation in folder.journal.evaluations():
            for place, sequence in enumerate(evaluation.sequences):
                key = (text, evaluation.key, sequence)
                counts[key] += 1
                losses[key] = {name: values[place] for name, values in evaluation.losses.items()}
        choices = {
            name: (choice.genome, choice.tokens, choice.evaluations)
            for name, choice in folder.journal.choices().items()
        }
        turns = {name: folder.journal.turns(name) for name in choices}
    assert max(counts.values()) == 1, "an evaluation was repeated"
    return losses, {"choices": choices, "turns": turns}


def count(run: Path) -> int:
    journal = run / "journal.sqlite"
    if not journal.exists():
        return 0
    with contextlib.closing(sqlite3.connect(journal)) as database:
        tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchall()
        return int(database.execute("SELECT count(*) FROM answers").fetchone()[0]) if tables else 0


def kill_and_resume(recipe: Path, run: Path, cache: Path, kills: int, expected: int) -> None:
    """Carries a run of `expected` rows through with so many kills on the way."""
    rng = random.Random(0)
    arguments = ["search", str(recipe), "--out", str(run)]
    rows = set()
    share = max(2, expected // (2 * kills))
    for kill in range(kills):
        process = start(arguments, cache)
        if kill < kills // 5:
            process.join(rng.uniform(0.0, 1.5))  # while it starts and loads
        else:
            wanted = count(run) + rng.randrange(share)
            while process.is_alive() and count(run) < wanted:
                process.join(0.02)
            process.join(rng.uniform(0.0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "finished before it was killed often enough; make the run longer"
        if (run / "recipe.yaml").exists():
            arguments = ["resume", str(run)]
            rows.add(count(run))
        elif run.exists():
            assert not any(run.glob("[!.]*")), "a folder without a recipe holds nothing"
            shutil.rmtree(run)
    assert len(rows) >= kills // 3, "the kills did not land in the middle of the work"
    finish(arguments, cache)


def front_of(tiny: Path) -> dict[str, Any]:
    """KL against a latency that is measured, by a strategy of each library."""
    genes = [{"kind": "attention"}, {"kind": "mlp", "levels": "4 levels", "multiple_of": 8}]
    return tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=genes,
        budgets={"weight_bytes": "<= 0.95x"},
        objectives=["kl", "latency"],
        latency={"device": "cpu", "prefill": 16, "decode": 2, "seconds": 1, "repeats": 3},
        front={"members": 6, "points": 4},
        effort={"evaluations": 110},
        baselines="all",
    )


@pytest.mark.parametrize("strategy", ["nsga2", "tpe"])
def test_a_front_is_the_same_after_kills(tiny: Path, tmp_path: Path, strategy: str) -> None:
    recipe, cache = tmp_path / "r.yaml", tmp_path / "cache"
    values = front_of(tiny) | {"strategy": {"name": strategy, "population": 8, "sequences": 2}}
    recipe.write_text(yaml.safe_dump(values))
    # One cache, so that both search on the same latency table: what is measured twice is not the same twice.
    finish(["search", str(recipe), "--out", str(tmp_path / "whole")], cache)
    expected = record(tmp_path / "whole")
    assert sum(name.startswith("front-") for name in expected[1]["choices"]) > 2
    run = tmp_path / "killed"
    kill_and_resume(recipe, run, cache, 8, count(tmp_path / "whole"))
    assert record(run) == expected
    with RunFolder.open(run, writing=False) as ours, RunFolder.open(tmp_path / "whole", writing=False) as theirs:
        assert ours.journal.all(HYPERVOLUME) == theirs.journal.all(HYPERVOLUME)
        assert {"found", "random"} <= ours.journal.all(HYPERVOLUME).keys()
        assert ours.journal.known(CORNERS) == theirs.journal.known(CORNERS)
        assert ours.journal.known(LATENCY) == theirs.journal.known(LATENCY)


def test_killed_at_twenty_random_moments(tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(tiny)))
    finish(["search", str(recipe), "--out", str(tmp_path / "whole")], tmp_path / "cache-whole")
    expected = record(tmp_path / "whole")
    assert len(expected[0]) > 200

    run = tmp_path / "killed"
    kill_and_resume(recipe, run, tmp_path / "cache-killed", KILLS, count(tmp_path / "whole"))
    assert record(run) == expected
    for name in ("found", "random"):
        ours, theirs = (
            yaml.safe_load((path / "plans" / f"{name}.json").read_text()) for path in (run, tmp_path / "whole")
        )
        assert ours == theirs


def test_replay_is_the_same_on_another_day(tiny: Path, tmp_path: Path) -> None:
    """Same recipe and seed, two independent runs with caches of their own: the same archive."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(tiny)))
    records = []
    for name in ("one", "two"):
        finish(["search", str(recipe), "--out", str(tmp_path / name)], tmp_path / f"cache-{name}")
        records.append(record(tmp_path / name))
    assert records[0] == records[1]
