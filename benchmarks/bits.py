"""Drops and bits together on SmolLM2, against bits alone, pruned and then quantized, and rules, at equal bytes.

Levels are integers of 8, 4, 3 and 2 bits in groups of 64 by GPTQ (llama.cpp's types of less than four bits do not fit
SmolLM2's rows of 576), one for every sublayer and one for the embedding, to the nearest there; drops are of attention
and of MLPs. Budgets are so many bits, all tensors counted, for each weight of the dense model. All searches have 60,160
tokens; pruned and then quantized is two searches of 30,720, the second on top of the first one's plan, for two ways to
share the work. Plans are compared with the dense model on four domains that nobody calibrates on. **The
model's weights lie on a grid of four bits (Q4_1), so that little is said here of four bits and more.** Runs are kept in
runs-local/benchmark-bits, so that a second call goes on; losses and bytes in benchmarks/results/bits, of which the
table is made.

    python -m benchmarks.bits [run|report] [SEED ...]
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import secateur
from benchmarks.setup import DOMAINS, MODEL, RESULTS, asked, carried_out, kept_answer, paired, shown, table_of
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.difference import joined

ROOT, RUNS = RESULTS / "bits", Path("runs-local/benchmark-bits")
SIZES, SEEDS = (2.3, 2.8, 3.5), (0, 1, 2)
TOKENS, PART = 60_160, 30_720
"""Of a search, and of each of two that follow each other: the least that our own begins with on so many drops."""
WEIGHTS = 134_515_008
"""Of the dense model, the embedding once."""
LEVELS = ["int8-g64", "int4-g64", "int3-g64", "int2-g64"]
CUTS: list[dict[str, Any]] = [{"kind": "attention"}, {"kind": "mlp"}]
BITS: list[dict[str, Any]] = [
    {"kind": "bits", "per": "sublayer", "levels": LEVELS},
    {"kind": "bits", "of": "embedding", "levels": LEVELS},
]
SHARES = (0.85, 0.7)
"""Of the blocks' parameters that pruning leaves, before what is left is quantized."""
SURROGATE: dict[str, Any] = {"name": "surrogate"}
SEARCHES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "together": ([*CUTS, *BITS], SURROGATE),
    "bits alone": (BITS, SURROGATE),
    "EvoPress, bits alone": (BITS, {"name": "evopress", "initial": ["uniform-bits"]}),
}
"""Genes and strategy; EvoPress begins with one width everywhere, as its own code does."""
RULES = ("uniform-bits", "target-bpw")


def recipe(genes: list[dict[str, Any]], budgets: dict[str, str], tokens: int, seed: int) -> dict[str, Any]:
    parts = [{"source": "package:quac", "weight": 2}, {"source": "package:pubmedqa"}, {"source": "package:python"}]
    held_out = [{"source": f"package:{name}", "sequences": 12, "length": 256} for name in DOMAINS]
    return {
        "model": {"path": MODEL},
        "calibration": {"mixture": parts, "sequences": 64, "length": 256, "windows_per_document": 2},
        "held_out": held_out,
        "genes": genes,
        "quantizer": "gptq",
        "budgets": budgets,
        "effort": {"tokens": tokens},
        "baselines": [],
        "validation": None,
        "seed": seed,
        "held_out_seed": 0,
    }


