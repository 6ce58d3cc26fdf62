"""The SQLite file of a journal: rows that are only ever added, each with a checksum, one transaction each."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...space.errors import SecateurError, StorageError
from .earlier import BEFORE, translated

SCHEMA_VERSION = 3
"""Those before it are read as `earlier` says."""
_TABLES = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL)",
    """CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    question TEXT NOT NULL,         -- 'losses', 'slopes', 'task', or what else was asked
    text TEXT NOT NULL,             -- 'calibration', the name of a held-out text, a task; with what tells answers apart
    provenance TEXT NOT NULL,       -- digest of model, text, pruner, scores, device and versions; see facts
    key TEXT NOT NULL,              -- of the subnet
    genome TEXT NOT NULL,           -- JSON list of levels
    first INTEGER NOT NULL,         -- first sequence
    stop INTEGER NOT NULL,          -- one past the last
    content TEXT NOT NULL,          -- JSON; what was answered
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    layer_passes INTEGER NOT NULL,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
)""",
    """CREATE TABLE choices (
    name TEXT PRIMARY KEY,          -- 'found' or a baseline's name
    genome TEXT NOT NULL,
    tokens INTEGER NOT NULL,        -- spent by the search that made the choice
    evaluations INTEGER NOT NULL,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
)""",
    """CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    search TEXT NOT NULL,           -- 'found' or a baseline's name
    tokens INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    incumbent TEXT NOT NULL,        -- JSON list of levels, or null
    checksum TEXT NOT NULL,
    UNIQUE (search, tokens, evaluations)
)""",
)
COLUMNS = {
    "facts": ("name", "value"),
    "answers": (
        *("question", "text", "provenance", "key", "genome", "first", "stop", "content", "status", "reason"),
        *("tokens", "layer_passes", "seconds"),
    ),
    "choices": ("name", "genome", "tokens", "evaluations", "seconds"),
    "steps": ("search", "tokens", "evaluations", "incumbent"),
}
"""What a checksum covers, in this order."""
PATIENCE = 60_000
"""Milliseconds that an earlier version's file is waited for, which another process may be reading whole."""


