"""The dense model's answers on a text, computed once per sequence and kept on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..cache import cache_folder, digest, read_tensors, usable, write_tensors
from ..model.blocks import Blocks
from ..model.pooling import POOLINGS
from ..text import Sequences, predicted

TOP = 128
VERSION = 1
HEAD_ROWS = 256
"""Positions whose logits are held at once, where memory is scarce or small steps cost nothing."""
LOGITS_BYTES = 2**30
"""What logits and what is made of them may take elsewhere: three times float32 a token of the vocabulary."""


def rows_at_once(blocks: Blocks) -> int:
    """Positions that the head runs at together, where each small step costs a launch or a product of few rows."""
    return HEAD_ROWS if blocks.shelf is not None else max(HEAD_ROWS, LOGITS_BYTES // (12 * blocks.anatomy.vocabulary))


@dataclass(frozen=True, slots=True)
class Top:
    """Log-probabilities (time, k) of the dense model's k most likely tokens (time, k), and log tail mass (time,)."""

    log_probabilities: torch.Tensor
    tokens: torch.Tensor
    log_tail: torch.Tensor


@dataclass(frozen=True, slots=True)
class Scored:
    """Where a sequence is scored: positions (count,), and the tokens to be predicted there.

    Both are where the model is; the tokens are on the `host` too.
    """

    positions: torch.Tensor
    targets: torch.Tensor
    host: torch.Tensor


class Teacher:
    """The dense model on the sequences of a text: top tokens with tail mass, and the last hidden state.

    The full distribution is not stored: `hidden` through the head gives it back exactly; `keep_hidden` may be False
    where nobody asks for that, which for a wide model is most of what is kept. Must be asked while the model is dense
    unless the sequence has been asked before; `prepare` does that.
    """

    def __init__(
        self,
        blocks: Blocks,
        text: Sequences,
        model_digest: str,
        top: int = TOP,
        keep_hidden: bool = True,
        pooling: str = "mean",
    ) -> None:
        self.blocks, self.text, self._keep_hidden = blocks, text, keep_hidden
        self._pooling = POOLINGS[pooling]
        self._top = min(top, blocks.anatomy.vocabulary)
        folder = digest(VERSION, model_digest, text.digest, self._top, *([] if keep_hidden else ["no hidden"]))
        self._folder: Path = cache_folder() / "teachers" / folder
        self._known: dict[int, dict[str, torch.Tensor]] = {}
        self._scored: dict[int, Scored] = {}
        self._embeddings: dict[int, torch.Tensor] = {}

    def top(self, sequence: int) -> Top:
        """The most likely tokens at every position of a prepared sequence, by a dense model that has a head."""
        tensors = self._known[sequence]
        return Top(tensors["log_probabilities"], tensors["tokens"].long(), tensors["log_tail"])

    def hidden(self, sequence: int) -> torch.Tensor:
        """(1, time, hidden), what the last block of the dense model returned."""
        return self._known[sequence]["hidden"]

    def pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        """The embedding (hidden,) of a sequence, from what the last block returns for it, (1, time, hidden)."""
        return self._pooling(self.blocks.normed(hidden)[0].float())

    def embedding(self, sequence: int) -> torch.Tensor:
        """(hidden,), the dense model's of a sequence. The final norm is the same at every width of sublayers."""
        if sequence not in self._embeddings:
            self._embeddings[sequence] = self.pooled(self.hidden(sequence))
        return self._embeddings[sequence]

    def scored(self, sequence: int) -> Scored:
        """The positions of a sequence that are scored."""
        if sequence not in self._scored:
            with torch.inference_mode(False):  # whoever asks first, trainings may ask later
                positions, targets = predicted(self.text, sequence)
                wanted, device = targets[positions], self.blocks.device
                self._scored[sequence] = Scored(positions.to(device), wanted.to(device), wanted)
        return self._scored[sequence]

    def prepare(self, sequences: range) -> None:
        """Makes the answers for `sequences` available; the model must be dense."""
        paths = {one: self._folder / f"{one:05d}.safetensors" for one in sequences if one not in self._known}
        missing = [sequence for sequence, path in paths.items() if not usable(path)]
        wanted = iter(missing)
        for rows in self.blocks.groups(self.text.ids[missing]):
            for hidden, sequence in zip(self._last(rows), wanted, strict=False):
                write_tensors(paths[sequence], self._answers(hidden))
        device = self.blocks.device
        for sequence, path in paths.items():
            self._known[sequence] = {name: tensor.to(device) for name, tensor in read_tensors(path).items()}

    def forget(self, sequences: Iterable[int]) -> None:
        """Holds the answers for `sequences` no longer; they are still on disk."""
        for sequence in sequences:
            self._known.pop(sequence, None)
            self._scored.pop(sequence, None)
            self._embeddings.pop(sequence, None)

    def _last(self, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the last block returns for each row (time,) of ids."""
        hidden = [self.blocks.embed(row[None]) for row in rows]
        for index in range(len(self.blocks.modules)):
            for number, states in enumerate(hidden):
                hidden[number] = self.blocks.run(index, states)
        return hidden

    @torch.inference_mode()
    def _answers(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.blocks.anatomy.headless:
            return {"hidden": hidden.cpu()}
        parts = []
        for rows in torch.split(hidden, rows_at_once(self.blocks), dim=1):
            log_p = self.blocks.logits(rows).float().log_softmax(-1)
            top, tokens = log_p.topk(self._top, dim=-1)
            log_tail = log_p.scatter_(1, tokens, -torch.inf).logsumexp(1)
            parts.append((top, tokens.to(torch.int32), log_tail))
        found = (torch.cat(column) for column in zip(*parts, strict=True))
        answers = dict(zip(("log_probabilities", "tokens", "log_tail"), found, strict=True))
        if self._keep_hidden:
            answers["hidden"] = hidden
        return {name: tensor.cpu() for name, tensor in answers.items()}
