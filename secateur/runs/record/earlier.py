"""Journals of before as rows of today's: evaluations had a table of their own, slopes and tasks were facts.

Schema version 1 had no checksums; 2 has.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

BEFORE: dict[str, tuple[str, ...]] = {
    "facts": ("name", "value"),
    "evaluations": (
        *("text", "provenance", "key", "genome", "first", "stop", "losses", "costs", "status", "reason", "tokens"),
        *("layer_passes", "seconds"),
    ),
    "choices": ("name", "genome", "tokens", "evaluations", "seconds"),
    "steps": ("search", "tokens", "evaluations", "incumbent"),
}
"""Tables and columns, in the order of their checksums."""


def translated(rows: Callable[[str], list[tuple[Any, ...]]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, row) of today's journal, from the rows of each table of `BEFORE`.

    Raises:
        ValueError, TypeError, LookupError: a row holds something else than it should.
    """
    genomes: dict[str, str] = {}
    made_with: dict[str, str] = {}
    for row in rows("evaluations"):
        text, provenance, key, genome, first, stop, losses, costs, *outcome = row
        genomes[key], made_with[text] = genome, provenance
        values = json.loads(losses)
        content = {"losses": values, "costs": json.loads(costs), "score": next(iter(values), "")}
        yield "answers", ("losses", text, provenance, key, genome, first, stop, json.dumps(content), *outcome)
    for name, value in rows("facts"):
        family, _, about = str(name).partition(" ")
        if family == "slopes":
            text = about.rsplit(" ", 2)[0]
            yield "answers", _slopes(text, made_with.get(text, ""), json.loads(value))
        elif family == "task":
            key, digest = about.split(" ")
            yield "answers", _task(key, digest, genomes.get(key, "[]"), json.loads(value))
        elif name != "schema_version":
            yield "facts", (name, value)
    for table in ("choices", "steps"):
        for row in rows(table):
            yield table, row


def _slopes(text: str, provenance: str, value: dict[str, Any]) -> tuple[Any, ...]:
    first, stop = value["sequences"]
    content = json.dumps({name: value[name] for name in ("first", "second")})
    status, genome = "failed" if value["reason"] else "ok", json.dumps(value["genome"])
    outcome = (status, value["reason"], value["tokens"], 0, value["seconds"])
    return ("slopes", text, provenance, value["key"], genome, first, stop, content, *outcome)


def _task(key: str, digest: str, genome: str, value: dict[str, Any]) -> tuple[Any, ...]:
    content = {name: value[name] for name in ("task", "documents", "metrics", "limit", "seed", "lm_eval")}
    content |= {"shots": value["fewshot"] or 0, "trained": value["stages"]}
    content |= {"definitions": value.get("definitions", "")}
    text = f"{value['task']} {digest}"
    return ("task", text, digest, key, genome, 0, 1, json.dumps(content), "ok", "", 0, 0, 0.0)
