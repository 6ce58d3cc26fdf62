"""What is remembered of answers, against a memory that keeps every sequence by itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.search.memo import Remembered
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES
from secateur.space.question import Record, Status
from secateur.space.slopes import SLOPES, Slopes
from tests.tiny import ListJournal, TableEvaluator, drop_space

SPACE = drop_space(2)
GENOMES = tuple(SPACE.all())[:4]
RANGES = st.tuples(st.integers(0, 8), st.integers(1, 6)).map(lambda pair: range(pair[0], pair[0] + pair[1]))
QUERIES = st.lists(st.tuples(st.sets(st.sampled_from(GENOMES), min_size=1), RANGES), min_size=1, max_size=6)


class Parts:
    """Answers in several parts, as evaluators do; some subnets fail on some sequences."""

    def __init__(self, size: int, broken: Mapping[Genome, int]) -> None:
        self.table, self.size, self.broken = TableEvaluator(SPACE, noise=0.5), size, broken
        self.asked: list[tuple[Genome, int]] = []

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for genome in genomes:
            for start in range(sequences.start, sequences.stop, self.size):
                part = range(start, min(start + self.size, sequences.stop))
                self.asked += [(genome, index) for index in part]
                [answer] = self.table([genome], part)
                if self.broken.get(genome) in part:
                    yield replace(answer, status="failed", reason="broken", losses={})
                    break
                yield answer


@settings(max_examples=60)
@given(QUERIES, st.integers(1, 4), st.dictionaries(st.sampled_from(GENOMES), st.integers(0, 12)))
def test_losses_are_those_of_every_sequence_asked_once(
    queries: list[tuple[set[Genome], range]], size: int, broken: dict[Genome, int]
) -> None:
    asker, journal = Parts(size, broken), ListJournal()
    remembered = Remembered(SPACE, LOSSES, asker, journal)
    failed: set[Genome] = set()
    told: list[list[Evaluation]] = []
    for genomes, sequences in queries:
        told.append(remembered(tuple(genomes), sequences))
        for genome, answer in zip(genomes, told[-1], strict=True):
            assert (answer.genome, answer.sequences) == (genome, sequences)
            assert (answer.status == "failed") == (not answer.primary)
            if answer.status == "failed":
                failed.add(genome)
                continue
            assert broken.get(genome) not in sequences
            alone = [next(TableEvaluator(SPACE, noise=0.5)([genome], range(i, i + 1))).loss for i in sequences]
            assert list(answer.primary) == alone
            assert answer.tokens == 16 * len(sequences)
    whole = [pair for pair in asker.asked if pair[0] not in failed]
    assert len(set(whole)) == len(whole)
    # A run that goes on is told what this one was.
    again = Remembered(SPACE, LOSSES, Parts(size, {}), journal)
    for (genomes, sequences), answers in zip(queries, told, strict=True):
        for one, before in zip(again(tuple(genomes), sequences), answers, strict=True):
            if one.genome not in failed:
                assert (one.status, one.primary) == (before.status, before.primary)


def whole_only(genomes: Sequence[Genome], sequences: range) -> Iterator[Slopes]:
    for genome in genomes:
        rows = ((float(sequences.start), float(len(sequences))),)
        yield Slopes(genome, SPACE.key(genome), sequences, rows, rows, tokens=len(sequences))


@settings(max_examples=60)
@given(QUERIES)
def test_what_cannot_be_divided_is_told_again_as_it_was(queries: list[tuple[set[Genome], range]]) -> None:
    journal = ListJournal()
    remembered = Remembered(SPACE, SLOPES, whole_only, journal)
    told = [remembered(tuple(genomes), sequences) for genomes, sequences in queries]
    count = len(journal.answers(SLOPES))
    for (_, sequences), answers in zip(queries, told, strict=True):
        assert all(answer.sequences == sequences for answer in answers)
        assert all(answer.first[0][1] <= len(sequences) for answer in answers)
    [twice] = [[remembered(tuple(genomes), sequences) for genomes, sequences in queries]]
    assert len(journal.answers(SLOPES)) == count, "nothing is asked twice"
    assert [[one.tokens for one in some] for some in twice] == [[one.tokens for one in some] for some in told]


def test_a_later_failure_leaves_what_was_answered() -> None:
    def find(genomes: Sequence[Genome], sequences: range) -> Iterator[Slopes]:
        for slopes in whole_only(genomes, sequences):
            yield replace(slopes, first=(), second=(), reason="no room") if len(sequences) == 4 else slopes

    journal = ListJournal()
    [genome] = GENOMES[:1]
    for _ in range(2):
        memory = Remembered(SPACE, SLOPES, find, journal)
        assert [memory([genome], range(stop))[0].status for stop in (8, 4, 8)] == ["ok", "failed", "ok"]
    assert len(journal.answers(SLOPES)) == 2


@dataclass(frozen=True)
class Half:
    """Answers half of what it is asked."""

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        return TableEvaluator(SPACE)(genomes, range(sequences.start, sequences.start + len(sequences) // 2))


def test_who_answers_a_part_is_our_fault_and_no_number() -> None:
    remembered = Remembered(SPACE, LOSSES, Half(), ListJournal())
    with pytest.raises(AssertionError, match="answers on all sequences"):
        remembered(GENOMES[:2], range(8))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({}, "ok"),
        ([], "ok"),
        ({"losses": {"kl": [1.0]}, "costs": {}, "score": "kl"}, "ok"),
        ({"losses": {}, "costs": SPACE.dense_costs.to_json(), "score": ""}, "ok"),
        ({"losses": {"kl": [1, 2], "x": [1, 2]}, "costs": SPACE.dense_costs.to_json(), "score": "y"}, "ok"),
    ],
)
def test_what_is_no_evaluation_is_not_read_as_one(content: dict[str, object], status: Status) -> None:
    with pytest.raises((TypeError, ValueError)):
        LOSSES.read(Record(SPACE.dense, "key", range(2), content, status))


@pytest.mark.parametrize(
    ("status", "reason", "rows"), [("failed", "", [[1.0]]), ("ok", "why", []), ("ok", "", []), ("failed", "", [])]
)
def test_what_are_no_slopes_are_not_read_as_some(status: Status, reason: str, rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"slopes|status"):
        SLOPES.read(Record(SPACE.dense, "key", range(2), {"first": rows, "second": rows}, status, reason))
