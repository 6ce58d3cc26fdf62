"""The loss around a subnet to second order: what levels of its genes would add, from one pass backwards.

A change of level changes weights by known amounts D. To first order the loss changes by the gradient's product with D;
curvature adds D's quadratic form with the Hessian, for which its diagonal stands, and for that the mean over tokens of
squared gradients (empirical Fisher; LeCun et al. 1989, "Optimal Brain Damage", for one weight at a time; Theis et al.
2018, arXiv 1801.05787, for Fisher in the Hessian's place). Weights of one linear that come or go together act in one
direction more often than not, so that the half of Taylor's series is too little: over changes by one and two levels of
SmolLM2 at 50 %, least squares gave 0.85 for the first order and 0.96 for the second without the half. So no half here.
`benchmarks.evaluation` says how well the sum correlates with scored changes.

Around the dense model a distance to it has no slope, and KL's Hessian is the Fisher matrix: there the squares are those
of gradients of the text's own log-likelihood (the empirical Fisher again), the first order is nothing, and the half is
right (`benchmarks.prices`).

What drops or narrows a sublayer is in `cuts`. For a linear y = W x, gradient g at y of one token: the gradient of W is
g x^T and its square, elementwise, the outer product of the squares, so that both sums over tokens are one product of
matrices each, and no gradient of a weight is ever stored: what leaves a linear is one number for each gene and level.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch

from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.scores import SCORES
from ..space.slopes import PASSES, Slopes
from ..space.space import Space
from .cuts import Cuts, Note, Watch, cuts_of
from .evaluator import aligned
from .faults import CANDIDATE_ERRORS, Batches
from .memory import batch_size
from .model.blocks import unpacked
from .scores.built_in import mean_losses
from .scores.teacher import Teacher
from .subnets.subnet import Subnet, pointed
from .text import predicted
from .zeros.level_store import as_matrix

REACH = 4
"""How many levels to either side are looked at: the estimate is a local one."""

Sums = dict[tuple[int, int], torch.Tensor]
"""For (gene, level) what both orders have come to so far, (2,) float64, on the model's device: nothing waits for it."""
Moves = dict[tuple[int, int], list[tuple[int, int]]]
"""For (block, position of a linear in it) the (gene, level) that change it."""


