"""Strategies on SmolLM2 at equal tokens and equal sizes: nine settings; against EvoPress to its end; parts of ours.

The settings are three sizes each of `equal` (as many attention sublayers as MLPs are dropped), `depth` (sublayers in
any mix, with the block parameters of that) and `sparsity` (zeros). The reference is `evopress` as published, scaled to
this model and these tokens (`token_runs.strategy_of`), which decides as the original does
(`tests/search/test_evopress_trace.py`), with its own mutation, start and fresh minibatches, and of sparsity levels of
as many weights in every linear. All others are started by recipes that a user would write, with 100,352 tokens.

A seed is that of all searches and of their text, a Wikipedia's. Answers are judged on four domains that nobody
calibrates on. Every row says what the answers really cost; where two of a row are further apart than 0.2 % of the dense
model, the row is marked and does not count. What is in benchmarks/results/tokens is not run again; remove a file to
have it made anew. Runs one after the other; for both cores start it twice with different seeds. What is left out of the
command stands for all of its kind: actions, parts, seeds.

    python -m benchmarks.tokens [run|report] [reference|strategies|parts] [SEED ...]
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import ttest_rel

from benchmarks.setup import console, paired, shown, table_of
from benchmarks.token_runs import (
    BLOCKS,
    EQUAL,
    ONLY,
    OTHERS,
    OURS,
    REFERENCE,
    ROOT,
    TARGETS,
    Curve,
    Judge,
    curve_of,
    searched,
)
from secateur.space.genome import Genome
from secateur.space.space import Space

SEEDS = (0, 1, 2)
SAME = 0.002
"""Of the dense model's, how far the costs of two answers may be apart that are compared."""
SHOWN = 4
"""Incumbents of the reference at which both are compared, evenly from its first to its last before ours has ended."""
VARIANTS = {
    "whole": {},
    "without sweep and path": {"sweeping": False},
    "without the model of the loss": {"modelling": False},
    "without racing": {"racing": False},
}
SETTINGS = tuple((kind, removed) for kind, targets in TARGETS.items() for removed in targets)


def named(kind: str, removed: float) -> str:
    """A setting in words."""
    if kind == "sparsity":
        return f"{removed:.0%} zeros"
    return f"{removed:g} + {removed:g} of {BLOCKS}" if kind == "equal" else f"parameters of {removed:g} + {removed:g}"


def at(curve: Curve, tokens: int) -> Genome | None:
    """The incumbent after so many tokens; None: there was none."""
    return next((genome for spent, _, genome in reversed(curve) if spent <= tokens), None)


def cost(space: Space, kind: str, genome: Genome) -> float:
    """What the budget is on, as a share of dense: block parameters, or weights that are not zero."""
    name = "linear_weights" if kind == "sparsity" else "block_parameters"
    return float(getattr(space.costs(genome), name) / getattr(space.dense_costs, name))


def sides(space: Space, kind: str, genome: Genome) -> str:
    """What an answer keeps: how many attention sublayers and MLPs, or the share of weights of each."""
    share = f"{cost(space, kind, genome):.2%}"
    if kind == "sparsity":
        return share
    states = space.states(genome)
    counts = [
        sum(state.has(block.sublayers[which]) for block, state in zip(space.anatomy.blocks, states, strict=True))
        for which in (0, 1)
    ]
    return f"{share} ({counts[0]} + {counts[1]})"


