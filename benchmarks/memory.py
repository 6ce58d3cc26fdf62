"""What a run holds: predicted from shapes against measured, and a model that is twice the memory it is given.

    python -m benchmarks.memory predicted
    python -m benchmarks.memory limited
    python -m benchmarks.memory limited --parameters 0.35 --memory 500MB --limit 2GB

Each is the installed program on a random llama, in a process that is looked at every 10 ms. `predicted`: anonymous
memory at its most, less that of the same run on a model of nearly nothing, beside what `secateur space` says; for
models that are whole, and for some of which blocks come in turns. `limited`: a checkpoint in many files is searched for
a depth plan and a sparsity profile, and the plans written as checkpoints, in a control group of the kernel that kills
what takes more, Python, its libraries and pages of files included; with a picture of memory over time. It needs root.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer
import yaml
from transformers import LlamaConfig

from benchmarks.setup import RESULTS, shown, table_of
from secateur.fitness.memory import shown as sized
from secateur.runs.asked.reading import read_recipe
from secateur.runs.memory import held
from secateur.runs.problem import build_space
from secateur.space.budget import parse_bytes
from tests.large import Run, checkpoint, control_group, texts, watched

GENES: dict[str, list[dict[str, Any]]] = {
    "depth": [{"kind": "attention"}, {"kind": "mlp"}],
    "sparsity": [{"kind": "sparsity", "levels": [0.0, 0.4, 0.6], "per": "sublayer"}],
}
ENOUGH = "14GB"
"""For every model to be whole; caches may take a share of what is given, so that it is not left to what is free."""
BUDGETS = {"depth": {"block_parameters": "<= 0.75x"}, "sparsity": {"linear_weights": "<= 0.6x"}}
SIZES = {
    "0.1": (768, 2304, 10, 12),
    "0.35": (1152, 3072, 20, 18),
    "1.0": (1792, 5120, 26, 28),
    "3.0": (3072, 8192, 28, 24),
}
"""Hidden size, width of the MLP, blocks and heads of random llamas, by billions of parameters."""
app = typer.Typer(add_completion=False)


def llama(size: str) -> LlamaConfig:
    """One of `SIZES`; a third or a quarter of its heads are for keys and values."""
    hidden, inner, blocks, heads = SIZES[size]
    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=heads // 3 if heads % 3 == 0 else heads // 4,
        bos_token_id=1,
        eos_token_id=2,
    )


def evopress(generations: int, length: int) -> dict[str, Any]:
    """A strategy of four candidates at a time."""
    schedule = {"generations": generations, "offspring": 4, "survivors": [1], "tokens": [length]}
    return {"name": "evopress", "schedule": schedule}


def recipe_of(
    folder: Path, kind: str, sequences: int, length: int, memory: str | None, strategy: dict[str, Any]
) -> Path:
    """A recipe over a checkpoint, and its texts beside it."""
    texts(folder, sequences, length)
    values = {
        "model": {"path": str(folder / "model"), **({"memory": memory} if memory is not None else {})},
        "calibration": {"source": str(folder / "calibration.txt"), "sequences": sequences, "length": length},
        "held_out": [{"source": str(folder / "held.txt"), "sequences": 2, "length": length}],
        "genes": GENES[kind],
        "budgets": BUDGETS[kind],
        "strategy": strategy,
        "effort": {"tokens": 160 * length},
        "baselines": [],
        "seed": 0,
    }
    path = folder / f"{kind}-{strategy['name']}-{memory}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def measured(folder: Path, recipe: Path) -> Run:
    """A whole search from an empty cache."""
    run = watched(["search", str(recipe), "--out", str(folder / f"run-{recipe.stem}")], folder / f"cache-{recipe.stem}")
    if run.returncode:
        raise SystemExit(run.output)
    return run


def cases(sizes: list[str], sequences: int, length: int) -> Iterator[tuple[str, str, int, str, dict[str, Any]]]:
    """Models, what is searched, on how many sequences, the memory that is given, and the strategy.

    Memory: enough, or about half of what the whole takes. With blocks in turns hidden states of all candidates of a
    batch are held: there it is a sweep, on little text so that it ends. The surrogate passes backwards besides.
    """
    for size in sizes:
        for kind in GENES:
            yield size, kind, sequences, ENOUGH, evopress(3, length)
        yield size, "sparsity", sequences, ENOUGH, {"name": "surrogate", "first": 1, "anchors": 1, "path": 1}
        yield size, "sparsity", 2, f"{int(float(size) * 2_900 + 100)}MB", {"name": "knapsack", "sequences": 2}


@app.command()
def predicted(
    parameters: Annotated[
        list[str] | None, typer.Option(help="Of the models, in billions: 0.1, 0.35, 1.0, 3.0.")
    ] = None,
    sequences: int = 8,
    length: int = 128,
) -> None:
    """Predicted against measured peaks."""
    table = table_of(
        "Memory at its most (float32)",
        ("parameters", "search", "strategy", "tokens", "memory given", "predicted", "measured", "predicted / measured"),
    )
    with tempfile.TemporaryDirectory() as place:
        small = Path(place) / "small"
        checkpoint(
            LlamaConfig(
                vocab_size=600,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
            ),
            small / "model",
        )
        least = evopress(1, length)
        base = {kind: measured(small, recipe_of(small, kind, sequences, length, None, least)).peak for kind in GENES}
        for size, kind, count, memory, strategy in cases(parameters or ["0.1", "0.35", "1.0"], sequences, length):
            folder = Path(place) / size
            if not folder.exists():
                checkpoint(llama(size), folder / "model")
            recipe = recipe_of(folder, kind, count, length, memory, strategy)
            asked = read_recipe(recipe, [])
            space = build_space(asked)
            guess, found = held(asked, space)[2], measured(folder, recipe).peak - base[kind]
            table.add_row(
                f"{space.dense_costs.parameters / 1e9:.2f} B",
                kind,
                strategy["name"],
                f"{count} x {length}",
                memory,
                sized(guess),
                sized(found),
                f"{guess / found:.2f}",
            )
            shown(RESULTS / "memory.md", table)


@app.command()
def limited(
    parameters: str = "3.0",
    memory: Annotated[str, typer.Option(help="That the recipe says the device has.")] = "1.7GB",
    limit: Annotated[str, typer.Option(help="Of the control group.")] = "3GB",
    sequences: int = 2,
    length: int = 32,
    generations: int = 4,
) -> None:
    """A search, and its export, of a model that is larger than the memory."""
    with tempfile.TemporaryDirectory() as place:
        folder, most = Path(place), parse_bytes(limit, "limit")
        model = checkpoint(llama(parameters), folder / "model")
        size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        rows, figure = [], plt.figure(figsize=(9, 4), layout="constrained")
        axes = figure.add_subplot()
        for kind in GENES:
            recipe = recipe_of(folder, kind, sequences, length, memory, evopress(generations, length))
            out, cache = folder / f"run-{kind}", folder / "cache"
            for arguments in (
                ["search", str(recipe), "--out", str(out)],
                ["export", str(out), "--to", "hf", "--out", str(folder / f"hf-{kind}")],
            ):
                with control_group(most) as group:
                    run = watched(arguments, cache, group)
                print(run.output)
                if run.returncode:
                    raise SystemExit(f"{arguments}: {run.returncode}")
                times, anonymous, _ = zip(*run.samples, strict=True)
                axes.plot(times, [value / 1e9 for value in anonymous], label=f"{arguments[0]} {kind}")
                rows.append((f"{arguments[0]} {kind}", sized(run.peak), f"{times[-1]:.0f} s"))
        axes.axhline(most / 1e9, color="black", linestyle=":", label=f"limit ({limit}, pages of files included)")
        axes.axhline(size / 1e9, color="grey", label="the checkpoint")
        axes.set(xlabel="seconds", ylabel="anonymous memory, GB")
        axes.legend(fontsize="small")
        RESULTS.mkdir(parents=True, exist_ok=True)
        figure.savefig(RESULTS / "memory.png", dpi=80)
        title = f"A llama of {sized(size)} in {len(list(model.glob('*.safetensors')))} files, {limit} for the process"
        shown(RESULTS / "memory-limited.md", table_of(title, ("what", "anonymous memory at its most", "took"), rows))


if __name__ == "__main__":
    app()
