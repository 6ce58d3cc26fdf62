"""What happened: an SQLite file to which rows are only ever added, one transaction an evaluation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import TypeAdapter

from ...files import is_name
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.losses import LOSSES
from ...space.objective import is_own
from ...space.question import Question, Record, Status, Told
from ...space.scores import HEADLESS_SCORES, HELD_OUT_SCORES
from .database import Database
from .facts import Fact, check_fact

Shape = TypeVar("Shape")
CALIBRATION, FOUND = "calibration", "found"
"""The name of the calibration text, and of the choice that the search asked for has made."""
OWN_SCORES = ", own scores"
"""What follows the name of a text where evaluations on it are filed that have the user's own scores alone."""
MEMBER = "front-"
"""How the names of a front's members begin."""
UNTRAINED = "untrained"
"""The name of the choice that the search would have made had it trained nothing."""
_LEVELS, _INCUMBENT = TypeAdapter(list[int]), TypeAdapter(list[int] | None)


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

    def append(self, text: str, question: Question[Told], provenance: str, answer: Told) -> None:
        """Adds one answer; it is on disk when this returns.

        Raises:
            SecateurError: the disk is full or cannot be written; what was there before is intact.
        """
        record = question.record(answer)
        row = (
            question.name,
            question.on(text),
            provenance,
            record.key,
            json.dumps(record.genome.levels),
            record.sequences.start,
            record.sequences.stop,
            json.dumps(record.content),
            record.status,
            record.reason,
            record.tokens,
            record.layer_passes,
            record.seconds,
        )
        self._database.add("answers", row)

    def answers(self, question: Question[Told], text: str | None = None) -> Iterator[tuple[str, Told]]:
        """(what it is filed under, answer) in the order in which they were made; on one text, or all of that name."""
        title = question.on(text) if text is not None else None
        where, values = "question = ? AND (? IS NULL OR text = ?)", (question.name, title, title)
        for _, filed, _, *columns in self._database.rows("answers", where, values, "id"):
            try:
                answer = question.read(_record(*columns))
            except (TypeError, ValueError, LookupError, OverflowError, RecursionError) as error:
                raise self._database.damaged(f"an answer on '{str(filed)[:80]}' is none") from error
            searched = str(filed).split(", ")[0] == CALIBRATION
            own = str(filed).endswith(OWN_SCORES)
            if isinstance(answer, Evaluation) and not searched and not own and not _has_scores(answer):
                raise self._database.damaged(f"an evaluation on '{str(filed)[:80]}' lacks scores")
            yield str(filed), answer

    def evaluations(self, text: str | None = None) -> Iterator[tuple[str, Evaluation]]:
        """(title, evaluation) in the order in which they were made; of one text, of subnets as they are, or of all."""
        yield from self.answers(LOSSES, text)

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


def filed_under(text: str, score: str) -> str:
    """Where evaluations on a held-out text have a score."""
    return text + OWN_SCORES if is_own(score) else text


def difference(noted: Any, now: Any) -> str:
    """In what a value has changed: of settings the first few that differ."""
    if isinstance(noted, dict) and isinstance(now, dict):
        keys = [key for key in noted.keys() | now.keys() if noted.get(key) != now.get(key)]
        parts = [f"{key}: {difference(noted.get(key), now.get(key))}" for key in sorted(keys)[:4]]
        return ", ".join(parts) + (", …" if len(keys) > 4 else "")
    return f"{str(noted)[:100]} then, {str(now)[:100]} now"


def _has_scores(evaluation: Evaluation) -> bool:
    asked = (HELD_OUT_SCORES, HEADLESS_SCORES)
    return not evaluation.losses or any(evaluation.losses.keys() >= set(scores) for scores in asked)


def _record(
    key: str,
    genome: str,
    first: int,
    stop: int,
    content: str,
    status: str,
    reason: str,
    tokens: int,
    layer_passes: int,
    seconds: float,
) -> Record:
    """One row; raises TypeError or ValueError (pydantic's is one) where it is none."""
    if status not in get_args(Status):
        raise ValueError("status")
    return Record(
        Genome(tuple(_LEVELS.validate_json(genome))),
        str(key),
        range(int(first), int(stop)),
        json.loads(content),
        cast(Status, status),
        str(reason),
        int(tokens),
        int(layer_passes),
        float(seconds),
    )
