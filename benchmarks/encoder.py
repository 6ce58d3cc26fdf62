"""The sentence encoder all-MiniLM-L6-v2, narrowed and in fewer bits: whether texts still find their neighbours.

Its weights are floats of full precision, so that four bits mean something here. Searches minimise the cosine distance
of embeddings to the dense model's, on windows of 64 tokens of Wikipedia and medicine; levels, orders and repairs are
made from eight times as much of the same. Two questions:

- of so many bits for each weight of the dense model, all tensors counted: heads, channels and the integers of every
  sublayer and of the embedding (8, 4, 3, 2 bits in groups of 64 by GPTQ) searched together, bits alone (also by
  EvoPress), pruned and then quantized, and rules;
- of so many of the blocks' parameters: heads and channels by our own search, and rules.

Every plan is written as a checkpoint, which transformers loads; with it sentences of four domains that nothing was
calibrated on are embedded. Told are the cosine distance to the dense model's embeddings, and the recall at ten: of the
ten sentences that are nearest by the dense model, how many are among the ten nearest by the plan. Runs are kept in
runs-local/benchmark-encoder, numbers in benchmarks/results/encoder, of which the tables are made.

    python -m benchmarks.encoder [run|report] [SEED ...]
"""

import importlib.util
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.bits import BITS, RULES, SURROGATE
from benchmarks.setup import DOMAINS, RESULTS, asked, carried_out, kept_answer, paired, shown, table_of
from secateur.fitness.sources import documents

ROOT, RUNS = RESULTS / "encoder", Path("runs-local/benchmark-encoder")
MODEL = Path("runs-local/all-MiniLM-L6-v2")
SIZES, SHARES, SEEDS = (3, 3.5, 4.5), (0.8, 0.6, 0.4), (0, 1, 2)
"""Bits for a weight, of which 2.8 is the least: positions, norms and pooler stay in float32. And shares of the blocks'
parameters."""
TOKENS = 120_000
WEIGHTS = 22_713_216
"""Of the dense model."""
PRUNED = 0.7
"""Of the blocks' parameters that pruning leaves, before what is left is quantized."""
CUTS: list[dict[str, Any]] = [
    {"kind": "attention", "levels": [12, 10, 8, 6, 4, 2, 0]},
    {"kind": "mlp", "levels": "8 levels"},
]
SEARCHES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "together": ([*CUTS, *BITS], SURROGATE),
    "bits alone": (BITS, SURROGATE),
    "EvoPress, bits alone": (BITS, {"name": "evopress", "initial": ["uniform-bits"]}),
}
THEN = f"pruned to {PRUNED}, then bits"
WIDTH_RULES = ("uniform-width", "flap", "shortgpt")
EQUAL = 0.015
"""Sides that differ more in size are not compared."""
SENTENCES, NEAREST = 250, 10
"""Of a domain; all of them are searched for the neighbours of each."""


