"""DarwinLM (Tang et al. 2025, arXiv 2502.07780, sec. 3.3): EvoPress's loop with a short training in every stage.

As published: children by min(U{1..3}, U{1..3}) level switches, four stages, each of which trains its candidates and
scores them on more text. Differences: a survivor's training goes on from where the last stage ended (upstream begins
again from the untrained child in every stage, which takes more tokens for the same); what is pruned stays pruned
(upstream trains without masks); the parent competes in the last stage after the same training, as upstream means it.
Children may also race against it: who a stage shows to be worse is not trained any further.
"""

from collections.abc import Sequence
from itertools import pairwise

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ..strategy import Chain, Pool, Steps
from ..trained import whole
from .evopress import Mutation, Schedule, evopress

PUBLISHED = Schedule(200, 16, (8, 4, 2, 1), (1024, 2048, 4096, 8192))
"""Settings of the published script (commit 3596da3973)."""


def training_chains(tokens: Sequence[int], length: int) -> tuple[Chain, ...]:
    """What each stage adds to the training before it, from what candidates have been trained on by its end.

    Totals are whole sequences of `length` tokens, rounded up.

    Raises:
        SecateurError: a stage that trains less than the one before it.
    """
    totals = [whole(count, length) for count in tokens]
    if not tokens or tokens[0] < 1 or any(late <= early for early, late in pairwise(totals)):
        raise SecateurError(
            f"schedule.training: {', '.join(map(str, tokens))}; write rising numbers of tokens, "
            f"by a sequence of {length} or more"
        )
    added = tuple(late - early for early, late in pairwise([0, *totals]))
    return tuple(added[: stage + 1] for stage in range(len(added)))


def darwin(
    space: Space,
    pool: Pool,
    seed: int,
    schedule: Schedule,
    chains: Sequence[Chain],
    mutation: Mutation = "levels",
    fresh: bool = True,
    initial: Sequence[Genome] = (),
    risk: float | None = None,
) -> Steps:
    """Evolution by training-aware selection; `chains`: the training of each stage of `schedule`; `risk` as `evopress`.

    Raises:
        SecateurError: another number of stages, stages of less and less text in a race, or as `evopress`.
    """
    if len(chains) != len(schedule.tokens):
        raise SecateurError(f"schedule.training: {len(chains)} stages, but 'tokens' has {len(schedule.tokens)}")
    if risk is not None and list(schedule.tokens) != sorted(schedule.tokens):
        raise SecateurError("schedule.tokens: a race looks at no less text in a later stage; write rising numbers")
    return evopress(space, pool, seed, schedule, mutation, fresh, initial, risk, chains)
