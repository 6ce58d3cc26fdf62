"""What happened: an SQLite file to which rows are only ever added, one transaction an evaluation."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import TypeAdapter

from ...files import is_name
from ...space.costs import Costs
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation, Status
from ...space.genome import Genome
from ...space.slopes import Slopes
from .database import Database
from .facts import PROVENANCE, SLOPES, Fact, check_fact

Shape = TypeVar("Shape")
CALIBRATION, FOUND = "calibration", "found"
"""The name of the calibration text, and of the choice that the search asked for has made."""
HELD_OUT_SCORES = ("kl", "cross_entropy")
"""What every subnet is scored by on text that is held out."""
MEMBER = "front-"
"""How the names of a front's members begin."""
UNTRAINED = "untrained"
"""The name of the choice that the search would have made had it trained nothing."""
_LEVELS, _LOSSES, _COSTS = TypeAdapter(list[int]), TypeAdapter(dict[str, list[float]]), TypeAdapter(dict[str, int])
_INCUMBENT = TypeAdapter(list[int] | None)


def trained_text(text: str, chain: Sequence[int]) -> str:
    """Under which name evaluations on a text are kept of subnets that were trained in these stages."""
    return f"{text}, trained on {' + '.join(f'{tokens:,}' for tokens in chain)} tokens"


@dataclass(frozen=True, slots=True)
class Choice:
    """A genome that a search or a rule settled on, and what it spent."""

    name: str
    genome: Genome
    tokens: int
    evaluations: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Turn:
    """The incumbent of a search after some spending."""

    search: str
    tokens: int
    evaluations: int
    incumbent: Genome | None


