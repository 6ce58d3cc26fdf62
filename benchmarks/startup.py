"""What the program takes before it does anything, in this checkout and in another: CPU seconds, in turns.

git worktree add /tmp/before COMMIT
python -m benchmarks.startup /tmp/before
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.setup import RESULTS, shown, table_of
from tests.tiny import save_text, save_tiny, tiny_recipe

TURNS = 7
HERE = Path(__file__).parents[1]
STRATEGIES = ("surrogate", "evopress", "nsga2", "tpe")


def cpu_seconds(checkout: Path, *arguments: object) -> float:
    """User and system time of `secateur ARGUMENTS` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "secateur", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, cwd=checkout, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    other = Path(sys.argv[1])
    folder = HERE / "runs-local" / "startup"
    folder.mkdir(parents=True, exist_ok=True)
    model, text = save_tiny(folder / "model"), save_text(folder / "text.txt")
    commands: dict[str, tuple[object, ...]] = {"--help": ("--help",)}
    for name in STRATEGIES:
        front: dict[str, Any] = {"objectives": ["kl", "parameters"], "budgets": {}} if name in ("nsga2", "tpe") else {}
        effort = {"tokens": 100_000, "evaluations": 900}
        values = tiny_recipe(model, text, strategy={"name": name}, effort=effort, **front)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        commands[f"space, {name}"] = ("space", path)
    table = table_of("CPU seconds until the answer (median of 7)", ("command", "before", "now", "ratio"))
    for title, arguments in commands.items():
        times: dict[Path, list[float]] = {other: [], HERE: []}
        for turn in range(TURNS + 1):
            for checkout in times:
                seconds = cpu_seconds(checkout, *arguments)
                if turn:  # the first fills caches
                    times[checkout].append(seconds)
        before, now = median(times[other]), median(times[HERE])
        table.add_row(title, f"{before:.2f}", f"{now:.2f}", f"{now / before:.2f}")
    shown(RESULTS / "startup.md", table)


if __name__ == "__main__":
    main()
