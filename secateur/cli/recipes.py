"""Commands about recipes: a first one, those that ship with us, what one would search, and what one may say."""

import json
import os
import shlex
import sys
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer

from ..space.errors import SecateurError, suggest
from .shared import Json, RecipeFile, Settings, console, print_json, print_raw

app = typer.Typer()


@app.command(rich_help_panel="Recipes")
def init(
    model: Annotated[str | None, typer.Argument(help="A folder, a .gguf file, a hub name, or package:NAME.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="A .txt, .jsonl or .parquet file, or a dataset's name; several are mixed."),
    ] = None,
    smaller: Annotated[
        str | None,
        typer.Option(
            help="The share that is to go: of the parameters, or what --for is about. "
            "By default 30%, of a file for llama.cpp 70%."
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option("--for", help="quality, llama.cpp (bytes), sparsity (weights), speed (milliseconds) or front."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, an accelerator as torch names it, or auto.")] = "cpu",
    minutes: Annotated[float, typer.Option(min=0.1, help="Of the search; comparison and confirmation come on top.")] = (
        20.0
    ),
    out: Annotated[Path, typer.Option(help="The recipe; a new file.")] = Path("recipe.yaml"),
) -> None:
    """Write a first recipe for a model and a text, and say how long it will take; asks for what is not given."""
    if out.exists():
        raise SecateurError(f"{out} exists; --out names another file")
    asks = sys.stdin.isatty()
    model = model or _asked(asks, "Model: a folder, a .gguf file, a hub name, or package:NAME", "MODEL")
    texts = text or [_asked(asks, "Text: a .txt, .jsonl or .parquet file, or a dataset's name", "TEXT")]
    from ..runs.initial import GOALS, Wish, first_recipe, share_of, told, usual_share

    if goal is None and asks:
        for name, about in GOALS.items():
            console.print(f"  {name}: {about}")
        goal = typer.prompt("For", default="quality")
    if smaller is None and goal != "front" and asks:
        smaller = typer.prompt("How much smaller", default=f"{usual_share(goal or 'quality'):.0%}")
    here = out.absolute().parent
    named = tuple(_from(one, here) for one in texts)
    share = share_of(smaller) if smaller else None
    wish = Wish(_from(model, here), named, share, goal or "quality", device, minutes)
    with console.status("looking at the model and the text"):
        content, description = first_recipe(wish, here)
    from ..files import write_text

    write_text(out, content)
    console.print(f"wrote {out}", soft_wrap=True)
    for line in told(description):
        console.print(line)
    console.print(f"next: secateur search {shlex.quote(str(out))}", soft_wrap=True)


@app.command(rich_help_panel="Recipes")
def recipes(
    name: Annotated[str | None, typer.Argument(help="Prints that one, to begin from.")] = None, as_json: Json = False
) -> None:
    """List the recipes that ship with us; 'secateur search NAME' carries one out."""
    from ..runs.asked.shipped import shipped as all_shipped
    from ..runs.report.fitting import Column, print_table

    shipped = all_shipped()
    if name is not None:
        if name not in shipped:
            raise SecateurError(f"recipes: unknown '{name[:40]}'; {suggest(name[:40], shipped)}")
        print_raw(shipped[name].read_text().rstrip())
        return
    abouts = {one: _about(path.read_text()) for one, path in shipped.items()}
    if as_json:
        print_json([{"name": one, "about": about, "path": shipped[one]} for one, about in abouts.items()])
        return
    print_table(console, "Recipes", [Column("name"), Column("what it does", text=True)], list(abouts.items()))


@app.command(rich_help_panel="Recipes")
def schema(out: Annotated[Path | None, typer.Option(help="A file for it; printed by default.")] = None) -> None:
    """Write the JSON Schema of recipes, with which editors complete and check them."""
    from ..files import write_text
    from ..runs.asked.schema import schema as schema_of

    text = json.dumps(schema_of(), indent=1)
    if out is None:
        print_raw(text)
        return
    write_text(out, text + "\n")
    console.print(f"wrote {out}; an editor finds it by a first line in a recipe:", soft_wrap=True)
    console.print(f"# yaml-language-server: $schema={out}", soft_wrap=True)


@app.command(rich_help_panel="Recipes")
def space(recipe: RecipeFile, settings: Settings = None, as_json: Json = False) -> None:
    """Show what would be searched, whether the budgets can be kept, and what it takes; needs no weights."""
    wanted = read(recipe, settings)
    from ..runs.describe import describe
    from ..runs.report.fitting import Column, print_table

    description = describe(wanted)
    if as_json:
        print_json(description)
        return
    title = f"{description.genes} genes, {Decimal(description.size):.3g} combinations"
    columns = [Column("kind", text=True), Column("genes"), Column("levels (dense first)", text=True)]
    print_table(console, title, [*columns, Column("sites", 1, text=True)], description.kinds)
    title = f"Costs (MACs per token at a context of {description.context} tokens)"
    columns = [Column("cost"), Column("dense"), Column("smallest", 1), Column("smallest\nof dense"), Column("budget")]
    print_table(console, title, columns, description.costs)
    if description.memory:
        columns = [Column("what", text=True), Column("device"), Column("host,\nif another"), Column("on disk")]
        print_table(console, "Memory, while most of each is held", columns, description.memory)
    for line in description.lines:
        console.print(line)


def read(recipe: Path, settings: list[str] | None) -> Any:
    """The recipe of a file, or the one of that name that ships with us."""
    from ..runs.asked.reading import read_recipe

    return read_recipe(recipe, settings or [])


def _about(recipe: str) -> str:
    """What a recipe says of itself before it begins."""
    lines = takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def _asked(asks: bool, question: str, what: str) -> str:
    """An answer of whoever sits there; raises SecateurError where nobody does."""
    if not asks:
        raise SecateurError(f"init: {what} is missing: secateur init MODEL TEXT --smaller 30% --for quality")
    answer: str = typer.prompt(question)
    return answer


def _from(name: str, folder: Path) -> str:
    """A file's name as seen from a folder; another name as it is."""
    path = Path(name).expanduser()
    return os.path.relpath(path, folder) if not path.is_absolute() and path.exists() else name
