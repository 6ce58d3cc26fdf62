"""What happened: an SQLite file to which rows are only ever added, one transaction an evaluation."""

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..space.costs import Costs
from ..space.errors import SecateurError, StorageError
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.slopes import Slopes

SCHEMA_VERSION = 1
CALIBRATION, FOUND = "calibration", "found"
"""The name of the calibration text, and of the choice that the search asked for has made."""
MEMBER = "front-"
"""How the names of a front's members begin."""
MEASURED, UNTIMED, HYPERVOLUME, CORNERS = "measured", "untimed", "hypervolume", "corners"
"""Facts about a front: the time of a whole model, or why there is none (each followed by its key), hypervolume over a
search (followed by its name), and the corners of the box that the hypervolume is a share of."""
UNTRAINED = "untrained"
"""The name of the choice that the search would have made had it trained nothing."""
TASK = "task"
"""A fact about a subnet (followed by its key, task and settings): what a downstream task says of it."""
SELECTION = "selection by training"
"""A fact about a run that trains its candidates: what that changed, see `report.training`."""
SLOPES = "slopes"
"""A fact about a text and a subnet (followed by both, and the range of sequences): the loss around it."""
RANKS = "rank correlation"
"""A fact about a search with a model (followed by its name): evaluations, tokens, Spearman's correlation of late."""
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,             -- 'calibration' or the name of a held-out text
    provenance TEXT NOT NULL,       -- digest of model, text, pruner, scores, device and versions; see facts
    key TEXT NOT NULL,              -- of the subnet
    genome TEXT NOT NULL,           -- JSON list of levels
    first INTEGER NOT NULL,         -- first sequence scored
    stop INTEGER NOT NULL,          -- one past the last
    losses TEXT NOT NULL,           -- JSON {score: [per sequence]}
    costs TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    layer_passes INTEGER NOT NULL,
    seconds REAL NOT NULL
);
CREATE TABLE choices (
    name TEXT PRIMARY KEY,          -- 'found' or a baseline's name
    genome TEXT NOT NULL,
    tokens INTEGER NOT NULL,        -- spent by the search that made the choice
    evaluations INTEGER NOT NULL,
    seconds REAL NOT NULL
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    search TEXT NOT NULL,           -- 'found' or a baseline's name
    tokens INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    incumbent TEXT NOT NULL,        -- JSON list of levels, or null
    UNIQUE (search, tokens, evaluations)
);
"""
_TABLES = ("facts", "evaluations", "choices", "steps")


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
    """The record of a run. Opening checks it; everything in it survives a kill at any moment.

    Rows can be added and never changed: the database itself refuses updates and deletions.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        new = not path.exists()
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA synchronous = FULL")
            if new or not self._rows("SELECT 1 FROM sqlite_master"):
                self._create()
            version = self.fact("schema_version")
        except sqlite3.Error as error:
            raise SecateurError(f"journal {path}: cannot be opened: {error}") from error
        if version != SCHEMA_VERSION:
            raise SecateurError(
                f"journal {path}: schema version {version}, this secateur reads {SCHEMA_VERSION}; use the version that "
                "wrote it"
            )

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise SecateurError(f"journal {self._path}: cannot be read: {error}; restore it from a copy") from error

    def _create(self) -> None:
        guards = "".join(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;\n"
            for table in _TABLES
            for verb in ("UPDATE", "DELETE")
        )
        version = f"INSERT INTO facts VALUES ('schema_version', '{SCHEMA_VERSION}');\n"
        self._database.executescript("BEGIN IMMEDIATE;\n" + _SCHEMA + version + guards + "COMMIT;")

    def close(self) -> None:
        self._database.close()

    def _add(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise StorageError(
                f"journal {self._path}: cannot be written: {error}; everything before this is kept, make room and "
                "resume the run"
            ) from error

    # -- facts -----------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> Any:
        """A value noted when the run began; None when it was not."""
        rows = self._rows("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def facts(self, prefix: str) -> list[tuple[str, Any]]:
        """(name, value) of all facts whose names begin like that, in the order in which they were noted."""
        query = "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ? ORDER BY rowid"
        return [(name, json.loads(value)) for name, value in self._rows(query, (len(prefix), prefix))]

    def settle(self, name: str, value: Any, what: str) -> None:
        """Notes a fact, or compares it with the one noted; raises SecateurError when they differ."""
        noted = self.fact(name)
        if noted is None:
            self._add("INSERT INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        elif noted != json.loads(json.dumps(value)):
            raise SecateurError(f"{what} is not what this run began with ({noted} then, {value} now); start a new run")

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
            json.dumps(dict(evaluation.losses)),
            json.dumps(evaluation.costs.to_json()),
            evaluation.status,
            evaluation.reason,
            evaluation.tokens,
            evaluation.layer_passes,
            evaluation.seconds,
        )
        columns = (
            "text, provenance, key, genome, first, stop, losses, costs, status, reason, tokens, layer_passes, seconds"
        )
        self._add(f"INSERT INTO evaluations ({columns}) VALUES ({','.join('?' * len(row))})", row)

    def evaluations(self, text: str | None = None) -> Iterator[tuple[str, Evaluation]]:
        """(text, evaluation) in the order in which they were made; of one text or of all."""
        query = (
            "SELECT text, key, genome, first, stop, losses, costs, status, reason, tokens, layer_passes, seconds "
            "FROM evaluations WHERE ? IS NULL OR text = ? ORDER BY id"
        )
        for name, key, genome, first, stop, losses, costs, *rest in self._rows(query, (text, text)):
            status, reason, tokens, layer_passes, seconds = rest
            yield (
                name,
                Evaluation(
                    genome=Genome(tuple(json.loads(genome))),
                    key=key,
                    sequences=range(first, stop),
                    losses={score: tuple(values) for score, values in json.loads(losses).items()},
                    costs=Costs(**json.loads(costs)),
                    status=status,
                    reason=reason,
                    tokens=tokens,
                    layer_passes=layer_passes,
                    seconds=seconds,
                ),
            )

    def append_slopes(self, text: str, slopes: Slopes) -> None:
        """Adds what was found around a genome, unless it is there."""
        values = asdict(slopes) | {"sequences": [slopes.sequences.start, slopes.sequences.stop]}
        values |= {"genome": slopes.genome.levels}
        for name in ("first", "second"):
            values[name] = [[None if math.isnan(value) else value for value in row] for row in values[name]]
        name = f"{SLOPES} {text} {slopes.key} {slopes.sequences.start}-{slopes.sequences.stop}"
        self._add("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, json.dumps(values)))

    def slopes(self, text: str) -> Iterator[Slopes]:
        """Everything found around genomes on a text, in the order in which it was."""
        for _, values in self.facts(f"{SLOPES} {text} "):
            tables = {
                name: tuple(tuple(math.nan if value is None else value for value in row) for row in values[name])
                for name in ("first", "second")
            }
            genome, sequences = Genome(tuple(values["genome"])), range(*values["sequences"])
            yield Slopes(**(values | tables | {"genome": genome, "sequences": sequences}))

    def view(self, text: str, provenance: Mapping[str, Any], digest: str) -> "TextJournal":
        """The journal of one text, as `search.memo` wants it; settles the text's provenance."""
        self.settle(f"provenance {text}", {"digest": digest, **provenance}, f"what '{text}' evaluations were made with")
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
            self._add(
                "INSERT INTO choices VALUES (?, ?, ?, ?, ?)",
                (choice.name, json.dumps(choice.genome.levels), choice.tokens, choice.evaluations, choice.seconds),
            )

    def choices(self) -> dict[str, Choice]:
        """By name, in the order in which they were made."""
        rows = self._rows("SELECT name, genome, tokens, evaluations, seconds FROM choices ORDER BY rowid")
        return {
            name: Choice(name, Genome(tuple(json.loads(genome))), tokens, evaluations, seconds)
            for name, genome, tokens, evaluations, seconds in rows
        }

    def turn(self, turn: Turn) -> None:
        """Notes an incumbent; replayed turns are there already and are not added again."""
        levels = json.dumps(turn.incumbent.levels if turn.incumbent else None)
        self._add(
            "INSERT OR IGNORE INTO steps (search, tokens, evaluations, incumbent) VALUES (?, ?, ?, ?)",
            (turn.search, turn.tokens, turn.evaluations, levels),
        )

    def turns(self, search: str) -> list[Turn]:
        rows = self._rows(
            "SELECT tokens, evaluations, incumbent FROM steps WHERE search = ? ORDER BY tokens, evaluations", (search,)
        )
        return [
            Turn(search, tokens, evaluations, Genome(tuple(levels)) if (levels := json.loads(incumbent)) else None)
            for tokens, evaluations, incumbent in rows
        ]


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
