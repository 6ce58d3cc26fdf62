"""Where a GGUF file has what of a subnet, and how many bytes it comes to: exactly those that are written.

Layout: the GGUF specification of ggml, version 3. A file is a header, keys with their values, a line on each tensor,
and the tensors, each filled up to whole multiples of 32 bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from ...space.anatomy import Anatomy, Block
from ...space.bits import Bits
from ...space.costs import NONE_ADDED, Additions
from ...space.layout import kept_blocks
from ...space.state import BlockState
from .gguf import ARCHITECTURES

HEADER = 24
"""Bytes that a file begins with."""
ALIGNMENT = 32
"""Of tensors in a file."""
PLACEHOLDER = 32
"""Channels of zeros in a layer without MLP: deci skips a layer that has none together with its attention."""
ZEROS = Bits("Q4_0")
"""In which they are beside others that are packed, where rows are whole blocks, so that dropping an MLP makes no file
larger. A file of which nothing is packed is left to llama-quantize, which takes none that is."""
VECTOR = 4
"""Bytes of a number of a vector, which is always in float32."""
SIZED = 3
"""Keys with a number for each layer, of four bytes."""
NAMES: Mapping[str, str] = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.bias": "attn_output.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.bias": "ffn_gate.bias",
    "mlp.up_proj.bias": "ffn_up.bias",
    "mlp.down_proj.bias": "ffn_down.bias",
}
FUSED = ("attn_q.weight", "attn_k.weight", "attn_v.weight")
"""One tensor in openelm, in this order."""
FUSED_NAME = "attn_qkv.weight"
OUTSIDE: Mapping[str, str] = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
FACTORS = "rope_freqs.weight"
"""By what each rotary frequency is divided, where one is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a file: its name, how many dimensions it has, and its bytes."""

    name: str
    dimensions: int
    bytes: int

    @property
    def padded(self) -> int:
        """Bytes that it takes in the file."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT

    @property
    def line(self) -> int:
        """Bytes of what is said of it: name, dimensions, type and place."""
        return 8 + len(self.name.encode()) + 4 + 8 * self.dimensions + 4 + 8


class Lines(NamedTuple):
    """What is said of a block's tensors: bytes where the block's index has one digit, and of how many tensors."""

    bytes: int
    tensors: int

    def at(self, index: int) -> int:
        """Bytes under an index."""
        return self.bytes + self.tensors * (len(str(index)) - 1)


