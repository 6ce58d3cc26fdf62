"""The list of llama-quantize's `--prune-layers`."""

from ..features import Subject
from .form import Files, Format, of


def write(subject: Subject) -> Files:
    """The list of `--prune-layers`, for a GGUF of the dense model: on one with sizes per layer it breaks the arrays."""
    layers = ",".join(map(str, subject.removed))
    command = f"llama-quantize --prune-layers {layers} dense.gguf smaller.gguf q8_0\n"
    return {"prune_layers.txt": f"{layers}\n", "command.txt": command}


def refuses(subject: Subject) -> str | None:
    """Why there is nothing to prune; None where there is."""
    return None if subject.removed else "no layer is dropped"


LLAMA_QUANTIZE = Format("llama-quantize", "the list of its --prune-layers", of("layers"), write, refuses=refuses)
