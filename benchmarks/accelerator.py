"""Whether a device computes as the CPU does, and how much of it a search makes use of; nothing is downloaded.

    python -m benchmarks.accelerator
    python -m benchmarks.accelerator --parameters 8e9 --dtype bfloat16
    python -m benchmarks.accelerator --device cpu --parameters 2e7 --sequences 4 --length 128

First candidates of every kind of a small random llama are scored on both, in float32. Then a random llama of the size
asked for (1e9 parameters) is prepared, evaluated and searched on the device (the accelerator). A share is of what the
device reaches on a product of large matrices in the same dtype; operations are two for each multiplication of the dense
model's passes that are really made, head included, attention's own as the costs count them.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.enumerated import Unkept
from benchmarks.setup import console, table_of
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.device import device_name, find_device, synchronise
from secateur.fitness.model.dtypes import DTYPES
from secateur.fitness.slopes import SubnetSlopes
from secateur.fitness.text import Sequences
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.operators.sampling import uniform
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space, problem_of
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell
from secateur.space.genome import Genome
from secateur.space.space import Space

SMALL = 4_000_000
"""Parameters of the model on which the device is compared with the CPU."""
GENES: list[dict[str, Any]] = [
    {"kind": "attention", "levels": [1.0, 0.5, 0.0]},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 64},
    {"kind": "sparsity", "levels": [0.3, 0.5, 0.7, "2:4"], "per": "sublayer"},
]
SPARSE = [GENES[-1]]
MATRIX = 8192
"""Rows and columns of the product that says what a device can do; an eighth of it on the CPU."""


def llama_of(parameters: float, length: int) -> LlamaConfig:
    """About so many parameters, in the proportions of Llama 3 8B."""
    scale = (parameters / 7e9) ** (1 / 3)
    heads = max(4, 4 * round(8 * scale))
    hidden = 128 * heads
    if parameters < 5e8:
        heads, hidden = max(4, 2 * round(16 * scale)), 64 * max(4, 2 * round(16 * scale))
    return LlamaConfig(
        vocab_size=32_000 if parameters >= 5e8 else 2_000,
        hidden_size=hidden,
        intermediate_size=round(3.5 * hidden / 64) * 64,
        num_hidden_layers=max(2, round(32 * scale)),
        num_attention_heads=heads,
        num_key_value_heads=max(2, heads // 4) if heads % 4 == 0 else heads // 2,
        max_position_embeddings=max(length, 2048),
        bos_token_id=None,
        eos_token_id=None,
    )


def loaded(config: LlamaConfig, sequences: int, length: int, dtype: str, device: torch.device, pruner: str) -> Loaded:
    """A random model, made where it is to be, and a random text."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(config.vocab_size, (sequences, length), generator=generator)
    text = Sequences("random", ids, frozenset({"random"}))
    name = f"random {config.hidden_size} {config.num_hidden_layers} {dtype}"
    return Loaded(model, None, anatomy_of(model, dtype), name, {"calibration": text}, pruner)


def space_of(config: LlamaConfig, genes: list[dict[str, Any]], budget: str, sequences: int, length: int) -> Any:
    """(recipe, space) of a small search."""
    recipe = make_recipe(
        {
            "model": {"path": "random"},
            "calibration": {"source": "random", "sequences": sequences, "length": length},
            "genes": genes,
            "budgets": {"linear_weights": budget},
            "baselines": [],
            "strategy": {"name": "surrogate", "sequences": sequences},
        }
    )
    return recipe, build_space(recipe, config.to_dict())


def compared(device: torch.device) -> float:
    """The largest relative difference of losses on the device and on the CPU, over candidates of every kind."""
    config, losses = llama_of(SMALL, 64), []
    for where in (torch.device("cpu"), device):
        _, space = space_of(config, GENES, "0.9x", 4, 64)
        given = loaded(config, 4, 64, "float32", torch.device("cpu"), "wanda")
        given.model.to(where)
        bench = replace(given, widths=WidthSettings("flap", "least-squares", None)).prepared(space)
        evaluate = bench.evaluator(space, "calibration", ("kl", "cross_entropy", "hidden_error"))
        rng = np.random.default_rng(0)
        genomes = list(dict.fromkeys(uniform(space, rng) for _ in range(12)))
        told = sorted(evaluate(genomes, range(4)), key=lambda one: genomes.index(one.genome))
        assert all(one.status != "failed" for one in told), [one.reason for one in told]
        losses.append(np.array([list(one.losses.values()) for one in told]))
    return float(np.max(np.abs(losses[0] - losses[1]) / np.abs(losses[0])))


