"""Drops, widths and zeros searched together on SmolLM2, against each kind alone and each after the other.

The recipe: attention kept or dropped, MLPs in steps of 192, sparsity per sublayer at 0.3, 0.5, 0.6 and 2:4, orders by
output error and least-squares repairs, at 0.4, 0.5 and 0.6 of the linear weights. All sides have 150,000 tokens and one
budget: together, zeros alone, cuts alone, cuts until half of the way and then zeros, and zeros until half of the way
and then cuts (75,000 tokens each; the second search is on top of the plan of the first, with losses against the dense
model). Every answer is exported, loaded, and compared with the dense model on four domains that nobody
calibrates on. Runs are kept in runs-local/benchmark-mixed, so that a second call goes on; answers' losses and what they
keep in benchmarks/results/mixed, of which the table is made.

    python -m benchmarks.mixed [run|report] [SEED ...]
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import kl_div

from benchmarks.setup import DOMAINS, MODEL, RESULTS, asked, carried_out, kept_answer, paired, shown, table_of
from secateur.fitness.model.checkpoint import load_model, load_tokenizer
from secateur.fitness.sources import documents
from secateur.fitness.text import windows_after_a_third

ROOT, RUNS = RESULTS / "mixed", Path("runs-local/benchmark-mixed")
SIZES, SEEDS = (0.4, 0.5, 0.6), (0, 1, 2)
TOKENS = 150_016
WINDOWS, LENGTH = 16, 256
CUTS = [{"kind": "attention"}, {"kind": "mlp", "levels": "step 192"}]
ZEROS = [{"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.5, 0.6, "2:4"]}]
SIDES: dict[str, tuple[list[dict[str, Any]], ...]] = {
    "together": ([*CUTS, *ZEROS],),
    "zeros alone": (ZEROS,),
    "cuts alone": (CUTS,),
    "cuts, then zeros": (CUTS, ZEROS),
    "zeros, then cuts": (ZEROS, CUTS),
}


def recipe(genes: list[dict[str, Any]], limit: str, tokens: int, seed: int, base: Path | None) -> dict[str, Any]:
    parts = [{"source": "package:quac", "weight": 2}, {"source": "package:pubmedqa"}, {"source": "package:python"}]
    return {
        "model": {"path": MODEL},
        "base": str(base) if base is not None else None,
        "calibration": {"mixture": parts, "sequences": 64, "length": 256, "windows_per_document": 2},
        "held_out": [],
        "genes": genes,
        "widths": {"order": "output-error", "repair": "least-squares"},
        "budgets": {"linear_weights": limit},
        "strategy": {"name": "surrogate"},
        "effort": {"tokens": tokens},
        "baselines": [],
        "validation": None,
        "seed": seed,
    }


def answer(side: str, size: float, seed: int) -> None:
    """Carries out one side and keeps what its answer loses, unless that is kept."""
    kept = kept_answer(ROOT, side, size, seed)
    if kept.exists():
        return
    searches, base, found = SIDES[side], None, None
    for number, genes in enumerate(searches, 1):
        share = size if number == len(searches) else (1 + size) / 2
        path = RUNS / f"{kept.stem}_{number}"
        found = carried_out(path, recipe(genes, f"{share}x", TOKENS // len(searches), seed, base))
        base = RUNS / f"{path.name}.json"
        found.plan().write(base)
    assert found is not None
    checkpoint = RUNS / f"{kept.stem}-checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)
    costs, dense = found.summary.rows[0].costs, found.summary.dense_costs
    row = {
        "linear_weights": costs["linear_weights"] / dense["linear_weights"],
        "parameters": costs["parameters"],
        "losses": losses(str(found.export("hf", checkpoint))),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(row) + "\n")


@torch.inference_mode()
def losses(folder: str) -> dict[str, list[float]]:
    """KL of a checkpoint to the dense model, nats per token, one a window, by domain."""
    dense, other, tokenizer = load_model(MODEL), load_model(folder), load_tokenizer(MODEL)
    found: dict[str, list[float]] = {}
    for domain in DOMAINS:
        for ids in windows_after_a_third(documents(f"package:{domain}"), tokenizer, WINDOWS, LENGTH):
            wanted, told = (torch.log_softmax(model(ids).logits[0, :-1].float(), -1) for model in (dense, other))
            value = float(kl_div(told, wanted, log_target=True, reduction="sum")) / len(told)
            found.setdefault(domain, []).append(round(value, 6))
    return found


def rows(seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    for size in SIZES:
        for seed in seeds:
            known = {}
            for side in SIDES:
                path = kept_answer(ROOT, side, size, seed)
                if path.exists():
                    known[side] = json.loads(path.read_text())
            for side, row in known.items():
                own = [loss for values in row["losses"].values() for loss in values]
                means = [f"{np.mean(row['losses'][domain]):.4f}" for domain in DOMAINS]
                joint = known.get("together")
                first = [loss for values in joint["losses"].values() for loss in values] if joint else []
                against = paired(first, own) if first and side != "together" else ""
                costs = f"{row['linear_weights']:.4f}", f"{row['parameters']:,}"
                yield f"{size:g}x", str(seed), side, *costs, *means, f"{np.mean(own):.4f}", against


def main() -> None:
    seeds, running, reporting = asked(__doc__, SEEDS)
    if running:
        for seed in seeds:
            for size in SIZES:
                for side in SIDES:
                    answer(side, size, seed)
    if reporting:
        headings = ["size", "seed", "side", "linear weights", "parameters", *DOMAINS, "mean KL"]
        title = f"Drops, widths and zeros together and one by one, {TOKENS:,} tokens"
        table = table_of(title, [*headings, "together minus it, paired 95 %"], rows(seeds))
        shown(ROOT / "mixed.md", table)


if __name__ == "__main__":
    main()