class Database:
    """Rows can be added and never changed: the database itself refuses updates and deletions.

    A file of an earlier version is read as one of today's, and becomes one when the first row is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        new = not path.exists()
        if not new and not path.is_file():
            raise SecateurError(f"journal {path}: is no file")
        self._earlier: sqlite3.Connection | None = None
        try:
            self.connection = _connected(path)
            self._open(new)
        except sqlite3.Error as error:
            raise SecateurError(f"journal {path}: cannot be opened: {error}") from error

    def _open(self, new: bool) -> None:
        try:
            if new or not self._query("SELECT 1 FROM sqlite_master"):
                self._in_one(_create)
            # Read as one: another process may be making it one of today's.
            self.connection.execute("BEGIN")
            version = self._version()
            if version < SCHEMA_VERSION:
                self._translate(version)
            elif not has_columns(self.connection, COLUMNS):
                raise self._foreign()
            else:
                self.connection.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def _version(self) -> int:
        """The version of the schema; raises SecateurError for one that is not read here, or where there is none."""
        if not has_columns(self.connection, {"facts": COLUMNS["facts"]}):
            raise self._foreign()
        where = "name = 'schema_version'"
        found = [value for _, value in self._read("facts", COLUMNS["facts"], where, sealed=False)]
        known = {str(version): version for version in range(1, SCHEMA_VERSION + 1)}
        if len(found) != 1 or str(found[0]) not in known:
            raise SecateurError(
                f"journal {self._path}: schema version {', '.join(map(str, found))[:20] or 'unknown'}, this secateur "
                f"reads 1 to {SCHEMA_VERSION}; use the version that wrote it"
            )
        if has_columns(self.connection, {"facts": (*COLUMNS["facts"], "checksum")}):
            self._read("facts", COLUMNS["facts"], where)
        return known[str(found[0])]

    def _foreign(self) -> SecateurError:
        return SecateurError(f"journal {self._path}: is another database, not the journal of a run")

    def _translate(self, version: int) -> None:
        """Goes on with a copy of today's schema in memory."""
        if not has_columns(self.connection, BEFORE):
            raise self._foreign()
        memory = sqlite3.connect(":memory:", isolation_level=None)
        _create(memory)
        try:
            for table, row in translated(lambda table: self._read(table, BEFORE[table], sealed=version > 1)):
                memory.execute(_insertion(table), (*row, _checksum(table, row)))
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError, sqlite3.Error) as error:
            raise self.damaged(f"schema version {version}, {type(error).__name__}: {error}") from error
        self._counted = _counts(self.connection)
        self.connection.execute("COMMIT")
        self.connection, self._earlier = memory, self.connection

    def _query(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error

    def rows(self, table: str, where: str = "TRUE", values: tuple[Any, ...] = (), order: str = "rowid") -> list[Any]:
        """Rows of a table, its columns in order; raises SecateurError where one is not what was written."""
        return self._read(table, COLUMNS[table], where, values, order)

    def _read(
        self,
        table: str,
        columns: Sequence[str],
        where: str = "TRUE",
        values: tuple[Any, ...] = (),
        order: str = "rowid",
        sealed: bool = True,
    ) -> list[Any]:
        wanted = ", ".join((*columns, "checksum, rowid") if sealed else columns)
        rows = self._query(f"SELECT {wanted} FROM {table} WHERE {where} ORDER BY {order}", values)
        if not sealed:
            return rows
        for *row, written, number in rows:
            if _checksum(table, row) != written:
                raise self.damaged(f"row {number} of '{table}' is not what was written")
        return [tuple(row) for *row, _, _ in rows]

    def damaged(self, why: str) -> SecateurError:
        """What to raise where rows are not what they should be."""
        return SecateurError(f"journal {self._path}: cannot be read: {why[:200]}; restore it from a copy")

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
        if self._earlier is not None:
            self._earlier.close()

    def add(self, table: str, values: tuple[Any, ...], once: bool = False) -> None:
        """Adds a row; `once`: unless it is there already."""
        try:
            if self._earlier is not None:
                self._replace(self._earlier)
            self.connection.execute(_insertion(table, once), (*values, _checksum(table, values)))
        except sqlite3.Error as error:
            raise StorageError(
                f"journal {self._path}: cannot be written: {error}; everything before this is kept, make room and "
                "resume the run"
            ) from error

    def _replace(self, file: sqlite3.Connection) -> None:
        """Puts the copy in the place of an earlier version's tables, in one transaction.

        Raises:
            SecateurError: another process has added to them.
        """
        copy = self.connection
        file.execute(f"PRAGMA busy_timeout = {PATIENCE}")
        self.connection = file
        try:
            self._in_one(lambda file: self._put(copy, file))
        except BaseException:
            self.connection = copy
            raise
        copy.close()
        self._earlier = None

    def _put(self, copy: sqlite3.Connection, file: sqlite3.Connection) -> None:
        if not has_columns(file, BEFORE) or _counts(file) != self._counted:
            raise SecateurError(f"journal {self._path}: another process has written to it; try again")
        for table in self._counted:
            file.execute(f"DROP TABLE {table}")
        _create(file, empty=True)
        for table, columns in COLUMNS.items():
            rows = copy.execute(f"SELECT {', '.join((*columns, 'checksum'))} FROM {table} ORDER BY rowid")
            file.executemany(_insertion(table), rows)

    def _in_one(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Does something to the file in one transaction, which a kill or an error undoes."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            work(self.connection)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def has_columns(connection: sqlite3.Connection, tables: Mapping[str, Sequence[str]]) -> bool:
    """Whether a database has all of these tables with, at least, these columns."""
    kinds = dict(connection.execute("SELECT name, type FROM sqlite_master").fetchall())
    columns = {table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in tables}
    return all(kinds.get(table) == "table" and columns[table] >= set(names) for table, names in tables.items())


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows of each table of an earlier version."""
    return {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in BEFORE}


def _create(connection: sqlite3.Connection, empty: bool = False) -> None:
    """Makes the tables, guarded, with the version in them unless they are to be `empty`."""
    for statement in _TABLES:
        connection.execute(statement)
    for table in COLUMNS:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
            )
    if not empty:
        row = ("schema_version", str(SCHEMA_VERSION))
        connection.execute(_insertion("facts"), (*row, _checksum("facts", row)))


def _insertion(table: str, once: bool = False) -> str:
    columns = (*COLUMNS[table], "checksum")
    return f"INSERT {'OR IGNORE ' * once}INTO {table} ({', '.join(columns)}) VALUES ({','.join('?' * len(columns))})"


def _checksum(table: str, row: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps([table, *row], default=str).encode()).hexdigest()[:16]
