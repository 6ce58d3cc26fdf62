"""Lists of tensors and their shares for torchao's sparsifiers, and for torch.nn.utils.prune, with a snippet each."""

import json

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.treatments import Sparsity
from ..changes import Changes, located, share
from ..features import Subject
from .form import ZEROS, Content, Files, Format
from .linears import check_linears, linears, snippet


def write(subject: Subject) -> Files:
    """The list that torchao's sparsifiers take; shares are floats, since torch.nn.utils.prune counts with integers."""
    return {"sparsity.json": _tensors(subject), "apply.py": snippet("torchao")}


def write_for_prune(subject: Subject) -> Files:
    """The list, with a snippet that hands it to torch.nn.utils.prune."""
    return {"sparsity.json": _tensors(subject), "apply.py": snippet("torch_prune")}


def _tensors(subject: Subject) -> str:
    entries = []
    for name, _, level in linears(subject):
        entry: dict[str, object] = {"tensor_fqn": f"{name}.weight", "sparsity_level": float(level.share)}
        if level.of:
            entry |= {
                "sparsity_level": 1.0,
                "sparse_block_shape": [1, level.of],
                "zeros_per_block": level.of - level.keep,
            }
        if level:
            entries.append(entry)
    return json.dumps(entries, indent=1) + "\n"


def reads(content: Content) -> bool:
    """A list of tensors by name."""
    values = content.values
    return isinstance(values, list) and all(isinstance(one, dict) and "tensor_fqn" in one for one in values)


def read(content: Content, anatomy: Anatomy) -> Changes:
    """A list of tensors and their shares, or of zeros in every block of a row."""
    values, where = content.values, content.where
    changes = Changes()
    for entry in values:
        name = str(entry["tensor_fqn"])
        layer, inside = located(name.removesuffix(".weight"), anatomy, where)
        if "zeros_per_block" in entry and tuple(entry["sparse_block_shape"]) != (1, 1):
            rows, of = entry["sparse_block_shape"]
            if rows != 1 or float(entry["sparsity_level"]) != 1:
                raise SecateurError(
                    f"{where}, {name}: blocks of one row, all of them pruned, are a pattern; these are not"
                )
            changes.treated[layer, inside] = Sparsity.parse(f"{of - int(entry['zeros_per_block'])}:{of}")
        else:
            changes.treated[layer, inside] = share(float(entry["sparsity_level"]), f"{where}, {name}")
    return changes


TORCHAO = Format(
    "torchao",
    "list for its sparsifiers, with a snippet",
    ZEROS,
    write,
    refuses=check_linears,
    reads=reads,
    read=read,
)
TORCH_PRUNE = Format(
    "torch-prune", "the same list for torch.nn.utils.prune", ZEROS, write_for_prune, refuses=check_linears
)