class Journal:
    """The record of a run. Opening checks it; everything in it survives a kill at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = Database(path)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    # -- facts -----------------------------------------------------------------------------------------------------

    def of(self, fact: Fact[Shape], about: str = "") -> Shape | None:
        """A fact, about something where there are several; None when it was not noted.

        Raises:
            SecateurError: it is damaged.
        """
        found = [value for _, value in self._facts("name = ?", (fact.key(about),))]
        return cast(Shape, found[0]) if found else None

    def known(self, fact: Fact[Shape], about: str = "") -> Shape:
        """A fact that every run that has begun notes.

        Raises:
            SecateurError: this one has not, or it is damaged.
        """
        found = self.of(fact, about)
        if found is None:
            raise self._database.damaged(f"the fact '{fact.name}' is missing")
        return found

    def all(self, fact: Fact[Shape], about: str = "") -> dict[str, Shape]:
        """The facts of a family, by what they are about, if that begins with `about`; in the order of noting."""
        prefix = f"{fact.name} {about}"
        found = self._facts("substr(name, 1, ?) = ?", (len(prefix), prefix))
        return {key.removeprefix(f"{fact.name} "): cast(Shape, value) for key, value in found}

    def _facts(self, where: str, values: tuple[Any, ...]) -> list[tuple[str, Any]]:
        found = []
        for name, text in self._database.rows("facts", where, values):
            try:
                value = json.loads(text)
            except (TypeError, ValueError, RecursionError) as error:
                raise self._database.damaged(f"the fact '{str(name)[:80]}' is no JSON") from error
            check_fact(str(name), value, f"journal {self._path}")
            found.append((str(name), value))
        return found

    def note(self, fact: Fact[Shape], value: Shape, about: str = "", what: str = "") -> None:
        """Notes a fact, or compares it with the one noted; `what`: how a message calls it, if not as its family does.

        Raises:
            SecateurError: another one is noted.
        """
        key, now = fact.key(about), json.loads(json.dumps(value))
        noted = [value for _, value in self._facts("name = ?", (key,))]
        if not noted:
            self._database.add("facts", (key, json.dumps(value)))
        elif noted[0] != now:
            what = what or fact.what.replace("{about}", about)
            raise SecateurError(
                f"{what} is not what this run began with ({difference(noted[0], now)}); start a new run"
            )

    # -- rows ------------------------------------------------------------------------------------------------------

    def append(self, text: str, provenance: str, evaluation: Evaluation) -> None:
        """Adds one evaluation; it is on disk when this returns.

        Raises:
            SecateurError: the disk is full or cannot be written; what was there before is intact.
        """
        row = (
            text,
            provenance,
            evaluation.key,
            json.dumps(evaluation.genome.levels),
            evaluation.sequences.start,
            evaluation.sequences.stop,
            json.dumps(_decisive_first(evaluation)),
            json.dumps(evaluation.costs.to_json()),
            evaluation.status,
            evaluation.reason,
            evaluation.tokens,
            evaluation.layer_passes,
            evaluation.seconds,
        )
        self._database.add("evaluations", row)

    def evaluations(self, text: str | None = None) -> Iterator[tuple[str, Evaluation]]:
        """(text, evaluation) in the order in which they were made; of one text or of all."""
        for row in self._database.rows("evaluations", "? IS NULL OR text = ?", (text, text), "id"):
            try:
                yield _evaluation(*row)
            except (TypeError, ValueError, OverflowError) as error:
                raise self._database.damaged(f"an evaluation on '{str(row[0])[:80]}' is none") from error

    def append_slopes(self, text: str, slopes: Slopes) -> None:
        """Adds what was found around a genome, unless it is there."""
        values = asdict(slopes) | {"sequences": [slopes.sequences.start, slopes.sequences.stop]}
        values |= {"genome": slopes.genome.levels}
        for name in ("first", "second"):
            values[name] = [[None if math.isnan(value) else value for value in row] for row in values[name]]
        about = f"{text} {slopes.key} {slopes.sequences.start}-{slopes.sequences.stop}"
        self._database.add("facts", (SLOPES.key(about), json.dumps(values)), once=True)

    def slopes(self, text: str) -> Iterator[Slopes]:
        """Everything found around genomes on a text, in the order in which it was."""
        for values in self.all(SLOPES, f"{text} ").values():
            tables = {
                name: tuple(tuple(math.nan if value is None else value for value in row) for row in rows)
                for name, rows in (("first", values["first"]), ("second", values["second"]))
            }
            genome, sequences = Genome(tuple(values["genome"])), range(*values["sequences"])
            yield Slopes(
                genome,
                values["key"],
                sequences,
                tables["first"],
                tables["second"],
                values["reason"],
                values["tokens"],
                values["seconds"],
            )

    def view(self, text: str, provenance: Mapping[str, Any], digest: str) -> "TextJournal":
        """The journal of one text, as `search.memo` wants it; settles the text's provenance."""
        self.note(PROVENANCE, {"digest": digest, **provenance}, text)
        return TextJournal(self, text, digest)

    def choose(self, choice: Choice) -> None:
        """Notes a choice once; a resumed run that comes to the same point finds it there.

        Raises:
            SecateurError: it has come to another point, so that replay is not what it should be.
        """
        noted = self.choices().get(choice.name)
        if noted is not None and noted.genome != choice.genome:
            raise SecateurError(f"journal {self._path}: replay of '{choice.name}' gave another plan; start a new run")
        if noted is None:
            levels = json.dumps(choice.genome.levels)
            self._database.add("choices", (choice.name, levels, choice.tokens, choice.evaluations, choice.seconds))

    def choices(self) -> dict[str, Choice]:
        """By name, in the order in which they were made."""
        found = {}
        for name, genome, tokens, evaluations, seconds in self._database.rows("choices"):
            # Plans are written under the names of choices.
            if not isinstance(name, str) or not is_name(name):
                raise self._database.damaged(f"a choice is called '{str(name)[:80]}', which is no name of a plan")
            try:
                levels = tuple(_LEVELS.validate_json(genome))
                found[name] = Choice(name, Genome(levels), int(tokens), int(evaluations), float(seconds))
            except (TypeError, ValueError, OverflowError) as error:
                raise self._database.damaged(f"the choice '{name}' is none") from error
        return found

    def turn(self, turn: Turn) -> None:
        """Notes an incumbent; replayed turns are there already and are not added again."""
        levels = json.dumps(turn.incumbent.levels if turn.incumbent else None)
        self._database.add("steps", (turn.search, turn.tokens, turn.evaluations, levels), once=True)

    def turns(self, search: str) -> list[Turn]:
        """The incumbents of a search, in the order of what it had spent."""
        found = []
        for _, tokens, evaluations, incumbent in self._database.rows(
            "steps", "search = ?", (search,), "tokens, evaluations"
        ):
            try:
                levels = _INCUMBENT.validate_json(incumbent)
                genome = Genome(tuple(levels)) if levels else None
                found.append(Turn(search, int(tokens), int(evaluations), genome))
            except (TypeError, ValueError, OverflowError) as error:
                raise self._database.damaged(f"a step of '{search}' is none") from error
        return found


