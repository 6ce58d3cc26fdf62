"""A GGUF file as a source: whether it is whole, and whether transformers' reader takes in all that it says.

transformers leaves out in silence what it has no name for, and with it whatever that changed in the model: so every key
and tensor is accounted for here, or the file is refused by name. Layout: the GGUF specification of ggml, version 2, 3.
"""

import math
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...space.errors import SecateurError

MAGIC, VERSIONS = b"GGUF", (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
FREQUENCIES = "rope_freqs.weight"
"""By what llama.cpp's converter divides each rotary frequency of a model with scaled rotary embeddings."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""The scaling of Llama 3.1 to 3.3, whose factors differ (8 or 32) and stand in the file."""
POSITIONS = "rope.scaling.original_context_length"
"""The context a model was made for, which changes nothing where that is the context it has."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.finetuned": (True, False),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "logit_scale": (1.0,),
    "residual_scale": (1.0,),
    "embedding_scale": (1.0,),
    "use_parallel_residual": (False,),
    "pooling_type": (0,),
}
"""Values of keys, less their architecture, that change nothing."""
ASSUMED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "gemma2": {"attn_logit_softcapping": (50.0,), "final_logit_softcapping": (30.0,)}
}
"""Likewise what transformers assumes of an architecture without reading it."""
HEADS = ("attention.key_length", "attention.value_length")
"""The size of a head, which the reader takes from elsewhere and is compared afterwards."""
WORDS = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.", "secateur.")
"""How keys begin that say nothing of how the model computes."""


@dataclass(frozen=True)
class Header:
    """`fields`: scalars and strings by key, of arrays their length; `tensors`: their names, shapes and kinds."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, tuple[tuple[int, ...], int]]
    size: int

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the family; empty where the file does not say."""
        return str(self.fields.get("general.architecture", ""))


def read_header(path: Path) -> Header:
    """Walks through keys and tensors of a file, which is not opened by any library before that went well.

    Raises:
        SecateurError: it is no GGUF, or says that it holds more than it does.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Walk(content).header()
    except (OSError, ValueError, struct.error, OverflowError) as error:
        raise SecateurError(f"model '{path}': is no GGUF file that can be read, or not a whole one: {error}") from error


class _Walk:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at, self._size = content, 0, len(content)

    def header(self) -> Header:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        [version] = self._numbers("I")
        if version not in VERSIONS:
            raise ValueError(f"version {version}, known: {', '.join(map(str, VERSIONS))}")
        tensors, keys = self._numbers("QQ")
        if (tensors + keys) * 12 > self._size:
            raise ValueError(f"{tensors:,} tensors and {keys:,} keys do not fit into {self._size:,} bytes")
        fields = {}
        for _ in range(keys):
            name = self._string()
            [kind] = self._numbers("I")
            fields[name] = self._value(kind)
        found, last = {}, 0
        for _ in range(tensors):
            name = self._string()
            [rank] = self._numbers("I")
            if rank > 8:
                raise ValueError(f"tensor {name[:80]} has {rank} dimensions")
            shape = self._numbers("Q" * rank)
            kind, offset = self._numbers("IQ")
            found[name] = (shape, kind)
            last = max(last, offset)
        if last and self._at + last >= self._size:
            raise ValueError("its end is missing: a tensor would lie behind it")
        for name, (shape, _) in found.items():
            # No kind takes less than one bit a weight.
            if math.prod(shape) > 8 * self._size:
                raise ValueError(f"tensor {name[:80]} of {shape} does not fit into {self._size:,} bytes")
        return Header(fields, found, self._size)

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            raise ValueError(f"its end is missing: {count:,} bytes are wanted at {self._at:,} of {self._size:,}")
        self._at += count
        return self._content[self._at - count : self._at]

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self._take(struct.calcsize(f"<{layout}")))

    def _string(self) -> str:
        [length] = self._numbers("Q")
        return self._take(length).decode("utf8")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            [inner, length] = self._numbers("IQ")
            if inner in SCALARS:
                self._take(length * struct.calcsize(SCALARS[inner]))
            elif inner != STRING or length * 8 > self._size:
                raise ValueError(f"an array of {length:,} values of kind {inner}")
            else:
                for _ in range(length):
                    [characters] = self._numbers("Q")
                    self._take(characters)
            return length
        if kind not in SCALARS:
            raise ValueError(f"a value of kind {kind}")
        return self._numbers(SCALARS[kind])[0]


def check_keys(header: Header, mapped: Iterable[str], path: str) -> None:
    """Raises SecateurError for keys that change the model and that the reader has no name for.

    `mapped`: those it has one for, less their architecture.
    """
    known, own = set(mapped), f"{header.architecture}."
    neutral = {**NEUTRAL, **ASSUMED.get(header.architecture, {})}
    neutral[POSITIONS] = (header.fields.get(f"{own}context_length"),)
    unknown = [
        f"{name} = {str(value)[:60]}"
        for name, value in header.fields.items()
        if not name.startswith(WORDS)
        and name.removeprefix(own) not in (*known, *HEADS)
        and value not in neutral.get(name.removeprefix(own), ())
    ]
    if unknown:
        raise SecateurError(
            f"model '{path}': the reader of GGUF files does not know {', '.join(unknown[:6])}, and another model would "
            "be searched without; name the checkpoint that the file was made from"
        )


def check_heads(header: Header, head_dim: int | None, path: str) -> None:
    """Raises SecateurError where a head is of another size in the file than in the configuration made from it."""
    for name in HEADS:
        size = header.fields.get(f"{header.architecture}.{name}")
        if size is not None and head_dim is not None and size != head_dim:
            raise SecateurError(
                f"model '{path}': {header.architecture}.{name} = {size}, and the reader of GGUF files makes heads of "
                f"{head_dim}; name the checkpoint that the file was made from"
            )


def check_tensors(header: Header, mapped: Iterable[str], path: str) -> None:
    """Raises SecateurError for tensors that the reader leaves out; `mapped` are those it takes."""
    unknown = sorted(set(header.tensors) - set(mapped) - {FREQUENCIES})
    if unknown:
        raise SecateurError(
            f"model '{path}': the reader of GGUF files leaves {len(unknown)} tensors out ({', '.join(unknown[:4])}), "
            "and another model would be searched without; name the checkpoint that the file was made from"
        )


def llama3_scaling(factors: list[float], theta: float, path: str) -> dict[str, Any]:
    """The rotary scaling of which a file keeps the factors alone, one for each frequency.

    As `rope_parameters` of a configuration. The formula is transformers' `_compute_llama3_parameters`.

    Raises:
        SecateurError: the factors are not those of Llama 3's scaling with any factor.
    """
    factor, count = max(factors), len(factors)
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    for frequency, found in enumerate(factors):
        turns = LLAMA3["original_max_position_embeddings"] / (2 * math.pi * theta ** (frequency / count))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        expected = 1 / ((1 - smooth) / factor + smooth)
        if abs(found - expected) > 1e-3 * expected:
            raise SecateurError(
                f"model '{path}': its rotary frequencies are scaled ({FREQUENCIES}) in another way than Llama 3's, and "
                "another model would be searched without; name the checkpoint that the file was made from"
            )
    return {"rope_type": "llama3", "factor": factor, "rope_theta": theta, **LLAMA3}