def answers(size: float, seed: int) -> None:
    """Carries out all sides of a budget and keeps what their answers lose."""
    limit = {"weight_bytes": str(int(size * WEIGHTS / 8))}
    for side, (genes, strategy) in SEARCHES.items():
        wanted = recipe(genes, limit, TOKENS, seed) | {"strategy": strategy}
        if side == "bits alone":
            wanted["baselines"] = list(RULES)
        kept = kept_answer(ROOT, side, size, seed)
        # From two bits everywhere EvoPress, which exchanges levels within the budget, cannot go anywhere.
        if not kept.exists() and (size > 2.3 or strategy["name"] != "evopress"):
            keep(side, size, seed, carried_out(RUNS / kept.stem, wanted))
    for share in SHARES:
        side = f"pruned to {share}, then bits"
        kept = kept_answer(ROOT, side, size, seed)
        if kept.exists():
            continue
        cuts = recipe(CUTS, {"block_parameters": f"{share}x"}, PART, seed) | {"strategy": SURROGATE}
        pruned = RUNS / f"pruned_{share}_{seed}"
        plan = RUNS / f"pruned_{share}_{seed}.json"
        carried_out(pruned, cuts).plan().write(plan)
        wanted = recipe(BITS, limit, PART, seed) | {"strategy": SURROGATE, "base": str(plan)}
        keep(side, size, seed, carried_out(RUNS / kept.stem, wanted))


def keep(side: str, size: float, seed: int, run: secateur.Run) -> None:
    """Losses of the found plan, and of the rules beside it, sequence by sequence."""
    for row in run.summary.rows:
        name = side if row.name == "found" else row.name
        if name not in (side, *RULES):
            continue
        losses, perplexity = {}, {}
        with RunFolder.open(run.path, writing=False) as folder:
            key = space_of(folder).key(row.genome)
            for domain in DOMAINS:
                parts = [one for _, one in folder.journal.evaluations(domain) if one.key == key]
                told = joined(parts)
                assert told is not None
                losses[domain] = [round(value, 6) for value in told.losses["kl"]]
                perplexity[domain] = round(math.exp(float(np.mean(told.losses["cross_entropy"]))), 3)
        values = {
            "weight_bytes": row.costs["weight_bytes"],
            "parameters": row.costs["parameters"],
            "tokens": row.tokens,
            "losses": losses,
            "perplexity": perplexity,
        }
        kept = kept_answer(ROOT, name, size, seed)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(values) + "\n")


def rows(seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    sides = [*SEARCHES, *(f"pruned to {share}, then bits" for share in SHARES), *RULES]
    for size in SIZES:
        for seed in seeds:
            paths = {side: kept_answer(ROOT, side, size, seed) for side in sides}
            known = {side: json.loads(path.read_text()) for side, path in paths.items() if path.exists()}
            joint = known.get("together")
            first = [loss for values in joint["losses"].values() for loss in values] if joint else []
            for side, row in known.items():
                own = [loss for values in row["losses"].values() for loss in values]
                means = [f"{np.mean(row['losses'][domain]):.3f}" for domain in DOMAINS]
                perplexity = math.exp(float(np.mean(np.log(list(row["perplexity"].values())))))
                bits = f"{8 * row['weight_bytes'] / WEIGHTS:.3f}"
                against = paired(first, own) if first and side != "together" else ""
                yield (
                    f"{size:g}",
                    str(seed),
                    side,
                    bits,
                    f"{row['parameters']:,}",
                    *means,
                    f"{np.mean(own):.4f}",
                    f"{perplexity:.1f}",
                    against,
                )


def main() -> None:
    seeds, running, reporting = asked(__doc__, SEEDS)
    if running:
        for seed in seeds:
            for size in SIZES:
                answers(size, seed)
    if reporting:
        headings = ["bits", "seed", "side", "bits it has", "parameters", *DOMAINS, "mean KL", "perplexity"]
        title = f"Drops and bits together and one by one, {TOKENS:,} tokens"
        table = table_of(title, [*headings, "together minus it, paired 95 %"], rows(seeds))
        shown(ROOT / "bits.md", table, NOTE)


NOTE = (
    "Perplexity is the geometric mean over domains. GPTQ looks at the dense model's inputs on all sides. SmolLM2's "
    "weights lie on a grid of four bits (Q4_1): what is said here of four bits and more holds for no other model. "
    "llama.cpp's own mixes cannot be as small: its types of less than four bits need rows of whole 256 weights, and "
    "SmolLM2's are of 576. Where EvoPress is missing, its start, one width everywhere, leaves no exchange within the "
    "budget."
)

if __name__ == "__main__":
    main()
