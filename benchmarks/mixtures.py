"""Five plans on five calibration mixtures, confirmed on four domains that none of them has; three draws of one mixture.

SmolLM2 with a quarter of its block parameters dropped as sublayers. The plans are those of our search, greedy,
knapsack, random search (50,176 tokens each) and ShortGPT, all calibrated on the same text. Runs are kept in
runs-local/benchmark-mixtures: a second call only reports, and one that was interrupted goes on. The tables are written
to benchmarks/results/mixtures.md.

    python -m benchmarks.mixtures
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setup import DOMAINS, MODEL, RESULTS, carried_out, shown, table_of
from secateur.space.genome import Genome

MIXTURES: Mapping[str, Mapping[str, float]] = {
    "Wikipedia": {"quac": 1},
    "medicine": {"pubmedqa": 1},
    "code": {"python": 1},
    "Wikipedia and medicine": {"quac": 1, "pubmedqa": 1},
    "all three": {"quac": 2, "pubmedqa": 1, "python": 1},
}
WHOLE = "all three"
DRAWS = (0, 1, 2)
PLANS = ("found", "greedy", "shortgpt", "knapsack", "random")
TOKENS = 50_176
ROOT = Path("runs-local/benchmark-mixtures")

Rows = dict[str, tuple[dict[str, float], Genome, float]]
"""By plan: KL by domain, the genome, and block parameters as a share of dense."""


def recipe(mixture: str, seed: int) -> dict[str, Any]:
    parts = [{"source": f"package:{name}", "weight": weight} for name, weight in MIXTURES[mixture].items()]
    text: dict[str, Any] = {"mixture": parts} if len(parts) > 1 else {"source": parts[0]["source"]}
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": {**text, "sequences": 128, "length": 128, "windows_per_document": 4},
        "held_out": [{"source": f"package:{name}", "sequences": 32, "length": 128} for name in DOMAINS],
        # All draws are confirmed on the same documents.
        "held_out_seed": 7,
        "genes": [{"kind": "attention"}, {"kind": "mlp"}],
        "budgets": {"block_parameters": "<= 0.75x"},
        "strategy": {"name": "surrogate"},
        "effort": {"tokens": TOKENS},
        "baselines": list(PLANS[1:]),
        "seed": seed,
    }


def run(mixture: str, seed: int) -> Rows:
    """Begins a run or goes on with it."""
    path = ROOT / f"{mixture.replace(' ', '-')}-{seed}"
    summary, rows = carried_out(path, recipe(mixture, seed)).summary, {}
    for row in summary.rows:
        if row.name in PLANS:
            losses = {domain: row.scores[domain]["kl"].mean for domain in DOMAINS}
            share = row.costs["block_parameters"] / summary.dense_costs["block_parameters"]
            rows[row.name] = losses, row.genome, share
    return rows


def same(first: Genome, second: Genome) -> float:
    """Of the sublayers that either drops, the share that both drop."""
    dropped = [{gene for gene, level in enumerate(one.levels) if level} for one in (first, second)]
    return len(dropped[0] & dropped[1]) / max(1, len(dropped[0] | dropped[1]))


def main() -> None:
    by_text = {mixture: run(mixture, 0) for mixture in MIXTURES}
    table = table_of(
        f"KL of five plans by calibration text, {TOKENS:,} tokens each",
        ["calibrated on", "plan", "block parameters", *DOMAINS.values(), "mean", "drops shared with that on all three"],
    )
    for mixture, rows in by_text.items():
        for plan in PLANS:
            losses, genome, share = rows[plan]
            alike = same(genome, by_text[WHOLE][plan][1])
            cells = [f"{losses[domain]:.4f}" for domain in DOMAINS]
            table.add_row(
                mixture, plan, f"{share:.4f}", *cells, f"{np.mean(list(losses.values())):.4f}", f"{alike:.0%}"
            )
    draws = [by_text[WHOLE], *(run(WHOLE, seed) for seed in DRAWS[1:])]
    spread = table_of(
        f"The same on {len(DRAWS)} draws of all three texts: mean KL over the domains",
        ["plan", *(f"seed {seed}" for seed in DRAWS), "mean", "standard deviation", "drops shared by two draws"],
    )
    for plan in PLANS:
        means = [float(np.mean(list(rows[plan][0].values()))) for rows in draws]
        alike = float(np.mean([same(draws[a][plan][1], draws[b][plan][1]) for a, b in ((0, 1), (0, 2), (1, 2))]))
        deviation = float(np.std(means, ddof=1))
        spread.add_row(
            plan, *(f"{one:.4f}" for one in means), f"{np.mean(means):.4f}", f"{deviation:.4f}", f"{alike:.0%}"
        )
    of_texts = [
        float(np.std([np.mean(list(rows[plan][0].values())) for rows in by_text.values()], ddof=1)) for plan in PLANS
    ]
    of_plans = float(np.std([np.mean(list(by_text[WHOLE][plan][0].values())) for plan in PLANS[:3]], ddof=1))
    said = (
        f"Standard deviation of the mean KL: over calibration texts {np.mean(of_texts):.4f} (mean of the five plans), "
        f"between the three best methods on one text {of_plans:.4f}."
    )
    shown(RESULTS / "mixtures.md", table, spread, said)


if __name__ == "__main__":
    main()
