"""Documents packed into sequences of one length."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError, border
from .sources import SEPARATOR, documents

NOT_MASKED = -100
MASKED_SHARE = 0.15
"""Of the tokens of a sequence for an encoder (Devlin et al. 2019, arXiv 1810.04805, sec. 3.1)."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text to be read and packed; the fields are those of a recipe's text settings.

    Attributes:
        at_most: fewer sequences will do where there are no more.
        parts: texts that are mixed to make this one; of each, how many sequences, by weight.
        seed: of the choice of its documents, which come before those of texts without one; None: that of them all.
    """

    title: str
    source: str
    field: str
    split: str
    sequences: int
    length: int
    windows_per_document: int
    positions: int | None = None
    at_most: bool = False
    config: str | None = None
    prefix: bool = True
    parts: tuple[tuple["TextRequest", int], ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Sequences:
    """A shuffled pool.

    Attributes:
        ids: (sequences, length) int64, what the model is given.
        documents: names of the texts used.
        targets: (sequences, length) int64 for an encoder: the token that was masked, `NOT_MASKED` elsewhere. None for
            a causal model, which predicts each next token.
        positions: (sequences, scored) int64, ascending: where a causal model is scored; None: everywhere.
        prefix: the tokens that every sequence begins with because the tokenizer begins every text with them.
        parts: of a mixture, the names of the texts that its sequences are of, one for each.
        digest: names the tokens, and where they are scored.
    """

    name: str
    ids: torch.Tensor
    documents: frozenset[str]
    targets: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    prefix: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of each sequence."""
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


CHARACTERS, MARGIN = 64, 64
"""Of a document so many characters are read for each token that is wanted, and so many tokens more than those, so that
where it is cut says nothing of them."""


def read(request: TextRequest, tokenizer: Any, shape: Anatomy, seed: int, without: frozenset[str]) -> Sequences:
    """Reads and packs a text for a model of that shape; documents in `without` are left out.

    Raises:
        SecateurError: it is missing, too short, or has tokens that the model does not have.
    """
    if request.parts:
        return _mixed(request, tokenizer, shape, seed, without)
    if request.source.endswith(".npy"):
        path, rows = Path(request.source), shape.vocabulary
        return from_token_file(path, request.sequences, request.length, rows, seed, without, request.at_most)
    with _titled(request):
        text = pack(
            request.source,
            documents(request.source, request.field, request.split, request.config),
            tokenizer,
            request.sequences,
            request.length,
            seed,
            without,
            request.windows_per_document,
            request.at_most,
            # An encoder's first and last tokens are put around its windows where they are masked.
            request.prefix and shape.causal,
        )
    largest = int(text.ids.max())
    if largest >= shape.vocabulary:
        raise SecateurError(
            f"text '{request.title}': the tokenizer gives token {largest}, and the model's embedding has "
            f"{shape.vocabulary} rows; tokens were added to the tokenizer that the model does not have"
        )
    return text


def _mixed(request: TextRequest, tokenizer: Any, shape: Anatomy, seed: int, without: frozenset[str]) -> Sequences:
    """Several texts as one, in which each is spread evenly: every beginning of it has all of them, by their counts."""
    texts: list[Sequences] = []
    for part, count in request.parts:
        own = replace(part, sequences=count, length=request.length, prefix=request.prefix, at_most=request.at_most)
        texts.append(read(own, tokenizer, shape, seed, without.union(*(text.documents for text in texts))))
    places = [((row + 0.5) / len(text), number, row) for number, text in enumerate(texts) for row in range(len(text))]
    order = [(number, row) for _, number, row in sorted(places)]
    return Sequences(
        request.source,
        torch.stack([texts[number].ids[row] for number, row in order]),
        frozenset[str]().union(*(text.documents for text in texts)),
        prefix=max((text.prefix for text in texts), key=len),
        parts=tuple(request.parts[number][0].title for number, _ in order),
    )


