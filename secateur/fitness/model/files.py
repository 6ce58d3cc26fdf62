"""What of a model's folder is refused before any library opens it: each with its own reason."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ...files import read_json
from ...space.errors import SecateurError, border
from ...space.families.table import FAMILIES, check_sizes, corrected, is_headless

CONFIG, ADAPTER, WEIGHTS = "config.json", "adapter_config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
LARGEST_CONFIG, LARGEST_INDEX = 2**24, 2**28
"""Bytes of a configuration, and of an index of weights."""
BUFFERS = ("attn.masked_bias", "rotary_emb.inv_freq", "position_ids")
"""How names end of what older versions saved though it is computed from the configuration."""
COMPUTED = (*BUFFERS, "attn.bias")
"""Likewise; of another kind than weights."""
STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Kinds of numbers in safetensors files that can be searched."""
HEADLESS = (
    "; a model without a language-model head is searched where config.json says so by the name of its family's base "
    "model (architectures: [BertModel], [MistralModel]); a classifier cannot be"
)
LAYERS, LABELS, NUMBER = 10_000, 10**6, 2**40
"""What no number of layers or labels, of which lists are made, and no other number of a configuration, is above."""


def check_folder(folder: Path, path: str) -> None:
    """Raises SecateurError for a folder that holds no configuration, or an adapter; reads no weights.

    `path` is how the user named the model.
    """
    if (folder / ADAPTER).exists():
        beside = (
            "beside a full model; which of the two is meant? Move adapter_config.json away, or merge the adapter "
            "(peft's merge_and_unload) and save that"
            if (folder / CONFIG).is_file()
            else "and no model; merge it into its base model (peft's merge_and_unload), save that, and name it"
        )
        raise SecateurError(f"model '{path}': the folder holds an adapter (adapter_config.json) {beside}")
    if not (folder / CONFIG).is_file():
        raise SecateurError(f"model '{path}': the folder has no config.json")
    for name in ("quantize_config.json", "quant_config.json"):  # of GPTQ and AWQ, before config.json said it
        if (folder / name).exists():
            check_quantised({"quantization_config": name}, path)
    config = read_object(folder / CONFIG, f"model '{path}': config.json", LARGEST_CONFIG)
    check_numbers(config, f"model '{path}'")
    if config.get("transformers_weights") is not None:
        raise SecateurError(
            f"model '{path}': config.json names other files of weights (transformers_weights); take that entry "
            f"out, and call the file {WEIGHTS}"
        )
    if str(config.get("model_type")) in FAMILIES:
        check_sizes(config, str(config["model_type"]))


def check_weights(folder: Path, path: str, here: bool = True) -> None:
    """Raises SecateurError where the weights in a folder are not safetensors, or lie elsewhere.

    `here`: all of its files have to be there; of a hub's snapshot some may be fetched later.
    """
    if (folder / WEIGHTS).is_file():
        return  # transformers takes it, whatever an index beside it says
    if (folder / INDEX).is_file():
        for name in _indexed(folder, path):
            if here and not (folder / name).is_file():
                raise SecateurError(f"model '{path}': {INDEX}: names {name}, and there is no such file")
    else:
        torch_files = sorted(file.name for file in folder.glob("*.bin"))
        if torch_files:
            raise SecateurError(
                f"model '{path}': its weights are a pickle ({torch_files[0]}), which can run code and is never opened; "
                "save them as safetensors: from_pretrained(...).save_pretrained(FOLDER) in a place you trust"
            )
        raise SecateurError(f"model '{path}': the folder has no {WEIGHTS}")


