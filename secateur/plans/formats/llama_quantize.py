"""What llama-quantize is told: `--prune-layers`, and `--tensor-type-file` with the type of every tensor."""

import re
from collections.abc import Iterator

from ...files import read_text
from ...space.anatomy import Anatomy
from ...space.bits import TYPES, Bits
from ...space.errors import SecateurError, suggest
from ...space.layout import kept_blocks
from ..changes import Changes
from ..features import Subject
from .form import LARGEST, Content, Files, Format, of
from .gguf_layout import NAMES, OUTSIDE
from .linears import LLAMA_LIKE

TYPED = re.compile(r"[^=\s]+=[A-Za-z0-9_]+")
"""A line of the file of types."""
WHOLE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def write(subject: Subject) -> Files:
    """For a GGUF of the dense model (of one with sizes per layer `--prune-layers` breaks the arrays): the layers that
    go, and every matrix that is left by its new name, with its type, so that none is left to the tool's own mix."""
    layers = ",".join(map(str, subject.removed))
    types = list(_types(subject)) if any(state.treated for state in subject.states) else []
    kind = types[0][1].upper() if types else "COPY"
    options = ([f"--prune-layers {layers}"] if layers else []) + (["--tensor-type-file types.txt"] if types else [])
    base = next((one for _, one in types if one.upper() in TYPES and one != "f16"), kind)
    files: Files = {"command.txt": f"llama-quantize {' '.join(options)} dense.gguf smaller.gguf {base}\n"}
    if layers:
        files["prune_layers.txt"] = f"{layers}\n"
    if types:
        files["types.txt"] = "".join(f"^{re.escape(name)}$={kind}\n" for name, kind in types)
    return files


def _types(subject: Subject) -> Iterator[tuple[str, str]]:
    """Every matrix's name in the file and its type, in small letters."""
    whole = WHOLE[subject.dtype]
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        for matrix in block.outside:
            level = state.level(matrix.name)
            yield OUTSIDE[f"{matrix.name}.weight"], level.kind.lower() if isinstance(level, Bits) else whole
    for new, old in enumerate(kept_blocks(subject.states)):
        for linear in subject.anatomy.blocks[old].linears:
            level = subject.states[old].level(linear.name)
            name = f"blk.{new}.{NAMES[f'{linear.name}.weight']}"
            yield name, level.kind.lower() if isinstance(level, Bits) else whole


def refuses(subject: Subject) -> str | None:
    """Why there is nothing to do, or no name for it; None where there is."""
    stored = any(state.treated for state in subject.states)
    if not subject.removed and not stored:
        return "no layer is dropped, and nothing is stored in fewer bits"
    if stored and subject.anatomy.family not in LLAMA_LIKE:
        return f"names of {subject.anatomy.family}'s tensors are not known; those of {', '.join(LLAMA_LIKE)} are"
    return None


def reads(content: Content) -> bool:
    """Lines `pattern=type`."""
    return bool(content.lines) and all(TYPED.fullmatch(line) for line in content.lines)


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Of every matrix the type of the first pattern that is found in its name, as the tool has it; others stay dense.

    Names are those of the layers that are left where a prune_layers.txt stands beside it.
    """
    where, changes = content.where, Changes(removed=_removed(content))
    left = [block.index for block in anatomy.blocks if block.index not in changes.removed]
    patterns = [line.rpartition("=")[::2] for line in content.lines]
    used: set[str] = set()
    for block in anatomy.blocks:
        for position, matrix in enumerate(block.matrices):
            inside = position < len(block.linears)
            if inside and block.index in changes.removed:
                continue
            short = (NAMES if inside else OUTSIDE).get(f"{matrix.name}.weight")
            if short is None:
                raise SecateurError(f"{where}: what {anatomy.family}'s {matrix.name} is called there is not known")
            name = f"blk.{left.index(block.index)}.{short}" if inside else short
            for pattern, kind in patterns:
                if _found(pattern, name, where):
                    used.add(pattern)
                    if kind.upper() not in (*TYPES, "F32", "BF16"):
                        raise SecateurError(f"{where}: no type {kind[:40]}; {suggest(kind.upper()[:40], tuple(TYPES))}")
                    if kind.upper() in TYPES:
                        changes.treated[block.index, matrix.name] = Bits(kind.upper())
                    break
    if unused := [pattern for pattern, _ in patterns if pattern not in used]:
        raise SecateurError(f"{where}: no matrix of the model matches '{unused[0][:80]}'")
    return changes


def _removed(content: Content) -> set[int]:
    beside = content.path.with_name("prune_layers.txt")
    if not beside.exists():
        return set()
    text = read_text(beside, f"plan {beside}", LARGEST).strip()
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", text):
        raise SecateurError(f"plan {beside}: write layers as in 20,26")
    return {int(one) for one in text.split(",")}


def _found(pattern: str, name: str, where: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise SecateurError(f"{where}: cannot read the pattern '{pattern[:80]}': {error}") from error


LLAMA_QUANTIZE = Format(
    "llama-quantize",
    "its --prune-layers and its --tensor-type-file",
    of("layers", "bits"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    head=True,
)
