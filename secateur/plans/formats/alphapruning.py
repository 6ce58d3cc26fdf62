"""AlphaPruning's `.npy` of ratios, for code in the manner of Wanda and SparseGPT."""

import io
import json
import shlex

import numpy as np

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes, share
from ..features import Subject
from .form import Content, Files, Format, of
from .linears import OTHER_ORDER, check_order, linears


def write(subject: Subject) -> Files:
    """`profile.npy`, one float64 for each linear in module order, and the numbers that make its map return just these.

    epsilon = (max - min) / (max + min), and the overall ratio; with `--mapping_type layer_wise`. Where all shares are
    the same, its map would divide by nothing, and its uniform method does what is meant.
    """
    shares = np.array([level.share for _, _, level in linears(subject)])
    weights = np.array([linear.weights for _, linear, _ in linears(subject)], dtype=float)
    epsilon = float((shares.max() - shares.min()) / (shares.max() + shares.min()))
    ratio = float((weights @ shares) / weights.sum())
    buffer = io.BytesIO()
    np.save(buffer, shares, allow_pickle=False)
    profile = "wanda_ww --ww_metric profile --ww_metric_cache ."
    method = f"{profile} --epsilon {epsilon!r} --mapping_type layer_wise" if epsilon else "wanda"
    command = (
        f"python main.py --model {shlex.quote(subject.path)} --prune_method {method} "
        f"--sparsity_ratio {ratio!r} --save out\n"
    )
    values = {"sparsity_ratio": ratio, "epsilon": epsilon, "linears": [name for name, _, _ in linears(subject)]}
    return {
        "profile.npy": buffer.getvalue(),
        "profile.json": json.dumps(values, indent=1) + "\n",
        "command.txt": command,
    }


def reads(content: Content) -> bool:
    """Any array."""
    return content.array is not None


def read(content: Content, anatomy: Anatomy) -> Changes:
    """A share for each linear in module order, as our export writes it: the values of other profiles are no shares."""
    values, where = content.array, content.where
    assert values is not None
    if anatomy.family in OTHER_ORDER:
        raise SecateurError(f"{where}: {anatomy.family} registers its linears in another order than the file's")
    if values.dtype.kind != "f":
        raise SecateurError(f"{where}: has values of the kind {values.dtype}; shares are floating-point numbers")
    names = [(block.index, linear.name) for block in anatomy.blocks for linear in block.linears]
    if values.shape != (len(names),):
        raise SecateurError(f"{where}: has the shape {values.shape}, the model {len(names)} linears")
    return Changes(treated={name: share(float(value), where) for name, value in zip(names, values, strict=True)})


ALPHAPRUNING = Format(
    "alphapruning",
    "its .npy of ratios, for code in the manner of Wanda and SparseGPT",
    of("shares"),
    write,
    refuses=check_order,
    reads=reads,
    read=read,
)
