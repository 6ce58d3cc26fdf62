"""Records what the scripts of EvoPress decide, draw by draw, for `test_evopress_trace.py`; run by hand, not by tests.

Needs a checkout of https://github.com/IST-DASLab/EvoPress (commit 50888a0188) with numpy, torch, transformers and tqdm:

    python -m tests.search.record_evopress CHECKOUT

Their `main` runs as it is. The model is a stand-in whose loss is a table, texts are names of sequences, and `random` is
watched: every draw, every list of candidates with its losses and every survivor of `selection` is written down.
"""

import argparse
import importlib
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import MagicMock, patch

import torch

TRACES = Path(__file__).parent / "traces"
BLOCKS, SEQUENCES, LENGTH = 10, 24, 8
LEVELS = range(-2, 3)
COMMON = ["--model_name_or_path", "m", "--calibration_data", "c", "--calibration_tokens", str(SEQUENCES * LENGTH)]
COMMON += ["--calibration_sequence_length", str(LENGTH), "--eval_sequence_length", str(LENGTH), "--eval_datasets", "e"]
STAGES = ["--fitness_fn", "ppl", "--generations", "12", "--offspring", "8", "--seed", "3"]
STAGES += ["--survivors_per_selection", "3", "1", "--tokens_per_selection", str(2 * LENGTH), str(6 * LENGTH)]
DROPS = ["--sparsity", "0.3", "--initially_generated", "6", "--initial_tokens", str(2 * LENGTH)]


@contextmanager
def watched(trace: list[Any]) -> Iterator[None]:
    """Every draw of `random.randint` and `random.sample` is appended."""
    integer, sample = random.randint, random.sample

    def randint(low: int, high: int) -> int:
        trace.append(["integer", low, high, integer(low, high)])
        return int(trace[-1][-1])

    def drawn(values: list[int], count: int) -> list[int]:
        found = sample(values, count)
        trace.append(["sample", len(values), [values.index(one) for one in found]])
        return found

    with patch.object(random, "randint", randint), patch.object(random, "sample", drawn):
        yield


def loss(state: list[int], data: list[Any]) -> float:
    """Of a state on sequences; a table of no meaning, without ties."""
    rng = random.Random(0)
    table = [(rng.random(), 4 * rng.random() - 2) for _ in state]
    first = sum(bend * level**2 + slope * level for (bend, slope), level in zip(table, state, strict=True))
    noises = [random.Random(f"{state} {int(one[0, 0])}").random() for one in data]
    return first + sum(noises) / len(noises)


def record(checkout: Path, script: str, arguments: list[str], name: str) -> None:
    sys.path.insert(0, str(checkout))
    module: Any = importlib.import_module(script)
    trace: list[Any] = []
    now: dict[str, list[int]] = {}
    data = [torch.full((1, LENGTH), index) for index in range(SEQUENCES)]
    selection = module.selection

    def flat(state: Any) -> list[int]:
        return [*map(int, state["attn"]), *map(int, state["mlp"])] if isinstance(state, dict) else list(state)

    def load(*positional: Any) -> None:
        now["state"] = flat(next(one for one in positional if isinstance(one, dict) or _levels(one)))

    def selected(*positional: Any, **named: Any) -> Any:
        found, losses = selection(*positional, **named)
        trace.append(["survivors", [flat(one) for one in found]])
        return found, losses

    def perplexity(_: Any, sequences: list[Any]) -> float:
        value = loss(now["state"], sequences)
        if len(sequences) < SEQUENCES:  # not of the whole text, which it reports once a generation
            trace.append(["scored", now["state"], sorted(int(one[0, 0]) for one in sequences), value])
        return value

    layers = [MagicMock() for _ in range(BLOCKS)]
    loading = "load_states" if hasattr(module, "load_states") else "load_layers"
    changes: dict[str, Any] = {loading: load, "selection": selected, "compute_perplexity": perplexity}
    changes |= {"get_data": lambda *_, **__: data, "AutoTokenizer": MagicMock(), "AutoModelForCausalLM": MagicMock()}
    if hasattr(module, "get_layers"):
        changes |= {"get_layers": lambda _: layers, "dummy_initialize": lambda _: None}
        changes |= {"get_attn_layer_name": lambda _: "attention", "get_mlp_layer_name": lambda _: "mlp"}
    with (
        patch.multiple(module, **changes),
        patch("torch.cuda.is_available", lambda: True),
        patch.object(sys, "argv", [script, *COMMON, *STAGES, *arguments]),
        watched(trace),
    ):
        module.main()
    path = TRACES / f"{name}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(one) for one in trace) + "\n]\n")
    print(path, len(trace), file=sys.stderr)


def _levels(one: Any) -> bool:
    return isinstance(one, list) and all(isinstance(level, int) for level in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    checkout = parser.parse_args().checkout
    record(checkout, "evo_drop_search", DROPS, "drops")
    record(checkout, "evo_drop_search", [*DROPS, "--drop_entire_block"], "blocks")
    with TemporaryDirectory() as database:
        for index in range(2 * BLOCKS):
            folder = Path(database) / f"layer.{index:02}"
            folder.mkdir()
            for level in LEVELS:
                (folder / f"{level}.pth").touch()
        record(checkout, "evo_prune_search", ["--sparse_weights_path", database], "levels")


if __name__ == "__main__":
    main()
