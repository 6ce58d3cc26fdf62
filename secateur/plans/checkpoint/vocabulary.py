"""The vocabulary of a GGUF file: copied from a GGUF of the dense model, or made from the checkpoint's own tokenizer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
from gguf import GGUFValueType, TokenType

from ...space.errors import SecateurError

Entry = tuple[str, Any, GGUFValueType, GGUFValueType | None]
"""Key, value, type, and type of an array's elements."""

OWN = (
    "general.alignment",
    "general.architecture",
    "general.file_type",
    "general.quantization_version",
    "general.size_label",
)
"""Keys that say how the dense file was written."""
CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KINDS: dict[tuple[str, ...], str] = {
    ("ByteLevel regex",): "gpt-2",
    ("Digits", "ByteLevel regex"): "smollm",
    (CASES + r"\p{N}{1,3}" + REST, "ByteLevel"): "llama-bpe",
    (CASES + r"\p{N}" + REST, "ByteLevel"): "qwen2",
}
"""What llama.cpp calls the rules by which text is cut into pieces before merges, by what the tokenizer says of them."""


def of_gguf(path: Path, count: int) -> list[Entry]:
    """All that a GGUF file says of its vocabulary, and of the model in general.

    Raises:
        SecateurError: the file cannot be read, has no vocabulary, or not `count` tokens.
    """
    try:
        fields: Mapping[str, Any] = gguf.GGUFReader(path).fields
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise SecateurError(f"--vocabulary {path}: is no GGUF file that can be read: {error}") from error
    entries = [
        (name, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None)
        for name, field in fields.items()
        if name.startswith(("tokenizer.", "general.")) and name not in OWN
    ]
    tokens = next((values for name, values, *_ in entries if name == "tokenizer.ggml.tokens"), None)
    if tokens is None:
        raise SecateurError(f"--vocabulary {path}: has no vocabulary")
    if len(tokens) != count:
        raise SecateurError(f"--vocabulary {path}: has {len(tokens)} tokens, the model {count}")
    return entries


def of_tokenizer(tokenizer: Any, count: int) -> list[Entry]:
    """The vocabulary of a byte-level tokenizer (byte-pair encoding) of a kind that llama.cpp knows.

    Raises:
        SecateurError: it is of another kind, or has more than `count` tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    values = json.loads(backend.to_str()) if backend is not None else {}
    kind = KINDS.get(_rules(values))
    if kind is None or not _as_llama_cpp_does(values, kind):
        raise SecateurError(
            "--to gguf: llama.cpp's name for this kind of tokenizer is not known; --vocabulary DENSE.gguf takes it "
            "from a GGUF of the dense model, --vocabulary none writes a file that takes token ids alone"
        )
    tokens, types = _tokens(tokenizer, values, count)
    string, number = GGUFValueType.STRING, GGUFValueType.UINT32
    merges = [one if isinstance(one, str) else " ".join(one) for one in values["model"]["merges"]]
    entries: list[Entry] = [
        ("tokenizer.ggml.model", "gpt2", string, None),
        ("tokenizer.ggml.pre", kind, string, None),
        ("tokenizer.ggml.tokens", tokens, GGUFValueType.ARRAY, string),
        ("tokenizer.ggml.token_type", types, GGUFValueType.ARRAY, GGUFValueType.INT32),
        ("tokenizer.ggml.merges", merges, GGUFValueType.ARRAY, string),
        ("tokenizer.ggml.add_space_prefix", False, GGUFValueType.BOOL, None),
        ("tokenizer.ggml.add_bos_token", _adds(tokenizer, "bos", 0), GGUFValueType.BOOL, None),
        ("tokenizer.ggml.add_eos_token", _adds(tokenizer, "eos", -1), GGUFValueType.BOOL, None),
    ]
    for name, token in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        if (index := getattr(tokenizer, f"{token}_token_id", None)) is not None:
            entries.append((f"tokenizer.ggml.{name}_token_id", index, number, None))
    if isinstance(template := getattr(tokenizer, "chat_template", None), str):
        entries.append(("tokenizer.chat_template", template, string, None))
    return entries


def _as_llama_cpp_does(values: Mapping[str, Any], kind: str) -> bool:
    """Whether the rest of a tokenizer is what llama.cpp does for its kind; of NFC it does nothing."""
    model, normalizer = values["model"], values.get("normalizer") or {"type": "NFC"}
    return (
        model["type"] == "BPE"
        and normalizer["type"] == "NFC"
        and bool(model.get("ignore_merges")) == (kind == "llama-bpe")
        and not any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"))
        and not any(one["lstrip"] or one["rstrip"] for one in values["added_tokens"])
    )


def _rules(values: Mapping[str, Any]) -> tuple[str, ...]:
    """What a tokenizer does before merges, in words; kinds that are not known by their type."""
    cutting = values.get("pre_tokenizer") or {}
    steps: Sequence[Mapping[str, Any]] = cutting.get("pretokenizers", [cutting])
    return tuple(map(_rule, steps))


def _rule(step: Mapping[str, Any]) -> str:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "ByteLevel regex" if step.get("use_regex", True) else "ByteLevel"
        case {"type": "Digits", "individual_digits": True}:
            return "Digits"
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return str(regex)
    return f"other {step.get('type')}"


def _tokens(tokenizer: Any, values: Mapping[str, Any], count: int) -> tuple[list[str], list[int]]:
    """Tokens by index, and their types; rows of the embedding that no token has are unused."""
    known: dict[str, int] = tokenizer.get_vocab()
    if max(known.values()) >= count:
        raise SecateurError(f"--to gguf: the tokenizer has {max(known.values()) + 1} tokens, the model {count}")
    added = {
        one["id"]: TokenType.CONTROL if one["special"] else TokenType.USER_DEFINED for one in values["added_tokens"]
    }
    by_index = {index: token for token, index in known.items()}
    tokens = [by_index.get(index, f"[PAD{index}]") for index in range(count)]
    types = [int(added.get(i, TokenType.NORMAL)) if i in by_index else int(TokenType.UNUSED) for i in range(count)]
    return tokens, types


def _adds(tokenizer: Any, name: str, place: int) -> bool:
    """Whether a text begins or ends with a token that nobody wrote."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return len(ids) > 1 and ids[place] == getattr(tokenizer, f"{name}_token_id")
