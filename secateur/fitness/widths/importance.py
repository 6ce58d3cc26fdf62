"""Statistics of the dense model that published baselines go by."""

from dataclasses import dataclass

import torch

from ..model.blocks import Blocks
from ..text import Sequences
from ..zeros.level_store import as_matrix
from ..zeros.preparation import block_statistics

OWL_THRESHOLD = 5.0


@dataclass(frozen=True, slots=True)
class Importance:
    """Of the blocks of a dense model on a text.

    Attributes:
        influence: ShortGPT's block influence, 1 - cos(input, output) averaged over tokens (Men et al. 2024,
            arXiv 2403.03853, eq. 1); low is unimportant.
        angular: `angular[n][start]` is the angular distance in [0, 1] between the input of block `start` and that of
            block `start + n`, at the last token (Gromov et al. 2024, arXiv 2403.17887, eq. 7).
        outliers: OWL's share of weights whose Wanda score exceeds five times the block's mean (Yin et al. 2023,
            arXiv 2310.05175, sec. 3.2).
    """

    influence: tuple[float, ...]
    angular: tuple[tuple[float, ...], ...]
    outliers: tuple[float, ...]


@torch.inference_mode()
def importance(blocks: Blocks, text: Sequences, sequences: int, outliers: bool) -> Importance:
    """Measures the dense model on the first `sequences` of `text`; `outliers` only when wanted, as it costs a pass."""
    hidden = [blocks.embed(row[None]) for row in text.ids[:sequences]]
    count = len(blocks.modules)
    influence, shares, lasts = [], [], [_last(hidden)]
    for index in range(count):
        if outliers:
            shares.append(_outlier_share(blocks, index, hidden))
        after = [blocks.run(index, states) for states in hidden]
        influence.append(1 - _cosines(hidden, after).mean().item())
        lasts.append(_last(after))
        hidden = after
    angular = tuple(
        tuple(_angle(_cosines(lasts[start], lasts[start + n])) for start in range(count - n + 1))
        for n in range(count + 1)
    )
    return Importance(tuple(influence), angular, tuple(shares))


def _last(hidden: list[torch.Tensor]) -> list[torch.Tensor]:
    """The last token of each sequence; nothing else is held by it."""
    return [states[:, -1:].clone() for states in hidden]


def _cosines(first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
    """Of every token."""
    a, b = (torch.cat([one[0] for one in states]).float() for states in (first, second))
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def _angle(cosines: torch.Tensor) -> float:
    return float((torch.arccos(cosines.clamp(-1, 1)) / torch.pi).mean())


def _outlier_share(blocks: Blocks, index: int, hidden: list[torch.Tensor]) -> float:
    block = blocks.anatomy.blocks[index]
    statistics = block_statistics(blocks, block, hidden, gram=False)
    scores = []
    for linear in block.linears:
        weight = as_matrix(linear, blocks.dense(index)[f"{linear.name}.weight"]).float()
        scores.append((weight.abs() * statistics[linear.name].square_sum.sqrt().float()).reshape(-1))
    every = torch.cat(scores)
    return float((every > OWL_THRESHOLD * every.mean()).float().mean())
