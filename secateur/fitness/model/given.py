"""Objects that somebody has loaded, as a checkpoint of their own."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...files import new_folder
from ...space.errors import SecateurError
from .border import library


def keep_objects(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a model as it is in memory, and its tokenizer, into the new folder.

    Raises:
        SecateurError: one is missing, or not of transformers, or the folder cannot be written.
    """
    for name, value, wanted in (("model", model, PreTrainedModel), ("tokenizer", tokenizer, PreTrainedTokenizerBase)):
        if not isinstance(value, wanted):
            kind = "missing" if value is None else f"a {type(value).__name__}"
            raise SecateurError(f"{name}: {kind}; give a model and its tokenizer, as transformers loads them")
    with new_folder(folder) as temporary, library("given as an object", "cannot be written"):
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
