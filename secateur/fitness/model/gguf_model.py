"""A GGUF file as a model of transformers: its configuration, and the checkpoint that it is converted into."""

import contextlib
import io
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...files import locked, new_folder
from ...space.errors import SecateurError, StorageError, border
from ..cache import cache_folder, digest, file_digest, read_json, seal, sealed, usable, write_json
from .border import library
from .files import check_loaded
from .gguf_source import FREQUENCIES, Header, check_heads, check_keys, check_tensors, llama3_scaling, read_header


def meaning(config: Any) -> dict[str, Any]:
    """What of a configuration says how the model computes: not where it came from or which version wrote it."""
    values: dict[str, Any] = config.to_dict()
    return {name: value for name, value in values.items() if name not in ("_name_or_path", "transformers_version")}


def gguf_config(path: str, file: Path) -> dict[str, Any]:
    """The configuration of a GGUF file, kept in the cache: transformers takes seconds to read it.

    `path` is how the user named the model.

    Raises:
        SecateurError: the file is damaged, or says things of the model that the reader does not know.
    """
    name = digest(file_digest(file), version("transformers"))
    kept = cache_folder() / "models" / f"{name}.config.json"
    if usable(kept):
        return dict(read_json(kept))
    from transformers import AutoConfig

    header = read_header(file)
    _check_keys(header, path)
    with library(path, "cannot read its configuration"):
        config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    check_heads(header, _head_dim(config), path)
    _restore_frequencies(config, header, file, path)
    with library(path, "cannot read its configuration"):
        values = json.loads(json.dumps(meaning(config)))
    values.pop("quantization_config", None)
    write_json(kept, values)
    return dict(values)


def _check_keys(header: Header, path: str) -> None:
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    mapped = GGUF_CONFIG_MAPPING.get(header.architecture.replace("-", "_"), {})
    if mapped:  # of others transformers says itself that it does not read them
        check_keys(header, mapped, path)


def _head_dim(config: Any) -> int | None:
    heads = getattr(config, "num_attention_heads", None)
    return getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)


def _restore_frequencies(config: Any, header: Header, file: Path, path: str) -> None:
    if FREQUENCIES not in header.tensors:
        return
    with border(f"model '{path}': {FREQUENCIES} cannot be read"):
        import gguf

        tensors = gguf.GGUFReader(file).tensors
        [factors] = [tensor.data.tolist() for tensor in tensors if tensor.name == FREQUENCIES]
        theta = float(config.rope_parameters["rope_theta"])
    config.rope_parameters = llama3_scaling(factors, theta, path)


def converted(path: str, file: Path) -> Path:
    """The folder in the cache that a GGUF file is converted into, once; dequantised to float32.

    Raises:
        SecateurError: the file is damaged, holds what the reader leaves out, or the cache cannot be written.
    """
    header = read_header(file)
    _check_keys(header, path)
    folder = cache_folder() / "models" / file_digest(file)
    if not (folder.is_dir() and sealed(folder)):
        with locked(folder):
            if not (folder.is_dir() and sealed(folder)):  # another process may have made it meanwhile
                shutil.rmtree(folder, ignore_errors=True)
                _convert(path, file, header, folder)
    return folder


def _convert(path: str, file: Path, header: Header, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with library(path, "cannot be read"), contextlib.redirect_stderr(io.StringIO()):
        # The GGUF reader draws its own progress bar on standard error, whatever transformers is told.
        model, info = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        mapped = _mapped_tensors(model, header)
    check_loaded(info, path)
    check_tensors(header, mapped, path)
    check_heads(header, _head_dim(model.config), path)
    _restore_frequencies(model.config, header, file, path)
    try:
        with new_folder(folder) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            seal(temporary)
    except (SecateurError, SafetensorError) as error:
        raise StorageError(f"cannot write {folder}: {error}; set SECATEUR_CACHE to a folder with room") from error


def _mapped_tensors(model: Any, header: Header) -> set[str]:
    """The names of a GGUF's tensors that transformers' reader takes."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config={})
    return set(get_gguf_hf_weights_map(model, processor))