@dataclass(frozen=True)
class GgufLayout:
    """Bytes of the file of every subnet of a model.

    Attributes:
        metadata: bytes of keys and values, those of layers (`SIZED`) for none.
        factors: numbers that rotary frequencies are divided by; 0: none.
    """

    anatomy: Anatomy
    metadata: int
    factors: int = 0
    additions: Additions = NONE_ADDED

    def block(self, block: Block, state: BlockState) -> int:
        """Of its tensors, of matrices outside that it tells of, and of lines on the former under its own index; in a
        file of which something is packed."""
        width, sizes = self.anatomy.bytes_per_parameter, state.sizes(block)
        tensors = [_matrix(one.name, one.shape(sizes), state, width) for one in block.outside]
        if not state.removed:
            tensors += self._tensors(block, state)
        return sum(tensor.padded for tensor in tensors) + self._lines(block, state).at(block.index)

    def around(self, states: Sequence[BlockState]) -> int:
        """All else, what new indices change of the lines on blocks, and what is more where nothing is packed."""
        blocks, kept = self.anatomy.blocks, kept_blocks(states)
        lines = [self._lines(blocks[old], states[old]) for old in kept]
        said = sum(one.at(new) for new, one in enumerate(lines)) + sum(tensor.line for tensor in self._beside)
        begin = HEADER + self.metadata + SIZED * 4 * len(kept) + said
        counted = sum(one.at(old) for old, one in zip(kept, lines, strict=True))
        vectors = sum(tensor.padded for tensor in self._beside if tensor.dimensions == 1)
        return -(-begin // ALIGNMENT) * ALIGNMENT + vectors - counted + self._unpacked(states)

    @cached_property
    def _beside(self) -> tuple[Stored, ...]:
        """What is in no block; of matrices the bytes are told by blocks."""
        found = [
            Stored(OUTSIDE[one.name], len(one.shape), VECTOR * math.prod(one.shape)) for one in self.anatomy.outside
        ]
        return (*found, *([Stored(FACTORS, 1, VECTOR * self.factors)] if self.factors else []))

    def _unpacked(self, states: Sequence[BlockState]) -> int:
        """What zeros in dropped MLPs' place take more where nothing in the file is packed."""
        if any_packed(states):
            return 0
        without = sum(not state.removed and not state.kept["channels"] for state in states)
        block, width = self.anatomy.blocks[0], self.anatomy.bytes_per_parameter
        return without * sum(
            one.padded - other.padded
            for one, other in zip(_zeros(block.hidden, width, False), _zeros(block.hidden, width, True), strict=True)
        )

    def _lines(self, block: Block, state: BlockState) -> Lines:
        if state.removed:
            return Lines(0, 0)
        key = block.index, tuple(state.kept.values())
        if key not in self._known:
            found = self._tensors(block, state)
            self._known[key] = Lines(sum(replace(one, name=f"blk.0.{one.name}").line for one in found), len(found))
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[int, tuple[int, ...]], Lines]:
        return {}

    def _tensors(self, block: Block, state: BlockState) -> list[Stored]:
        """Of a block that is kept, by their names in it."""
        width, sizes = self.anatomy.bytes_per_parameter, state.sizes(block)
        linears = {f"{linear.name}.weight": linear for linear in block.linears}
        found: list[Stored] = []
        for sublayer in block.sublayers:
            if not state.has(sublayer):
                continue
            for tensor in sublayer.parameters():
                if tensor.name in linears:
                    linear = linears[tensor.name]
                    stored = _matrix(linear.name, linear.shape(sizes), state, width)
                else:
                    stored = Stored("", 1, VECTOR * tensor.parameters(sizes))
                found.append(replace(stored, name=NAMES[tensor.name]))
            last = sublayer.linears[-1]
            if self.additions.bias and not last.bias and state.narrowed(block, sublayer):
                found.append(Stored(NAMES[f"{last.name}.bias"], 1, VECTOR * last.shape(sizes)[0]))
        if not state.kept["channels"]:
            found.append(Stored(NAMES["post_attention_layernorm.weight"], 1, VECTOR * block.hidden))
            found += _zeros(block.hidden, width, packed=True)
        if ARCHITECTURES[self.anatomy.family] == "openelm":
            fused = [one for one in found if one.name in FUSED]
            found = [one for one in found if one.name not in FUSED]
            found.append(Stored(FUSED_NAME, 2, sum(one.bytes for one in fused)))
        return found


def any_packed(states: Sequence[BlockState]) -> bool:
    """Whether a file of such states has something in it that is packed."""
    return any(isinstance(level, Bits) for state in states for level in state.treated.values())


def is_packed(states: Sequence[BlockState], inputs: int) -> bool:
    """Whether zeros in a dropped MLP's place are packed, in rows of so many inputs."""
    return inputs % ZEROS.stored.block == 0 and any_packed(states)


def _zeros(hidden: int, width: int, packed: bool) -> list[Stored]:
    """The matrices in a dropped MLP's place; `packed`: where their rows are whole blocks."""
    shapes = {"gate": (PLACEHOLDER, hidden), "up": (PLACEHOLDER, hidden), "down": (hidden, PLACEHOLDER)}
    return [
        Stored(
            NAMES[f"mlp.{name}_proj.weight"],
            2,
            ZEROS.bytes(outputs, inputs, width)
            if packed and inputs % ZEROS.stored.block == 0
            else outputs * inputs * width,
        )
        for name, (outputs, inputs) in shapes.items()
    ]


def _matrix(name: str, shape: tuple[int, int], state: BlockState, width: int) -> Stored:
    return Stored(name, 2, state.level(name).bytes(*shape, width))