class SubnetSlopes:
    """Slopes of genomes of `space` in one of the `DIFFERENTIABLE` scores, on the teacher's text.

    The model is dense before and after. Of zeros, up to `REACH` levels to either side, around the dense model all; of
    what drops and narrows sublayers, all that cut more.
    """

    def __init__(self, space: Space, subnet: Subnet, teacher: Teacher, score: str) -> None:
        if score not in SCORES or not SCORES[score].slopes:
            names = [name for name, entry in SCORES.items() if entry.slopes]
            raise SecateurError(f"slopes of '{score}'; there are some of {' and '.join(names)}")
        self.space, self.subnet, self.teacher, self.score = space, subnet, teacher, score
        device = teacher.blocks.device
        self._batches = Batches(batch_size(teacher.text.length, device.type != "cpu"), device)

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Slopes]:
        """What every level in reach adds to each one's mean loss over `sequences`; where that fails, why."""
        for genome in genomes:
            yield self._around(genome, sequences)

    def _around(self, genome: Genome, sequences: range) -> Slopes:
        started = time.perf_counter()
        self.teacher.prepare(sequences)
        moves, cuts = self._moves(genome), cuts_of(self.space, genome)
        known = {move for some in moves.values() for move in some} | set(enumerate(genome.levels))
        reason, done = "", False
        while not done:
            sums: Sums = {}
            try:
                with self.subnet:
                    self.subnet.apply(self.space.states(genome))
                    for batch in aligned(sequences, self._batches.size):
                        self._add(genome, batch, moves, cuts, sums)
                done = True
            except CANDIDATE_ERRORS as error:
                reason, done = f"{type(error).__name__}: {error}"[:500], True
            except (MemoryError, RuntimeError) as error:
                self._batches.smaller(error, len(sequences))
        count = len(sequences)
        known |= sums.keys()
        first = [[math.nan] * len(gene.levels) for gene in self.space.genes]
        second = [row.copy() for row in first]
        for gene, level in known:
            first[gene][level] = second[gene][level] = 0.0
        at_dense = self._at_dense(genome)
        for (gene, level), pair in _on_host(sums).items():
            first[gene][level], second[gene][level] = (0.0, pair[1] / 2) if at_dense else pair
        if not reason and not all(math.isfinite(first[gene][level] + second[gene][level]) for gene, level in known):
            reason = "slopes are not finite"
        return Slopes(
            genome=genome,
            key=self.space.key(genome),
            sequences=sequences,
            first=() if reason else tuple(tuple(value / count for value in row) for row in first),
            second=() if reason else tuple(tuple(value / count for value in row) for row in second),
            reason=reason,
            tokens=count * self.teacher.text.length * PASSES,
            seconds=time.perf_counter() - started,
        )

    def _at_dense(self, genome: Genome) -> bool:
        """Whether the score has no slope there."""
        return SCORES[self.score].distance and genome == self.space.dense and self.space.base is None

    def _moves(self, genome: Genome) -> Moves:
        """Which levels in reach change which linears."""
        active, moves = self.space.active(genome), Moves()
        states = self.space.states(genome)
        for index, gene in enumerate(self.space.genes):
            if not gene.treatments or not active[index]:
                continue
            own, reach = genome.levels[index], len(gene.levels) if self._at_dense(genome) else REACH
            for level in range(max(0, own - reach), min(len(gene.levels), own + reach + 1)):
                if level == own:
                    continue
                changed = self.space.states(self.space.canonical(genome.with_level(index, level)))
                for block in {block for block, _ in gene.members}:
                    for position, linear in enumerate(self.space.anatomy.blocks[block].matrices):
                        if states[block].level(linear.name) != changed[block].level(linear.name):
                            moves.setdefault((block, position), []).append((index, level))
        return moves

    def _add(self, genome: Genome, batch: range, moves: Moves, cuts: Cuts, sums: Sums) -> None:
        """Adds what one batch of sequences says, with all its sequences in one forward and one backward pass."""
        blocks, text = self.teacher.blocks, self.teacher.text
        score = "cross_entropy" if self._at_dense(genome) else self.score
        counts = [len(predicted(text, sequence)[0]) for sequence in batch]
        scale = torch.tensor(counts, dtype=torch.float32, device=blocks.device)[:, None, None]
        embedded: list[torch.Tensor] = []

        def begin(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            embedded.append(output.requires_grad_())  # here gradients begin: no weight needs any

        def note(move: tuple[int, int], pair: torch.Tensor) -> None:
            sums[move] = sums[move] + pair if move in sums else pair

        watch = Watch(self.space, self.subnet, self.space.states(genome), cuts, scale, note)
        model: Any = blocks.model
        hooks = [model.get_input_embeddings().register_forward_hook(begin)]
        try:
            hooks += watch.hooks(blocks.modules)
            for (block, position), some in moves.items():
                told = self._contraction(genome, block, position, some, scale, note)
                if (module := self._multiplying(block, position)) is not None:
                    hooks.append(module.register_forward_hook(told))
            with torch.enable_grad(), unpacked():
                ids = text.ids[batch.start : batch.stop].to(blocks.device)
                logits = model(input_ids=ids, use_cache=False).logits
                losses = [
                    loss
                    for row, sequence in zip(logits, batch, strict=True)
                    for loss in mean_losses([score], row, sequence, self.teacher)
                ]
                watch.passed()
                [gradient] = torch.autograd.grad(torch.stack(losses).sum(), embedded)
        finally:
            for hook in hooks:
                hook.remove()
        for (block, position), some in moves.items():
            if self._is_embedding(block, position):
                self._looked_up(genome, (block, position), some, (ids, embedded[0].detach(), gradient), scale, note)

    def _is_embedding(self, block: int, position: int) -> bool:
        anatomy = self.space.anatomy
        return f"{anatomy.matrix_name(block, position)}.weight" == anatomy.embedding

    def _multiplying(self, block: int, position: int) -> Any:
        """The module that multiplies with a matrix: a tied head's for an embedding; None where there is none."""
        anatomy, model = self.space.anatomy, cast(Any, self.teacher.blocks.model)
        if self._is_embedding(block, position):
            return model.get_output_embeddings() if anatomy.tied else None
        return model.get_submodule(anatomy.matrix_name(block, position))

    def _looked_up(
        self,
        genome: Genome,
        place: tuple[int, int],
        moves: list[tuple[int, int]],
        seen: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        scale: torch.Tensor,
        note: Note,
    ) -> None:
        """Adds the products of gradients with what each of `moves` changes of what the embedding hands on.

        `seen`: ids, what it has handed on, and the gradients there, (sequences, time) and (sequences, time, hidden).
        """
        ids, output, gradient = seen
        model, space = cast(Any, self.teacher.blocks.model), self.space
        g = gradient.float()
        for gene, level in moves:
            state = space.states(space.canonical(genome.with_level(gene, level)))[place[0]]
            other = self.subnet.weights.linear(*place, state)
            with torch.no_grad(), pointed(model, {space.anatomy.embedding: other}):
                change = model.get_input_embeddings()(ids).float() - output.float()
            pair = torch.stack([(g * change).sum(), (g.square() * scale * change.square()).sum()]).double()
            note((gene, level), pair)

    def _contraction(
        self,
        genome: Genome,
        block: int,
        position: int,
        moves: list[tuple[int, int]],
        scale: torch.Tensor,
        note: Note,
    ) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        """A hook on a linear that adds the products of its gradients with what each of `moves` changes.

        `scale`: positions that each sequence of the batch is scored at, (sequences, 1, 1).
        """
        linear = self.space.anatomy.blocks[block].matrices[position]
        weights, space = self.subnet.weights, self.space

        def forward(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            # Some families hand their linears (sequences * time, features).
            x = inputs[0].detach().float().reshape(len(scale), -1, inputs[0].shape[-1])

            def backward(gradient: torch.Tensor) -> None:
                # Rows of a sequence are gradients of its mean: times its positions, those of one position.
                g = gradient.float().reshape(len(scale), -1, gradient.shape[-1])
                total = torch.einsum("sto,sti->oi", g, x)
                squares = torch.einsum("sto,sti->oi", g.square() * scale, x.square())
                own = as_matrix(linear, weights.linear(block, position, space.states(genome)[block])).float()
                for gene, level in moves:
                    state = space.states(space.canonical(genome.with_level(gene, level)))[block]
                    change = as_matrix(linear, weights.linear(block, position, state)).float() - own
                    pair = torch.stack([(total * change).sum(), (squares * change.square()).sum()]).double()
                    note((gene, level), pair)

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        return forward


def _on_host(sums: Sums) -> dict[tuple[int, int], tuple[float, float]]:
    """All numbers, brought to the host at once."""
    if not sums:
        return {}
    rows = torch.stack(list(sums.values())).cpu().tolist()
    return {key: (first, second) for key, (first, second) in zip(sums, rows, strict=True)}