@contextlib.contextmanager
def _titled(request: TextRequest) -> Iterator[None]:
    """Says of which of a recipe's texts an error is, since several may be of one source."""
    try:
        yield
    except SecateurError as error:
        raise SecateurError(f"{request.title}: {error}") from error


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
    prefix: bool = True,
) -> Sequences:
    """Shuffles documents, joins them with blank lines, cuts windows of `length` tokens and shuffles those.

    With `prefix` every window begins with what the tokenizer begins every text with, as the model does where it is
    used: Gemma without it has a perplexity of 650 instead of 21 (shortened-llm, issue 6). It counts in `length`.

    Only as many documents as needed are used; those whose SHA-256 is in `without` never are, which keeps texts disjoint
    by document. Of a long document only the first `windows_per_document` windows are taken, so that windows are
    nearly independent and confidence intervals over them mean something. `at_most`: fewer sequences will do.

    Raises:
        SecateurError: the text is too short.
    """
    rng = np.random.default_rng(seed)
    available = [text for text in texts if _hash(text) not in without]
    begin = prefix_of(tokenizer) if prefix else []
    room = length - len(begin)
    windows: list[list[int]] = []
    buffer: list[int] = []
    used = set()
    for index in rng.permutation(len(available)).tolist():
        if len(windows) == sequences:
            break
        used.add(_hash(available[index]))
        with border(f"text '{name}': the tokenizer cannot read it"):
            buffer += _tokens(available[index] + SEPARATOR, tokenizer, (windows_per_document or sequences) * room)
        while len(buffer) >= room and len(windows) < sequences:
            windows.append([*begin, *buffer[:room]])
            buffer = buffer[room:]
    if at_most and windows:
        sequences = len(windows)
    if len(windows) < sequences:
        raise SecateurError(
            f"text '{name}' is too short: {sequences} sequences of {length} tokens are wanted, it has "
            f"{len(windows)}; lower 'sequences' or 'length', raise 'windows_per_document', or give more text"
        )
    shuffled = torch.tensor(windows, dtype=torch.int64)[torch.from_numpy(rng.permutation(sequences))]
    return Sequences(name, shuffled, frozenset(used), prefix=tuple(begin))


def _tokens(document: str, tokenizer: Any, most: int) -> list[int]:
    """The first `most` tokens of a document, of which no more is read than these can need."""
    for size in (CHARACTERS * most, len(document)):
        ids: list[int] = tokenizer(document[:size], add_special_tokens=False, verbose=False)["input_ids"]
        if size >= len(document) or len(ids) > most + MARGIN:
            break
    return ids[:most]


def prefix_of(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer begins every text with, by default; none for most."""
    with border("the tokenizer cannot read a letter"):
        plain, whole = (list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (False, True))
    starts = range(len(whole) - len(plain) + 1)
    return whole[: next((start for start in starts if whole[start : start + len(plain)] == plain), 0)]


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
    with border(f"token file {path}: cannot be read"):
        if not path.is_file():
            raise SecateurError(f"token file {path}: there is no such file ({path.absolute()})")
        flat = np.load(path, mmap_mode="r", allow_pickle=False).reshape(-1)
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


def framed(text: Sequences, tokenizer: Any) -> Sequences:
    """A text for an encoder: its own first and last tokens around every window, in place of the window's."""
    ids, (first, last) = text.ids.clone(), _frame(text, tokenizer)
    if first:
        ids[:, 0] = tokenizer.cls_token_id
    if last < text.length:
        ids[:, -1] = tokenizer.sep_token_id
    return replace(text, ids=ids)


def _frame(text: Sequences, tokenizer: Any) -> tuple[int, int]:
    """Where a window's own tokens begin and end between those that an encoder's tokenizer puts around it."""
    first = 0 if tokenizer.cls_token_id is None else 1
    return first, text.length - (0 if tokenizer.sep_token_id is None else 1)


def masked(text: Sequences, tokenizer: Any, seed: int) -> Sequences:
    """A text for an encoder, `framed`, with 15 % of the other tokens masked.

    Every chosen token is masked; BERT's training also leaves or exchanges some, which a measurement does not need.

    Raises:
        SecateurError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise SecateurError("the model is an encoder, but its tokenizer has no mask token")
    rng = np.random.default_rng(seed)
    ids, targets = framed(text, tokenizer).ids, torch.full_like(text.ids, NOT_MASKED)
    first, last = _frame(text, tokenizer)
    count = max(1, round(MASKED_SHARE * (last - first)))
    for row in range(len(text)):
        places = torch.from_numpy(first + rng.permutation(last - first)[:count])
        targets[row, places] = ids[row, places]
        ids[row, places] = tokenizer.mask_token_id
    return replace(text, ids=ids, targets=targets)


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


def predicted(text: Sequences, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions scored,), and for every position (time,) the token to be predicted there or `NOT_MASKED`.

    A causal model is scored at every position, or those of `text.positions`, and predicts the next token, where there
    is one.
    """
    ids = text.ids[sequence]
    if text.targets is None:
        positions = torch.arange(len(ids)) if text.positions is None else text.positions[sequence]
        return positions, torch.cat([ids[1:], ids.new_full((1,), NOT_MASKED)])
    return (text.targets[sequence] != NOT_MASKED).nonzero().reshape(-1), text.targets[sequence]
