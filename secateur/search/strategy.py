"""What a strategy is to a recipe: settings, what it refuses, what it takes, and its steps, all in one class."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from ..space.settings import Settings
from .problem import Problem
from .steps import Steps


class Swept(NamedTuple):
    """A sweep of single changes: on how many sequences, and how many levels of each gene (None: all)."""

    sequences: int
    anchors: int | None


class Strategy(Settings):
    """The section `strategy` of a recipe, and what it means.

    A subclass adds settings as fields, and `steps`; the rest has defaults for a strategy that starts from nothing. One
    line in `strategies/table.py` makes recipes know it.

    Attributes:
        name: by which a recipe asks for it.
        ends: whether it comes to an end that does not depend on what it may spend.
        libraries: those whose versions decide what it does, so that another version of them cannot go on with a run.
        revision: goes up whenever it decides otherwise than before, so that no run of before is replayed by it;
            `tests/search/test_revisions.py` finds out when that is.
    """

    name: str
    ends: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ()
    revision: ClassVar[int] = 1

    def check(self, problem: Problem) -> None:
        """Refuses what cannot be searched, before any work.

        Raises:
            SecateurError: it cannot run on this space, this text, or with these tokens.
        """

    def expected(self, problem: Problem) -> int | None:
        """About how many tokens it takes where its tokens are not limited; None when only running it can tell."""
        evaluations, compared = problem.allowance.evaluations, self.compared()
        if self.ends or evaluations is None or compared is None:
            return None
        return evaluations * compared * problem.pool.tokens_per_sequence

    @abstractmethod
    def steps(self, problem: Problem) -> Steps:
        """The search, for a problem that `check` has nothing against."""

    # What the rest of a run asks of it.

    def start_names(self) -> tuple[str, ...]:
        """Names of rules and plan files whose genomes it starts from."""
        return ()

    def compared(self) -> int | None:
        """On how many sequences it compares all genomes; None where that depends."""
        return None

    def swept(self) -> Swept | None:
        """Its sweep of single changes; None where it has none."""
        return None

    def warming(self) -> "Strategy | None":
        """The settings of a strategy that it runs first, where the recipe has some."""
        return None

    def descends(self) -> bool:
        """Whether it asks for slopes, for which models are passed backwards, where there are some."""
        return False

    def trained(self) -> tuple[int, ...]:
        """What its candidates have been trained on by the end of each of its stages, in tokens; empty: they are not."""
        return ()

    @classmethod
    def beside(cls, name: str, compared: int, sweep: Swept) -> "Strategy":
        """As the baseline `name` of a search that compares on `compared` sequences and sweeps as `sweep`.

        It takes over what it has settings for; whoever sets `anchors` sweeps.
        """
        sequences = sweep.sequences if "anchors" in cls.model_fields else compared
        values = {"name": name, "sequences": sequences, "anchors": sweep.anchors}
        return cls.model_validate({key: value for key, value in values.items() if key in cls.model_fields})