def model() -> Path:
    """The model as a folder, out of the package that carries it."""
    if not MODEL.exists():
        spec = importlib.util.find_spec("all_minilm_l6_v2")
        assert spec is not None, "it is among data-requirements.txt: make setup"
        assert spec.origin is not None
        part = MODEL.with_name(f"{MODEL.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(Path(spec.origin).with_name("model.zip")) as packed:
            packed.extractall(part)
        part.rename(MODEL)
    return MODEL


def recipe(genes: list[dict[str, Any]], budgets: dict[str, str], tokens: int, seed: int) -> dict[str, Any]:
    parts = [{"source": "package:quac"}, {"source": "package:pubmedqa"}]
    size = {"length": 64, "windows_per_document": 1}
    return {
        "model": {"path": str(model())},
        "calibration": {"mixture": parts, "sequences": 128, **size},
        "prepare": {"mixture": parts, "sequences": 1024, **size},
        "held_out": [{"source": f"package:{name}", "sequences": 24, "length": 64} for name in DOMAINS],
        "genes": genes,
        "quantizer": "gptq",
        "budgets": budgets,
        "score": "embedding",
        "strategy": SURROGATE,
        "effort": {"tokens": tokens},
        "baselines": [],
        "validation": None,
        "seed": seed,
        "held_out_seed": 0,
    }


def answers(seed: int) -> None:
    """Carries out all sides and keeps what their plans come to."""
    for size in SIZES:
        limit = {"weight_bytes": str(int(size * WEIGHTS / 8))}
        for side, (genes, strategy) in SEARCHES.items():
            wanted = recipe(genes, limit, TOKENS, seed) | {"strategy": strategy}
            if side == "bits alone":
                wanted["baselines"] = list(RULES)
            keep(side, size, seed, wanted)
        if not kept_answer(ROOT, THEN, size, seed).exists():
            cuts = recipe(CUTS, {"block_parameters": f"{PRUNED}x"}, TOKENS // 2, seed)
            plan = RUNS / f"pruned_{PRUNED}_{seed}.json"
            carried_out(RUNS / f"pruned_{PRUNED}_{seed}", cuts).plan().write(plan)
            keep(THEN, size, seed, recipe(BITS, limit, TOKENS // 2, seed) | {"base": str(plan)})
    for share in SHARES:
        wanted = recipe(CUTS, {"block_parameters": f"{share}x"}, TOKENS, seed)
        keep("narrower", share, seed, wanted | {"baselines": list(WIDTH_RULES)})


def keep(side: str, size: float, seed: int, wanted: dict[str, Any]) -> None:
    """Embeds all sentences by the found plan, and by those of the rules beside it, and keeps how far that is."""
    if kept_answer(ROOT, side, size, seed).exists():
        return
    run = carried_out(RUNS / kept_answer(ROOT, side, size, seed).stem, wanted)
    for row in run.summary.rows[::-1]:
        if row.name in ("dense", "base"):
            continue
        out = RUNS / "checkpoint"
        shutil.rmtree(out, ignore_errors=True)
        run.export(to="hf", out=out, pick=row.name)
        distances, recalls = against_dense(embedded(out))
        values = {
            "weight_bytes": row.costs["weight_bytes"],
            "parameters": row.costs["parameters"],
            "block_parameters": row.costs["block_parameters"],
            "tokens": row.tokens,
            "windows": round(float(np.mean([row.scores[text]["embedding"].mean for text in DOMAINS])), 5),
            "distance": [round(float(np.mean(some)), 5) for some in np.split(distances, len(DOMAINS))],
            "recall": [round(float(value), 2) for value in recalls],
        }
        kept = kept_answer(ROOT, side if row.name == "found" else row.name, size, seed)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(values) + "\n")


@cache
def sentences() -> list[str]:
    """Of each domain as many, from documents all over it, none twice."""
    found: list[str] = []
    for name in DOMAINS:
        parts = [part for text in documents(f"package:{name}") for part in re.split(r"(?<=[.!?])\s+", text)]
        some = list(dict.fromkeys(part for part in parts if 40 <= len(part) <= 300))
        chosen = np.random.default_rng(0).permutation(len(some))[:SENTENCES]
        found += [some[index] for index in chosen]
    return found


@torch.inference_mode()
def embedded(folder: Path) -> torch.Tensor:
    """Unit vectors (sentences, hidden), pooled as the model's files say: the mean over tokens."""
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    # Those of one length together, so that little is padded.
    order = sorted(range(len(sentences())), key=lambda place: len(sentences()[place]))
    vectors = torch.empty(len(order), encoder.config.hidden_size)
    for places in (order[start : start + 25] for start in range(0, len(order), 25)):
        batch = tokenizer([sentences()[place] for place in places], padding=True, return_tensors="pt")
        hidden, mask = encoder(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
        vectors[places] = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(vectors, dim=1)


@cache
def dense() -> torch.Tensor:
    return embedded(model())


def nearest(vectors: torch.Tensor) -> torch.Tensor:
    """The places (sentences, ten) of each one's nearest others."""
    close = vectors @ vectors.T
    return close.fill_diagonal_(-2).topk(NEAREST).indices


def against_dense(vectors: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each sentence the cosine distance to the dense model's embedding, and its recall at ten."""
    distance = 1 - (vectors * dense()).sum(1)
    same = nearest(vectors)[:, :, None] == nearest(dense())[:, None, :]
    return distance.numpy(), same.any(2).float().mean(1).numpy()


def rows(sizes: Sequence[float], sides: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """The first of `sides` is the one that others are compared with."""
    for size in sizes:
        for seed in seeds:
            paths = {side: kept_answer(ROOT, side, size, seed) for side in sides}
            known = {side: json.loads(path.read_text()) for side, path in paths.items() if path.exists()}
            first, cost = known.get(sides[0]), "weight_bytes" if sizes is SIZES else "block_parameters"
            for side, row in known.items():
                against = ""
                if first and side != sides[0] and abs(row[cost] / first[cost] - 1) < EQUAL:
                    against = paired(first["recall"], row["recall"])
                yield (
                    f"{size:g}",
                    str(seed),
                    side,
                    f"{8 * row['weight_bytes'] / WEIGHTS:.3f}" if sizes is SIZES else "",
                    f"{row['block_parameters']:,}",
                    f"{row['tokens']:,}",
                    f"{row['windows']:.4f}",
                    *(f"{value:.4f}" for value in row["distance"]),
                    f"{np.mean(row['recall']):.4f}",
                    against,
                )


def main() -> None:
    seeds, running, reporting = asked(__doc__, SEEDS)
    if running:
        for seed in seeds:
            answers(seed)
    if reporting:
        headings = ["seed", "side", "bits it has", "parameters of blocks", "tokens", "cosine distance, windows"]
        headings += [f"sentences, {name}" for name in DOMAINS]
        headings += ["recall at 10", "first side's recall minus it, paired 95 %"]
        bits = table_of(
            f"Bits for each weight, {TOKENS:,} tokens",
            ["bits", *headings],
            rows(SIZES, (*SEARCHES, THEN, *RULES), seeds),
        )
        widths = table_of(
            f"Heads and channels, {TOKENS:,} tokens",
            ["share", *headings],
            rows(SHARES, ("narrower", *WIDTH_RULES), seeds),
        )
        shown(ROOT / "encoder.md", bits, widths, NOTE)


NOTE = (
    f"{len(DOMAINS) * SENTENCES:,} sentences; the ten nearest are looked for among all of them. Windows are those of "
    "64 tokens of the same four domains that searches report on. GPTQ looks at the dense model's inputs on all sides. "
    "The word embedding has 11.7 of the 22.7 million weights, and lookups are rounded to the nearest. "
    "Sides that differ by more than 1.5 % in size are not compared."
)

if __name__ == "__main__":
    main()
