"""Pages that are generated while the site is built: the reference of recipes and of the command line, the changes.

A hook of mkdocs: a page that has a line `<!-- NAME -->` gets there what the function of that name writes. As a program
(`python -m docs.generated`) it writes what the README has of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import typer

from secateur.cli.main import app
from secateur.fitness.zeros.level_store import PRUNERS
from secateur.operators.rules.table import RULES
from secateur.plans.formats.table import FORMATS
from secateur.runs.asked.recipe import Recipe
from secateur.runs.asked.schema import schema
from secateur.search.strategies.table import STRATEGIES
from secateur.space.bits import TYPES
from secateur.space.costs import COSTS
from secateur.space.families.table import FAMILIES
from secateur.space.kinds.table import KINDS
from secateur.space.scores import SCORES
from secateur.space.settings import Settings

ROOT = Path(__file__).parents[1]


def recipe() -> str:
    """Every key of a recipe: type, default, what it is, an example."""
    whole = schema()
    sections: Mapping[str, Any] = whole["$defs"]
    parts = ["## The recipe itself", *_keys(whole, whole)]
    settings = [name for name in sections if name.endswith(("Settings", "Effort"))]
    named = {name.removesuffix("Settings").lower(): name for name in settings}
    named = {"text": "TextSettings", **named}
    for title, name in sorted(named.items()):
        parts += [f"## {_title(title)}", sections[name].get("description", ""), *_keys(sections[name], whole)]
    for heading, names in (("Genes", KINDS), ("Strategies", STRATEGIES)):
        parts.append(f"## {heading}")
        for name in names:
            about = f" {_about(name)}" if name in STRATEGIES else ""
            parts += [f"### `{name}`", sections[name].get("description", "") + about, *_keys(sections[name], whole)]
    for name in ("Schedule", "TrainingSchedule"):
        if name in sections:
            parts += [f"## {name}", sections[name].get("description", ""), *_keys(sections[name], whole)]
    return "\n\n".join(parts)


def commands() -> str:
    """Every command with its arguments and options."""
    program = typer.main.get_command(app)
    assert hasattr(program, "commands")
    parts = []
    for name, command in program.commands.items():
        parts += [f"## secateur {name}", " ".join((command.help or "").split())]
        parts.append("\n".join(["| argument or option | what it is | default |", "|---|---|---|", *_options(command)]))
    return "\n\n".join(parts)


GRIDS = ("int8", "int4-g128", "int3-g64-sym", "int4-g64-half", "fp8", "0.5+int4-g128", "2:4+int8")
"""Some of the levels that are no type's name."""


def choices() -> str:
    """What can be chosen of everything that is open, by name."""
    orders = Recipe.model_fields["widths"].default
    pools: Mapping[str, Iterable[str]] = {
        "families": FAMILIES,
        "genes": KINDS,
        "costs (budgets, objectives)": COSTS,
        "scores (objectives, budgets)": [*SCORES, "lm-eval:TASK", "module:function"],
        "pruners": PRUNERS,
        "levels of bits": [*(kind for kind in TYPES if kind != "F16"), *GRIDS],
        "orders of heads and channels": _words(type(orders), "order"),
        "repairs": _words(type(orders), "repair"),
        "strategies for one plan": [name for name, entry in STRATEGIES.items() if entry.plans],
        "strategies for a front": [name for name, entry in STRATEGIES.items() if entry.fronts],
        "rules to start from and compare with": RULES,
        "formats": FORMATS,
    }
    rows = [f"| {title} | {', '.join(f'`{name}`' for name in names)} |" for title, names in pools.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _words(settings: type[Settings], key: str) -> list[str]:
    """The words that a setting may be."""
    found = settings.model_json_schema()["properties"][key]
    ways = found.get("anyOf", [found])
    return [str(word) for way in ways for word in way.get("enum", ())]


def changes() -> str:
    """The changelog, without its title."""
    return (ROOT / "CHANGELOG.md").read_text().partition("\n")[2]


def contributing() -> str:
    """How to add one of each."""
    return (ROOT / "CONTRIBUTING.md").read_text()


PARTS: Mapping[str, Callable[[], str]] = {
    "recipe": recipe,
    "commands": commands,
    "changes": changes,
    "contributing": contributing,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mkdocs asks this of every page."""

    def filled(match: re.Match[str]) -> str:
        return PARTS[match[1]]() if match[1] in PARTS else match[0]

    return re.sub(r"<!-- (\w+) -->", filled, markdown)


def _about(strategy: str) -> str:
    entry = STRATEGIES[strategy]
    what = [word for word, has in (("one plan", entry.plans), ("a front", entry.fronts)) if has]
    return f"Searches for {' or '.join(what)}." + (" A baseline of others." if entry.baseline else "")


def _title(name: str) -> str:
    return name[0].upper() + name[1:]


def _keys(section: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    rows = ["| key | type | default | what it is |", "|---|---|---|---|"]
    required = section.get("required", ())
    for key, one in section.get("properties", {}).items():
        default = "required" if key in required else f"`{_value(one['default'])}`" if "default" in one else ""
        examples = ", ".join(f"`{_value(value)}`" for value in one.get("examples", ()))
        about = one.get("description", "") + (f" For example {examples}." if examples else "")
        rows.append(f"| `{key}` | {_type(one, whole)} | {default} | {_cell(about)} |")
    yield "\n".join(rows)


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    return str(value)


def _type(one: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """A type in words."""
    if "$ref" in one:
        name = str(one["$ref"]).rpartition("/")[2]
        if name in ("Gene", "Strategy"):
            return f"[{name.lower()}](#{'genes' if name == 'Gene' else 'strategies'})"
        shown = name.removesuffix("Settings").lower()
        return f"[{shown}](#{shown})"
    if "const" in one:
        return f"`{one['const']}`"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    for ways in ("anyOf", "oneOf"):
        if ways in one:
            return " or ".join(dict.fromkeys(_type(part, whole) for part in one[ways]))
    kind = one.get("type")
    if kind == "array":
        items = one.get("items") or (one.get("prefixItems") or [{}])[0]
        return f"list of {_type(items, whole)}" if items else "list"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    limits = [f"{sign} {one[name]}" for name, sign in LIMITS.items() if name in one]
    return words.get(str(kind), "section" if kind == "object" else str(kind or "")) + (
        f" ({', '.join(limits)})" if limits and kind != "array" else ""
    )


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if parameter.name == "help":
            continue
        flags = ", ".join(f"`{flag}`" for flag in parameter.opts)
        name = (
            flags if parameter.param_type_name == "option" else f"`{parameter.metavar or str(parameter.name).upper()}`"
        )
        default = parameter.default
        shown = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
        if parameter.required:
            shown = "required"
        yield f"| {name} | {_cell(getattr(parameter, 'help', '') or '')} | {shown} |"


def with_choices(readme: str) -> str:
    """The README with what can be chosen today."""
    start, end = "<!-- choices: written by python -m docs.generated -->", "<!-- /choices -->"
    before, _, rest = readme.partition(start)
    return f"{before}{start}\n{choices()}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(with_choices(file.read_text()))
