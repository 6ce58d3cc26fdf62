"""Random checkpoints of a size, written without being held, and the program watched while it works on them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

WORDS = [f"word{number}" for number in range(500)]
LOOK_S = 0.01
CONTROL = Path("/sys/fs/cgroup")


@dataclass
class Run:
    """What a process took.

    Attributes:
        samples: (seconds, anonymous bytes, bytes of mapped files).
    """

    returncode: int = 0
    output: str = ""
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Anonymous bytes at their most."""
        return max(anonymous for _, anonymous, _ in self.samples)


def checkpoint(config: LlamaConfig, folder: Path) -> Path:
    """A random llama in bfloat16, in one file for each block and one for what is outside, none of it held together."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    hidden, kept = config.hidden_size, config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    inner = config.intermediate_size
    shapes = {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (kept, hidden),
        "self_attn.v_proj.weight": (kept, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    outside = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config.vocab_size, hidden),
    }
    layers = range(config.num_hidden_layers)
    files = [{f"model.layers.{index}.{name}": shape for name, shape in shapes.items()} for index in layers]
    index: dict[str, str] = {}
    for number, names in enumerate([*files, outside]):
        file = f"model-{number:05d}-of-{len(files) + 1:05d}.safetensors"
        tensors = {name: _random(shape) for name, shape in names.items()}
        save_file(tensors, folder / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config.dtype = torch.bfloat16
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    vocabulary = {name: number for number, name in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, shape[1] ** -0.5)


def texts(folder: Path, sequences: int, length: int) -> None:
    """`calibration.txt` and `held.txt`, of words that the tokenizer of `checkpoint` knows."""
    generator = torch.Generator().manual_seed(1)
    for name in ("calibration", "held"):
        numbers = torch.randint(len(WORDS), (4 * sequences, length), generator=generator)
        documents = "\n\n".join(" ".join(WORDS[number] for number in row) for row in numbers.tolist())
        (folder / f"{name}.txt").write_text(documents)


@contextlib.contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """A control group of processes that together have `limit` bytes, pages of files included; needs root."""
    old = CONTROL / "memory"
    group = (old if old.is_dir() else CONTROL) / f"secateur-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def watched(arguments: list[str], cache: Path, group: Path | None = None) -> Run:
    """The program in a process of its own, in a control group."""

    def join() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cache), "SECATEUR_CACHE": str(cache), "OMP_NUM_THREADS": "2"}
    started, run = time.perf_counter(), Run()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "secateur", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=join,
        )
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Rss")}
            if "RssAnon" in sizes:
                now = time.perf_counter() - started
                run.samples.append((now, 1024 * int(sizes["RssAnon"]), 1024 * int(sizes["RssFile"])))
            time.sleep(LOOK_S)
        run.returncode = process.wait()
        output.seek(0)
        run.output = output.read()
    return run