def weight_files(folder: Path, path: str) -> list[Path]:
    """The safetensors files that transformers reads, whatever else lies beside them; none where there are none.

    Raises:
        SecateurError: an index that is damaged, or names what does not belong to the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in _indexed(folder, path)] if (folder / INDEX).is_file() else []


def _indexed(folder: Path, path: str) -> list[str]:
    """The names of files in an index, each once; raises SecateurError for those of other places or kinds."""
    where = f"model '{path}': {INDEX}"
    names = read_object(folder / INDEX, where, LARGEST_INDEX).get("weight_map")
    if not isinstance(names, Mapping) or not names:
        raise SecateurError(f"{where}: has no 'weight_map' from parameters to files")
    found = list(dict.fromkeys(map(str, names.values())))
    for name in found:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise SecateurError(f"{where}: names '{name[:100]}'; weights are .safetensors files in the same folder")
    return found


def stored_dtype(files: Sequence[Path], path: str) -> str | None:
    """The dtype that most numbers in safetensors files are in, as torch names it; None where there are none.

    Raises:
        SecateurError: a file is truncated, or holds weights of fewer bits than can be searched.
    """
    counts: Counter[str] = Counter()
    for file in files:
        with border(f"model '{path}': {file.name} cannot be read"), safe_open(file, framework="pt") as tensors:
            shapes = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
            kinds = {name: (one.get_dtype(), math.prod(one.get_shape())) for name, one in shapes.items()}
        for name, (kind, size) in kinds.items():
            if kind in STORED:
                counts[STORED[kind]] += size
            elif not name.endswith(COMPUTED):
                raise SecateurError(
                    f"model '{path}': {name} is stored as {kind}: its weights are quantised, and what is searched is "
                    "pruned in full precision; name the checkpoint that it was made from"
                )
    return max(counts, key=lambda name: counts[name], default=None)


def told_by_files(config: Mapping[str, Any], files: Sequence[Path], path: str) -> dict[str, Any]:
    """What safetensors files say otherwise than a configuration that claims to be of a model without a head.

    Raises:
        SecateurError: one cannot be read.
    """
    if not files or not is_headless(config):
        return {}
    names = set[str]()
    for file in files:
        with border(f"model '{path}': {file.name} cannot be read"), safe_open(file, framework="pt") as tensors:
            names.update(tensors.keys())
    return corrected(config, names)


def read_object(file: Path, where: str, largest: int) -> dict[str, Any]:
    """A JSON object of at most `largest` bytes; raises SecateurError where there is none in the file."""
    values = read_json(file, where, largest)
    if not isinstance(values, dict):
        raise SecateurError(f"{where}: holds {type(values).__name__}, not an object of settings")
    return values


def check_numbers(values: Mapping[str, Any], where: str) -> None:
    """Raises SecateurError for numbers out of all bounds, before a library makes lists or tensors of that size."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            check_numbers(value, where)
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        layers = "layer" in name and name.startswith(("num", "n_"))
        if abs(value) > (LAYERS if layers else LABELS if "label" in name else NUMBER):
            raise SecateurError(f"{where}: {name} is {value}, which is out of all bounds")


def check_quantised(config: Mapping[str, Any], path: str) -> None:
    """Raises SecateurError for weights that are stored quantised."""
    for quantised in map(config.get, ("quantization_config", "compression_config")):
        if quantised is None:
            continue
        how = quantised.get("quant_method") or quantised.get("format") if isinstance(quantised, Mapping) else None
        raise SecateurError(
            f"model '{path}': its weights are quantised (quantization_config: {str(how)[:80]}), and what is searched "
            "is pruned in full precision; name the checkpoint that it was made from"
        )


def check_loaded(info: Mapping[str, Any], path: str, unused: tuple[str, ...] = ()) -> None:
    """Raises SecateurError for what transformers reports of loading: everything has to be where it belongs.

    `info`: as `from_pretrained(output_loading_info=True)` gives it; parameters that begin like one of `unused` are of
    parts that the model does not have, which is known and does no harm.
    """
    mismatched = sorted(info.get("mismatched_keys", ()), key=str)
    if mismatched:
        found = [f"{name} {tuple(file)}, not {tuple(model)}" for name, file, model in mismatched]
        raise SecateurError(
            f"model '{path}': {_count(found)} of another shape in the files than config.json says: {_some(found)}"
        )
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing:
        head = any("lm_head" in name or "predictions" in name for name in missing)
        raise SecateurError(
            f"model '{path}': {_count(missing)} missing in its files: {_some(missing)}" + (HEADLESS * head)
        )
    extra = sorted(
        name
        for name in map(str, info.get("unexpected_keys", ()))
        if not name.startswith(unused or "\0") and not name.endswith(BUFFERS)
    )
    if extra:
        raise SecateurError(
            f"model '{path}': {_count(extra)} in its files and have no place in the model that config.json "
            f"describes: {_some(extra)}"
        )
    if info.get("error_msgs"):
        raise SecateurError(f"model '{path}': cannot be loaded: {_some(list(map(str, info['error_msgs'])))}")


def _count(names: list[str]) -> str:
    return "1 parameter is" if len(names) == 1 else f"{len(names)} parameters are"


def _some(names: list[str]) -> str:
    return ", ".join(name[:200] for name in names[:4]) + (", …" if len(names) > 4 else "")
