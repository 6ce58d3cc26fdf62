"""The SQLite file of a journal: rows that are only ever added, each with a checksum, one transaction each."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...space.errors import SecateurError, StorageError

SCHEMA_VERSION = 2
"""1 had no checksums; it is read as before."""
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL);
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
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
);
CREATE TABLE choices (
    name TEXT PRIMARY KEY,          -- 'found' or a baseline's name
    genome TEXT NOT NULL,
    tokens INTEGER NOT NULL,        -- spent by the search that made the choice
    evaluations INTEGER NOT NULL,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    search TEXT NOT NULL,           -- 'found' or a baseline's name
    tokens INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    incumbent TEXT NOT NULL,        -- JSON list of levels, or null
    checksum TEXT NOT NULL,
    UNIQUE (search, tokens, evaluations)
);
"""
_COLUMNS = {
    "facts": ("name", "value"),
    "evaluations": (
        *("text", "provenance", "key", "genome", "first", "stop", "losses", "costs", "status", "reason", "tokens"),
        *("layer_passes", "seconds"),
    ),
    "choices": ("name", "genome", "tokens", "evaluations", "seconds"),
    "steps": ("search", "tokens", "evaluations", "incumbent"),
}
"""What a checksum covers, in this order."""


class Database:
    """Rows can be added and never changed: the database itself refuses updates and deletions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        new = not path.exists()
        if not new and not path.is_file():
            raise SecateurError(f"journal {path}: is no file")
        try:
            self.connection = sqlite3.connect(path, isolation_level=None)
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA trusted_schema = OFF")
            if new or not self._query("SELECT 1 FROM sqlite_master"):
                self._create()
            self._check_tables()
            self._sealed = self._check_version() > 1
        except sqlite3.Error as error:
            raise SecateurError(f"journal {path}: cannot be opened: {error}") from error

    def _check_tables(self) -> None:
        """Raises SecateurError where the tables are not those of a journal."""
        kinds = dict(self._query("SELECT name, type FROM sqlite_master"))
        columns = {table: {row[1] for row in self._query(f"PRAGMA table_info({table})")} for table in _COLUMNS}
        if any(kinds.get(table) != "table" or not columns[table] >= set(names) for table, names in _COLUMNS.items()):
            raise SecateurError(f"journal {self._path}: is another database, not the journal of a run")

    def _check_version(self) -> int:
        """The version of the schema; raises SecateurError for one that is not read here."""
        found = [value for (value,) in self._query("SELECT value FROM facts WHERE name = 'schema_version'")]
        known = {str(version): version for version in range(1, SCHEMA_VERSION + 1)}
        if len(found) != 1 or str(found[0]) not in known:
            raise SecateurError(
                f"journal {self._path}: schema version {', '.join(map(str, found))[:20] or 'unknown'}, this secateur "
                f"reads {' and '.join(known)}; use the version that wrote it"
            )
        return known[str(found[0])]

    def _query(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error

    def rows(self, table: str, where: str = "TRUE", values: tuple[Any, ...] = (), order: str = "rowid") -> list[Any]:
        """Rows of a table, its columns in order; raises SecateurError where one is not what was written."""
        columns = ", ".join(_COLUMNS[table])
        if not self._sealed:
            return self._query(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}", values)
        rows = self._query(f"SELECT {columns}, checksum, rowid FROM {table} WHERE {where} ORDER BY {order}", values)
        for *row, checksum, number in rows:
            if _checksum(table, row) != checksum:
                raise self.damaged(f"row {number} of '{table}' is not what was written")
        return [row for *row, _, _ in rows]

    def damaged(self, why: str) -> SecateurError:
        """What to raise where rows are not what they should be."""
        return SecateurError(f"journal {self._path}: cannot be read: {why[:200]}; restore it from a copy")

    def _create(self) -> None:
        guards = "".join(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;\n"
            for table in _COLUMNS
            for verb in ("UPDATE", "DELETE")
        )
        row = ("schema_version", str(SCHEMA_VERSION))
        version = f"INSERT INTO facts VALUES ('{row[0]}', '{row[1]}', '{_checksum('facts', row)}');\n"
        self.connection.executescript("BEGIN IMMEDIATE;\n" + _SCHEMA + version + guards + "COMMIT;")

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()

    def add(self, table: str, values: tuple[Any, ...], once: bool = False) -> None:
        """Adds a row; `once`: unless it is there already."""
        columns, row = _COLUMNS[table], values
        if self._sealed:
            columns, row = (*columns, "checksum"), (*row, _checksum(table, values))
        statement = (
            f"INSERT {'OR IGNORE ' * once}INTO {table} ({', '.join(columns)}) VALUES ({','.join('?' * len(row))})"
        )
        try:
            self.connection.execute(statement, row)
        except sqlite3.Error as error:
            raise StorageError(
                f"journal {self._path}: cannot be written: {error}; everything before this is kept, make room and "
                "resume the run"
            ) from error


def _checksum(table: str, row: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps([table, *row], default=str).encode()).hexdigest()[:16]