def difference(noted: Any, now: Any) -> str:
    """In what a value has changed: of settings the first few that differ."""
    if isinstance(noted, dict) and isinstance(now, dict):
        keys = [key for key in noted.keys() | now.keys() if noted.get(key) != now.get(key)]
        parts = [f"{key}: {difference(noted.get(key), now.get(key))}" for key in sorted(keys)[:4]]
        return ", ".join(parts) + (", …" if len(keys) > 4 else "")
    return f"{str(noted)[:100]} then, {str(now)[:100]} now"


def _decisive_first(evaluation: Evaluation) -> dict[str, tuple[float, ...]]:
    """Losses as rows have them."""
    named = {name: values for name, values in evaluation.losses.items() if name == evaluation.score}
    return {**named, **evaluation.losses}


def _evaluation(
    text: str,
    _provenance: str,
    key: str,
    genome: str,
    first: int,
    stop: int,
    losses: str,
    costs: str,
    status: str,
    reason: str,
    tokens: int,
    layer_passes: int,
    seconds: float,
) -> tuple[str, Evaluation]:
    """One row; raises TypeError or ValueError (pydantic's is one) where it is none."""
    sequences = range(int(first), int(stop))
    values = {score: tuple(column) for score, column in _LOSSES.validate_json(losses).items()}
    if any(len(column) != len(sequences) for column in values.values()) or (not values and status != "failed"):
        raise ValueError("losses")
    if (
        text != CALIBRATION
        and not text.startswith(f"{CALIBRATION}, ")
        and values
        and not values.keys() >= set(HELD_OUT_SCORES)
    ):
        raise ValueError("scores")
    if status not in get_args(Status):
        raise ValueError("status")
    return str(text), Evaluation(
        genome=Genome(tuple(_LEVELS.validate_json(genome))),
        key=str(key),
        sequences=sequences,
        losses=values,
        costs=Costs(**_COSTS.validate_json(costs)),
        status=cast(Status, status),
        reason=str(reason),
        tokens=int(tokens),
        layer_passes=int(layer_passes),
        seconds=float(seconds),
        # Rows have the score that search minimises first.
        score=next(iter(values), ""),
    )


@dataclass(frozen=True, slots=True)
class TextJournal:
    """The evaluations of one text."""

    journal: Journal
    text: str
    provenance: str

    def evaluations(self) -> Iterable[Evaluation]:
        return (evaluation for _, evaluation in self.journal.evaluations(self.text))

    def append(self, evaluation: Evaluation) -> None:
        self.journal.append(self.text, self.provenance, evaluation)

    def slopes(self) -> Iterable[Slopes]:
        return self.journal.slopes(self.text)

    def append_slopes(self, slopes: Slopes) -> None:
        self.journal.append_slopes(self.text, slopes)