class Compared:
    """Our answers and the reference's to one setting and seed, judged on the same text."""

    def __init__(self, kind: str, removed: float, seed: int, mine: Curve, theirs: Curve) -> None:
        self.kind, self.mine, self.theirs = kind, mine, theirs
        equal = [point for point in theirs if point[0] <= mine[-1][0]]
        self.points = [equal[index] for index in np.unique(np.linspace(0, len(equal) - 1, SHOWN).astype(int))]
        self.ours = Judge(kind, removed, seed, OURS)
        self.other = Judge(kind, removed, seed, REFERENCE)
        self.other.judge([theirs[-1][2], *(genome for _, _, genome in self.points)])
        self.ours.judge([genome for _, _, genome in mine])

    def difference(self, mine: Genome, theirs: Genome) -> tuple[list[float], list[float]]:
        """Losses of both, sequence by sequence."""
        return self.ours.all(mine), self.other.all(theirs)

    def same_size(self, mine: Genome, theirs: Genome) -> bool:
        """Whether their costs may be compared."""
        own, other = cost(self.ours.space, self.kind, mine), cost(self.other.space, self.kind, theirs)
        return abs(own - other) <= SAME

    def behind(self) -> tuple[int, int, int]:
        """At how many points of the reference's curve ours had no answer, was worse by more than the interval, and how
        many there are."""
        early = worse = 0
        for tokens, _, genome in self.points:
            mine = at(self.mine, tokens)
            if mine is None:
                early += 1
            elif mine != genome and ttest_rel(*self.difference(mine, genome)).confidence_interval().low > 0:
                worse += 1
        return early, worse, len(self.points)

    def reached(self) -> int | None:
        """Tokens after which ours was first as good as the reference's last answer."""
        final = self.other.loss(self.theirs[-1][2])
        return next((tokens for tokens, _, genome in self.mine if self.ours.loss(genome) <= final), None)


def against_reference(seeds: Sequence[int]) -> None:
    """The table of ours and the reference, a row a setting and seed, and what it comes to."""
    counted: list[tuple[bool, int, int, int, bool, bool]] = []

    def rows() -> Iterator[tuple[str, ...]]:
        for kind, removed in SETTINGS:
            for seed in seeds:
                mine, theirs = (curve_of(name, kind, removed, seed) for name in (OURS, REFERENCE))
                if mine is None or theirs is None:
                    console.print(f"{named(kind, removed)}, seed {seed}: has not been run")
                    continue
                both = Compared(kind, removed, seed, mine, theirs)
                own, last, then = mine[-1][2], theirs[-1][2], at(theirs, mine[-1][0])
                same = both.same_size(own, last)
                early, worse, points = both.behind()
                reached = both.reached()
                ends, equal = both.difference(own, last), both.difference(own, then) if then is not None else None
                ahead = equal is None or ttest_rel(*equal).confidence_interval().high < 0
                counted.append((same, early, worse, points, ahead, ttest_rel(*ends).confidence_interval().low > 0))
                yield (
                    named(kind, removed) + ("" if same else " (sizes differ: not counted)"),
                    str(seed),
                    f"{mine[-1][1]:,} / {mine[-1][0]:,}",
                    sides(both.ours.space, kind, own),
                    f"{both.ours.loss(own):.4f}",
                    f"{theirs[-1][1]:,} / {theirs[-1][0]:,}",
                    sides(both.other.space, kind, last),
                    f"{both.other.loss(last):.4f}",
                    paired(*equal) if equal is not None else "no answer yet",
                    paired(*ends),
                    f"{reached:,}" if reached is not None else "never",
                    f"{early} without an answer, {worse} worse, of {points}",
                )

    headings = ["setting", "seed", "ours: evaluations / tokens", "keeps (attention + MLP)", "KL"]
    headings += ["evopress: evaluations / tokens", "keeps", "KL", "ours minus evopress at as many tokens"]
    headings += ["ours minus evopress's last", "ours: tokens to evopress's last KL", "ours at evopress's answers"]
    table = table_of("Ours and EvoPress as published; KL on four domains, paired 95 % intervals", headings, rows())
    fair = [one for one in counted if one[0]]
    _, early, worse, points, ahead, behind = (sum(column) for column in zip(*fair, strict=True)) if fair else [0] * 6
    said = (
        f"Of {len(counted)} pairs {len(fair)} are of one size. After as many tokens ours is better by more than the "
        f"interval in {ahead} of these; at {points} answers of the reference until then it had none yet at {early} and "
        f"was worse by more than the interval at {worse}. Evopress's last answer, after more tokens, is better than "
        f"ours by more than the interval in {behind}."
    )
    shown(ROOT / "reference.md", table, said)


