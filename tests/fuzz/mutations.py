"""Changes to files that keep most of their structure, so that they come far before they are noticed."""

import copy
import hashlib
import json
import math
import random
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.earlier import make_earlier

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**9, 2**63, -(2**70), 10**400, 0.5, -0.5, 1e308, math.inf, -math.inf, math.nan),
    *("", " ", "x", "x" * 10_000, "0", "-1", "1e400", "nan", "2:4", "99999999:3", "../../../X", "/etc/passwd", "a\0b"),
    *(
        "\ud800",
        "[/red]",
        "[red]x",
        "\x1b[31m",
        "<script>",
        "```",
        "|x|",
        "${x}",
        "{{ x }}",
        "²",
        "12 levels",
        "step 1",
    ),
    *("0-99999999999", "all", "package:", "package:os", "auto", "cuda", "!!set", "2024-13-45", "<= 0.5x", "0x", "1%"),
    *([], [None], [[]], [1, 2, 3], ["x"] * 300, {}, {"": {}}, {"x": 1}),
)


def nasty(rng: random.Random) -> Any:
    """Some value that stands where another one should."""
    if rng.random() < 0.05:
        deep: Any = 1
        for _ in range(rng.choice((20, 200, 3000))):
            deep = [deep]
        return deep
    return rng.choice(NASTY)


def places(values: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside plain values."""
    found: list[tuple[Any, Any]] = []
    todo = [values]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            todo.append(one[key])
    return found


def _copied(values: Any) -> Any:
    try:
        return copy.deepcopy(values)
    except RecursionError:
        return "deep"


def mutated(values: Any, rng: random.Random) -> Any:
    """Plain values with one to three changes: another value, a key gone, renamed or added, two values exchanged."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = places(values)
        if not found:
            return nasty(rng)
        container, key = rng.choice(found)
        what = rng.randrange(6)
        if what == 0:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[str(rng.choice(NASTY))[:50]] = container.pop(key)
        elif what == 2:
            other, place = rng.choice(found)
            # A copy: what holds itself has no end.
            container[key] = _copied(other[place]) if other is not container else nasty(rng)
        elif what == 3 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
            factor = rng.choice((-1, 0, 2, 1000, 0.5) if abs(container[key]) < 2**60 else (-1, 0, 2))
            container[key] = container[key] * factor + rng.choice((0, 1, -1))
        elif what == 4 and isinstance(container, list):
            container.insert(key, _copied(container[key]))
        else:
            container[key] = nasty(rng)
    return values


def as_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, parts gone, repeated, overwritten, or the end missing."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        at, size = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64))
        what = rng.randrange(6)
        if what == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at:]
        elif what == 2:
            del data[at : at + size]
        elif what == 3:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif what == 4:
            data[at : at + size] = bytes([rng.choice((0, 255, 127, 91, 123))]) * size
        else:
            data[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**40, 2**63, 2**64 - 1)))
    return bytes(data)


def _text(values: Any, dump: Callable[[Any], str]) -> bytes:
    try:
        return dump(values).encode(errors="surrogatepass")
    except (ValueError, RecursionError, yaml.YAMLError, TypeError):
        return b"[" * 3000


def change_json(path: Path, rng: random.Random) -> None:
    values = json.loads(path.read_text("utf8"))
    path.write_bytes(_text(mutated(values, rng), json.dumps))


def change_yaml(path: Path, rng: random.Random) -> None:
    values = yaml.safe_load(path.read_text("utf8"))
    content = _text(mutated(values, rng), lambda one: yaml.safe_dump(one, allow_unicode=True))
    if rng.random() < 0.15:
        line = rng.choice(
            ("!!int abc", "!!set [a]", "2024-13-45", "&a [*a]", "!!timestamp x", "? [a]\n: b", "0x" + "f" * 6000)
        )
        content += b"\nmore: " + line.encode()
    path.write_bytes(content)


def change_lines(path: Path, rng: random.Random) -> None:
    """Of a file with one JSON value a line."""
    lines = path.read_text("utf8").splitlines()
    at = rng.randrange(len(lines))
    lines[at] = _text(mutated(json.loads(lines[at]), rng), json.dumps).decode(errors="replace")
    path.write_text("\n".join(lines))


def change_bytes(path: Path, rng: random.Random) -> None:
    path.write_bytes(as_bytes(path.read_bytes(), rng))


def change_safetensors(path: Path, rng: random.Random) -> None:
    """Its header as JSON, with the length that goes with it."""
    content = path.read_bytes()
    [length] = struct.unpack("<Q", content[:8])
    header = _text(mutated(json.loads(content[8 : 8 + length]), rng), json.dumps)
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def change_journal(path: Path, rng: random.Random) -> None:
    """A value in a row, with the checksum that goes with it or without; of a journal of today's or of before."""
    answers, sealed = "answers", True
    if rng.random() < 0.3:
        version = rng.choice((1, 2))
        make_earlier(path, version)
        answers, sealed = "evaluations", version == 2
    database = sqlite3.connect(path, isolation_level=None)
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f'DROP TRIGGER "{name}"')
    table = rng.choice(("facts", "facts", answers, "choices", "steps"))
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] not in ("id", "checksum")]
    rows = database.execute(f"SELECT rowid, {', '.join(columns)} FROM {table}").fetchall()
    if not rows:
        return
    number, *row = rng.choice(rows)
    at = rng.randrange(len(row))
    value = row[at]
    try:
        values = json.loads(value) if isinstance(value, str) else value
        changed = isinstance(values, dict | list)
        row[at] = _text(mutated(values, rng), json.dumps).decode(errors="replace") if changed else nasty(rng)
    except (ValueError, RecursionError):
        row[at] = nasty(rng)
    if not isinstance(row[at], str | int | float | None):
        row[at] = _text(row[at], json.dumps).decode(errors="replace")
    pairs = dict(zip(columns, row, strict=True))
    if sealed and rng.random() < 0.7:
        text = json.dumps([table, *row], default=str)
        pairs["checksum"] = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    names = ", ".join(f"{name} = ?" for name in pairs)
    try:
        database.execute(f"UPDATE {table} SET {names} WHERE rowid = ?", (*pairs.values(), number))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        database.execute(f"DELETE FROM {table} WHERE rowid = ?", (number,))
    database.close()