def seconds(device: torch.device, action: Callable[[], Any]) -> float:
    """With everything done that the device was told."""
    synchronise(device)
    started = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - started


def peak(dtype: str, device: torch.device) -> float:
    """Operations a second in a product of large matrices: the best of a few."""
    size = MATRIX if device.type != "cpu" else MATRIX // 8
    with torch.inference_mode():
        first, second = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
        times = [seconds(device, lambda: first @ second) for _ in range(6)]
    return 2 * size**3 / min(times)


def shared(space: Space, tokens: float, took: float, best: float) -> list[str]:
    """Seconds, tokens a second, and the share of the peak that they are of the dense model's operations."""
    return [f"{took:.2f}", f"{tokens / took:,.0f}", f"{2 * space.dense_costs.macs * tokens / took / best:.1%}"]


def main(
    device: Annotated[str, typer.Option(help="As torch names it, or auto.")] = "auto",
    parameters: Annotated[float, typer.Option(help="Of the random model.")] = 1e9,
    dtype: Annotated[str, typer.Option(help="Of its weights.")] = "bfloat16",
    sequences: Annotated[int, typer.Option(help="Of the text.")] = 8,
    length: Annotated[int, typer.Option(help="Of each, in tokens.")] = 2048,
    tokens: Annotated[int, typer.Option(help="Forwarded by the search; by default 60 evaluations.")] = 0,
) -> None:
    """See the module."""
    where = find_device(device)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SECATEUR_CACHE"] = cache
        console.print(f"{device_name(where)}, torch {torch.__version__}")
        difference = compared(where)
        console.print(f"Losses of 12 candidates of every kind, float32: at most {difference:.1e} from the CPU's.")
        best = peak(dtype, where)
        console.print(f"{best / 1e12:.2f} TFLOP/s in {dtype} on large matrices.")
        config = llama_of(parameters, length)
        recipe, space = space_of(config, SPARSE, "0.5x", sequences, length)
        given = loaded(config, sequences, length, dtype, where, "wanda")
        size = sum(parameter.numel() for parameter in given.model.parameters())
        made: list[Any] = []
        preparing = seconds(where, lambda: made.append(given.prepared(space)))
        bench, all_tokens = made[0], sequences * length
        evaluate = bench.evaluator(space, "calibration", ("kl",))
        list(evaluate([space.dense], range(sequences)))
        rng = np.random.default_rng(0)
        genomes: list[Genome] = [uniform(space, rng) for _ in range(4)]
        list(evaluate(genomes, range(sequences)))
        alone = [uniform(space, rng) for _ in range(4)]
        evaluating = seconds(where, lambda: [list(evaluate([one], range(sequences))) for one in alone])
        spending = Spending(length)
        allowance = Allowance(tokens or 60 * all_tokens)
        steps = recipe.strategy.steps(problem_of(recipe, space, allowance))
        passes = evaluate.layer_passes
        slopes = SubnetSlopes(space, bench.subnet, evaluate.teacher, "kl")
        memo = Memo(space, evaluate, Unkept(), lambda _: slopes)
        searching = seconds(where, lambda: run(AskTell(steps), memo, spending, allowance))
        made_tokens = (evaluate.layer_passes - passes) / len(space.anatomy.blocks) * length
        console.print(
            table_of(
                f"A random llama of {size / 1e9:.2f} billion parameters in {dtype}, {sequences} x {length} tokens",
                ["", "seconds", "tokens a second", "share of the peak"],
                [
                    [
                        "preparation of wanda's levels",
                        *shared(space, all_tokens, preparing, best),
                    ],
                    ["an evaluation, by itself", *shared(space, all_tokens * len(alone), evaluating, best)],
                    [
                        f"a search ({spending.evaluations} candidates, {spending.tokens:,} tokens asked for)",
                        *shared(space, made_tokens, searching, best),
                    ],
                ],
            )
        )


if __name__ == "__main__":
    typer.run(main)