def all_strategies(seeds: Sequence[int]) -> None:
    """Held-out KL of every strategy's answer after as many tokens, by setting: the mean over seeds, and of how many."""
    names = (OURS, *OTHERS, REFERENCE)

    def rows() -> Iterator[tuple[str, ...]]:
        for name in names:
            cells = []
            for kind, removed in SETTINGS:
                found = []
                for seed in seeds:
                    curve = curve_of(name, kind, removed, seed) if kind in ONLY.get(name, TARGETS) else None
                    genome = at(curve, EQUAL) if curve is not None else None
                    if genome is not None:
                        judge = Judge(kind, removed, seed, name)
                        found.append((judge.loss(genome), cost(judge.space, kind, genome)))
                losses, costs = [loss for loss, _ in found], [share for _, share in found]
                cells.append(f"{np.mean(losses):.4f} at {np.mean(costs):.2%} ({len(found)})" if found else "-")
            yield name, *cells

    headings = ["strategy", *(named(kind, removed) for kind, removed in SETTINGS)]
    title = f"KL on four domains after {EQUAL:,} tokens, at what is kept (seeds)"
    shown(ROOT / "strategies.md", table_of(title, headings, rows()))


def parts(seeds: Sequence[int]) -> None:
    """What parts of ours are worth at 7 + 7 dropped sublayers' parameters, and three sizes searched in one run."""
    [middle] = [removed for removed in TARGETS["depth"] if removed == 7]
    sizes = TARGETS["depth"]

    def rows() -> Iterator[tuple[str, ...]]:
        for seed in seeds:
            judge = Judge("depth", middle, seed)
            for name, changes in VARIANTS.items():
                [curve] = searched([middle], seed, name, EQUAL, **changes)
                yield name, str(seed), f"{curve[-1][1]:,} / {curve[-1][0]:,}", f"{judge.loss(curve[-1][2]):.4f}"
            together = searched(sizes, seed, "together", 2 * EQUAL)
            alone = [searched([one], seed, "whole", EQUAL)[0] for one in sizes]
            for name, curves, tokens in (
                ("three sizes in one run", together, together[0][-1][0]),
                ("three runs", alone, sum(curve[-1][0] for curve in alone)),
            ):
                losses = " ".join(f"{judge.loss(curve[-1][2]):.4f}" for curve in curves)
                yield name, str(seed), f"{tokens:,} tokens", losses

    headings = ["", "seed", "evaluations / tokens", "KL on four domains"]
    shown(ROOT / "parts.md", table_of("Parts of our search, sublayers dropped in any mix", headings, rows()))


def run(part: str, seed: int) -> None:
    names = {"reference": (OURS, REFERENCE), "strategies": (*OTHERS,), "parts": ()}[part]
    for kind, removed in SETTINGS:
        for name in names:
            if kind in ONLY.get(name, TARGETS):
                curve_of(name, kind, removed, seed, running=True)
    if part == "parts":
        for name, changes in VARIANTS.items():
            searched([7], seed, name, EQUAL, **changes)
        searched(TARGETS["depth"], seed, "together", 2 * EQUAL)
        for one in TARGETS["depth"]:
            searched([one], seed, "whole", EQUAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reports: dict[str, Callable[[Sequence[int]], None]]
    reports = {"reference": against_reference, "strategies": all_strategies, "parts": parts}
    choices = ("run", "report", *reports)
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"of {', '.join(choices)}, and seeds")
    words = parser.parse_args().words
    unknown = [word for word in words if word not in choices and not word.isdigit()]
    if unknown:
        parser.error(f"{unknown[0]!r} is no seed and none of {', '.join(choices)}")
    seeds = sorted({int(word) for word in words if word.isdigit()}) or SEEDS
    for part in [part for part in reports if part in words] or reports:
        if "report" not in words:
            for seed in seeds:
                run(part, seed)
        if "run" not in words:
            reports[part](seeds)


if __name__ == "__main__":
    main()
