"""Every format that a plan can be written in or read from, and why it cannot carry a given subnet."""

from ...space.errors import SecateurError
from ..features import Subject, carried, features
from .alphapruning import ALPHAPRUNING
from .block_configs import BLOCK_CONFIGS
from .blockpruner import BLOCKPRUNER
from .darwinlm import DARWINLM
from .evopress import EVOPRESS
from .evopress_bits import EVOPRESS_BITS
from .evopress_levels import EVOPRESS_LEVELS
from .form import Files, Format
from .gguf import GGUF
from .gptqmodel import GPTQMODEL
from .hf import HF
from .llama_quantize import LLAMA_QUANTIZE
from .llm_compressor import LLM_COMPRESSOR
from .mergekit import MERGEKIT
from .mlx import MLX
from .modelopt import MODELOPT
from .multipruner import MULTIPRUNER
from .plan import PLAN
from .profile import CSV, JSON, YAML
from .sleb import SLEB
from .torch_pruning import TORCH_PRUNING
from .torchao import TORCH_PRUNE, TORCHAO
from .torchao_config import TORCHAO_CONFIG

FORMATS: dict[str, Format] = {
    "plan": PLAN,
    "hf": HF,
    "gguf": GGUF,
    "llama-quantize": LLAMA_QUANTIZE,
    "llm-compressor": LLM_COMPRESSOR,
    "gptqmodel": GPTQMODEL,
    "mlx": MLX,
    "torchao-config": TORCHAO_CONFIG,
    "modelopt": MODELOPT,
    "torchao": TORCHAO,
    "torch-prune": TORCH_PRUNE,
    "torch-pruning": TORCH_PRUNING,
    "mergekit": MERGEKIT,
    "block_configs": BLOCK_CONFIGS,
    "evopress": EVOPRESS,
    "evopress-bits": EVOPRESS_BITS,
    "evopress-levels": EVOPRESS_LEVELS,
    "darwinlm": DARWINLM,
    "multipruner": MULTIPRUNER,
    "sleb": SLEB,
    "blockpruner": BLOCKPRUNER,
    "alphapruning": ALPHAPRUNING,
    "json": JSON,
    "yaml": YAML,
    "csv": CSV,
}
"""In the order of reports. A file is of the first that reads it."""

NO_HEAD = "its tool loads language models, and this one has no head"


def refusal(form: Format, subject: Subject) -> str | None:
    """Why a plan cannot be written so; None where it can."""
    asked = features(subject.anatomy, subject.states)
    missing = next((where for feature, where in asked.items() if not carried(feature, form.carries)), None)
    if missing is not None:
        return f"{missing}, which it cannot express"
    for block in subject.anatomy.blocks:
        for sublayer in block.sublayers:
            if form.sublayers is not None and sublayer.name not in form.sublayers:
                return f"layer {block.index} has a sublayer '{sublayer.name}', which it does not know"
    if form.write is None and not form.weights:
        return "it is read and not written"
    reason = NO_HEAD if form.head and subject.anatomy.headless else form.refuses(subject)
    # Of what is dropped or kept whole nothing is left to choose.
    narrower = next((where for feature, where in asked.items() if feature not in ("layers", "sublayers")), None)
    if reason is None and form.weights and not subject.chosen and narrower is not None:
        return f"the plan was read from another tool's file, which says how much is kept and not what ({narrower})"
    return reason


def check(form: Format, subject: Subject) -> None:
    """Raises SecateurError when the format cannot carry the plan; says what and where."""
    reason = refusal(form, subject)
    if reason is not None:
        raise SecateurError(f"--to {form.name}: {reason}")


def files(form: Format, subject: Subject) -> Files:
    """The contents of an export by file name, for a format that needs no weights.

    Raises:
        SecateurError: the format cannot carry the plan.
    """
    check(form, subject)
    assert form.write is not None
    return form.write(subject)
