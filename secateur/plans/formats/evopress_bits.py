"""EvoPress's bits by linear, and those of its successor for llama.cpp (gptq-gguf-toolkit), which name types.

The first are `name: 3`, and how many weights a group has is said beside them, in a metadata.json; the second are
`name: 5.5 (5.5-Q5_K.pth)`.
"""

import json
import re

from ...space.anatomy import Anatomy
from ...space.bits import TYPES, Bits
from ...space.errors import SecateurError, suggest
from ..changes import Changes, located
from ..features import Subject
from .form import Content, Files, Format, of
from .linears import named_levels
from .schemes import check_grids, grids, made

TYPED = re.compile(r"(\S+):\s*[0-9.]+\s*\([0-9.]+-([A-Za-z0-9_]+)\.pth\)")
GROUP, SYMMETRIC = "group_size", "symmetric"


def write(subject: Subject) -> Files:
    """Lines of linears in module order, of integers with the numbers of their groups."""
    lines, group = [], (0, False)
    found = dict(grids(subject))
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        for position, linear in enumerate(block.linears):
            name, level = subject.anatomy.matrix_name(block.index, position), state.level(linear.name)
            if isinstance(level, Bits):
                bits = f"{level.stored.bits:g}"
                lines.append(f"{name}: {bits} ({bits}-{level.kind}.pth)\n")
            elif name in found:
                lines.append(f"{name}: {found[name].width}\n")
                group = found[name].group, found[name].symmetric
    files: Files = {"levels.txt": "".join(lines)}
    if found:
        files["metadata.json"] = json.dumps({GROUP: group[0], SYMMETRIC: group[1]}) + "\n"
    return files


def refuses(subject: Subject) -> str | None:
    """Why it is no file of these; None where it is one."""
    found = dict(grids(subject))
    types = [level for state in subject.states for level in state.treated.values() if isinstance(level, Bits)]
    if not found and not types:
        return "nothing is stored in fewer bits"
    if found and types:
        return "some linears have types of llama.cpp's and some integers, and it has one of the two"
    if len({(level.group, level.symmetric, level.float8) for level in found.values()}) > 1:
        return "its integers are all in groups of one size"
    if any(level.float8 for level in found.values()):
        return "it has integers, and these are floats"
    return check_grids(subject)


def reads(content: Content) -> bool:
    """Lines with types, or levels beside which stands how large a group is."""
    typed = bool(content.lines) and all(TYPED.fullmatch(line) for line in content.lines)
    return typed or (content.leveled and GROUP in content.numbers)


def read(content: Content, anatomy: Anatomy) -> Changes:
    """The type or grid of every linear that is named."""
    where, changes = content.where, Changes()
    typed = [match for line in content.lines if (match := TYPED.fullmatch(line))]
    for match in typed:
        kind = match[2].upper()
        if kind not in TYPES:
            raise SecateurError(f"{where}: no type {kind[:40]}; {suggest(kind[:40], tuple(TYPES))}")
        place = located(match[1], anatomy, where)
        if place in changes.treated:
            raise SecateurError(f"{where}: '{match[1]}' stands there twice")
        changes.treated[place] = Bits(kind)
    if typed:
        return changes
    group, symmetric = int(content.numbers[GROUP]), bool(content.numbers.get(SYMMETRIC, False))
    for name, width in named_levels(content.lines, where).items():
        changes.treated[located(name, anatomy, where)] = made(f"{where}: {name}", width, max(0, group), symmetric)
    return changes


EVOPRESS_BITS = Format(
    "evopress-bits",
    "its bits by linear, or gptq-gguf-toolkit's types",
    of("grid", "bits"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    head=True,
)
