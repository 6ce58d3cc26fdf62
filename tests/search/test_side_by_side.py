"""Searches carried out side by side come to what they come to one after the other, in fewer batches."""

from collections.abc import Generator

from hypothesis import given
from hypothesis import strategies as st

from secateur.search.loop import Spending, run
from secateur.search.memo import Memo
from secateur.search.race import race
from secateur.search.steps import AskTell, Batch, Steps, side_by_side
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from tests.tiny import ListJournal, TableEvaluator, drop_space

SPACE = drop_space(3)
Race = Generator[Batch, list[Evaluation], Evaluation | None]

races_of = st.lists(
    st.tuples(
        st.lists(st.tuples(*(st.integers(0, 1) for _ in SPACE.genes)), min_size=1, max_size=6, unique=True),
        st.sampled_from([(2, 4, 8), (4, 8), (8,)]),
    ),
    min_size=1,
    max_size=4,
)


def of(asked: list[tuple[list[tuple[int, ...]], tuple[int, ...]]]) -> list[Race]:
    def genomes(levels: list[tuple[int, ...]]) -> list[Genome]:
        return list(dict.fromkeys(SPACE.canonical(Genome(one)) for one in levels))

    return [race(genomes(levels), None, counts, 0.2) for levels, counts in asked]


@given(races_of)
def test_they_come_to_the_same_in_fewer_batches(
    asked: list[tuple[list[tuple[int, ...]], tuple[int, ...]]],
) -> None:
    evaluator = TableEvaluator(SPACE, interaction=0.1, noise=0.5)
    memo = Memo(SPACE, evaluator, ListJournal())
    batches: list[Batch] = []

    def carried(steps: Generator[Batch, list[Evaluation], object]) -> object:
        try:
            batch = next(steps)
            while True:
                batches.append(batch)
                batch = steps.send(memo(batch))
        except StopIteration as end:
            return end.value

    def told(found: object) -> list[tuple[Genome, tuple[float, ...]] | None]:
        assert isinstance(found, list)
        return [(one.genome, one.primary) if one is not None else None for one in found]

    alone = told([carried(steps) for steps in of(asked)])
    number = len(batches)
    assert told(carried(side_by_side(of(asked)))) == alone
    assert len(batches) - number <= number
    # None is on more sequences while somebody still waits on fewer, and nobody is asked twice in one.
    assert all(len(set(batch.genomes)) == len(batch.genomes) for batch in batches)


def test_what_all_ask_for_is_asked_once() -> None:
    first, second = (SPACE.dense.with_level(gene, 1) for gene in range(2))

    def one(genome: Genome) -> Race:
        told = yield Batch((genome, SPACE.dense), range(2))
        return told[0]

    sizes: list[int] = []

    def steps() -> Steps:
        found = yield from side_by_side([one(first), one(second), one(first)])
        assert [result.genome for result in found if result is not None] == [first, second, first]
        return first

    def evaluate(batch: Batch) -> list[Evaluation]:
        sizes.append(len(batch.genomes))
        return Memo(SPACE, TableEvaluator(SPACE), ListJournal())(batch)

    assert run(AskTell(steps()), evaluate, Spending(16)) == first
    assert sizes == [3]
