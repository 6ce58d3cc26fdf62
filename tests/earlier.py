"""Journals as earlier versions wrote them, made of today's; once compared with files that they had really written."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL);
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL, provenance TEXT NOT NULL, key TEXT NOT NULL, genome TEXT NOT NULL,
    first INTEGER NOT NULL, stop INTEGER NOT NULL, losses TEXT NOT NULL, costs TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, tokens INTEGER NOT NULL, layer_passes INTEGER NOT NULL, seconds REAL NOT NULL,
    checksum TEXT NOT NULL
);
CREATE TABLE choices (
    name TEXT PRIMARY KEY, genome TEXT NOT NULL, tokens INTEGER NOT NULL, evaluations INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum TEXT NOT NULL
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, search TEXT NOT NULL, tokens INTEGER NOT NULL, evaluations INTEGER NOT NULL,
    incumbent TEXT NOT NULL, checksum TEXT NOT NULL, UNIQUE (search, tokens, evaluations)
);
"""
COLUMNS = {
    "facts": "name value",
    "evaluations": "text provenance key genome first stop losses costs status reason tokens layer_passes seconds",
    "choices": "name genome tokens evaluations seconds",
    "steps": "search tokens evaluations incumbent",
}


def make_earlier(path: Path, version: int) -> None:
    """Turns a journal of today's into one of schema version 1 or 2."""
    now = sqlite3.connect(path)
    rows = list(_rows(now, version))
    now.close()
    path.unlink()
    before = sqlite3.connect(path, isolation_level=None)
    before.executescript("BEGIN;" + SCHEMA)
    for table, row in rows:
        columns = [*COLUMNS[table].split(), "checksum"]
        checksum = hashlib.sha256(json.dumps([table, *row], default=str).encode()).hexdigest()[:16]
        marks = ",".join("?" * len(columns))
        before.execute(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})", (*row, checksum))
    before.execute("COMMIT")
    for table in COLUMNS:
        if version == 1:
            before.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        for verb in ("UPDATE", "DELETE"):
            before.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
            )
    before.close()


def _rows(now: sqlite3.Connection, version: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, value in now.execute("SELECT name, value FROM facts ORDER BY rowid"):
        if not name.startswith(("provenance slopes ", "provenance task ")):
            yield "facts", (name, str(version) if name == "schema_version" else value)
    wanted = (
        "question, text, provenance, key, genome, first, stop, content, status, reason, tokens, layer_passes, seconds"
    )
    for row in now.execute(f"SELECT {wanted} FROM answers ORDER BY id"):
        question, text, provenance, key, genome, first, stop, content, status, reason, tokens, passes, seconds = row
        values = json.loads(content)
        if question == "losses":
            losses, costs = json.dumps(values["losses"]), json.dumps(values["costs"])
            outcome = (status, reason, tokens, passes, seconds)
            yield "evaluations", (text, provenance, key, genome, first, stop, losses, costs, *outcome)
        elif question == "slopes":
            fact = {"genome": json.loads(genome), "key": key, "sequences": [first, stop], **values}
            fact |= {"reason": reason, "tokens": tokens, "seconds": seconds}
            yield "facts", (f"slopes {text} {key} {first}-{stop}", json.dumps(fact))
        else:
            fact = {"task": values["task"], "stages": values["trained"], "limit": values["limit"]}
            fact |= {"fewshot": values["shots"], "seed": values["seed"], "documents": values["documents"]}
            fact |= {name: values[name] for name in ("metrics", "lm_eval", "definitions")}
            yield "facts", (f"task {key} {text.split()[1]}", json.dumps(fact))
    yield from (("choices", row) for row in now.execute(f"SELECT {COLUMNS['choices'].replace(' ', ',')} FROM choices"))
    yield from (("steps", row) for row in now.execute(f"SELECT {COLUMNS['steps'].replace(' ', ',')} FROM steps"))
