"""The documentation: it builds without a warning, and what its pages show runs, in their order, on a small model."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from docs import notebook
from tests.test_cli import command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = ("sh", "yaml", "python")
FILES = ("json",)
"""Languages of blocks that are files and nothing else."""


class Block(NamedTuple):
    """A block of a page: its language, the file that it is, and what is in it."""

    language: str
    file: str
    content: str


def blocks(page: Path) -> Iterator[Block]:
    for language, file, content in BLOCK.findall(page.read_text()):
        yield Block(language, file, content)


PAGES = sorted(page for page in DOCS.rglob("*.md") if any(block.language in RUN for block in blocks(page)))


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("mkdocs")
    ended = subprocess.run(
        [program, "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    reference = (tmp_path / "site" / "reference" / "recipe" / "index.html").read_text()
    assert "Candidates a round" in reference
    assert "windows_per_document" in reference
    assert "--vocabulary" in (tmp_path / "site" / "reference" / "commands" / "index.html").read_text()
    assert "secateur.api.run" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_shows_runs(page: Path, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "model", tmp_path / "my-model")
    shutil.copy(tiny / "calibration.txt", tmp_path / "my.txt")
    shutil.copy(tiny / "held.txt", tmp_path / "held.txt")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for block in blocks(page):
        if block.language not in (*RUN, *FILES):
            continue
        if block.file:
            (tmp_path / block.file).write_text(block.content)
        elif block.language == "python":
            ended = subprocess.run(
                [sys.executable, "-c", block.content],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, f"{block.content}\n{ended.stderr}"
        else:
            for line in block.content.splitlines():
                program, *arguments = shlex.split(line, comments=True)
                assert program == "secateur", line
                result = command(*arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
                assert result.returncode == 0, f"{line}\n{result.stderr}"


@pytest.mark.real
def test_the_example_notebook_runs(tmp_path: Path) -> None:
    """With a third of its effort: what it finds then is not what it shows, but it is of the same kinds."""
    shown = nbformat.read(notebook.FILE, as_version=4)
    done = notebook.executed(tmp_path, effort="10k tokens")

    def kinds(cells: Any) -> list[list[str]]:
        return [
            [kind for one in cell.get("outputs", []) for kind in sorted(one.get("data", {"stream": ""}))]
            for cell in cells
        ]

    assert kinds(done.cells) == kinds(shown.cells), "python -m docs.notebook writes it"
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").is_file()
    assert "plan" in done.cells[5].outputs[0]["data"]["text/html"]


def test_no_page_shows_a_command_that_is_not_run() -> None:
    """What is in blocks that are not run is output, another program's, or needs what a test has not."""
    elsewhere = ("piqa",)
    for page in DOCS.rglob("*.md"):
        for block in blocks(page):
            if block.language == "text":
                lines = [line for line in block.content.splitlines() if line.startswith("secateur ")]
                assert all(any(word in line for word in elsewhere) for line in lines), (page, lines)


def test_the_readme_is_short_says_what_can_be_chosen_today_and_every_link_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    specification = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    assert specification is not None
    assert specification.loader is not None
    generated = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generated)
    assert generated.with_choices(text) == text, "python -m docs.generated writes it"
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / link).exists(), link


def test_the_readmes_recipe_and_commands_are_as_they_are_shown(tiny: Path, tmp_path: Path) -> None:
    """With a little effort, and without the parts of a make file."""
    shutil.copytree(tiny / "model", tmp_path / "my-model")
    shutil.copy(tiny / "calibration.txt", tmp_path / "my.txt")
    found = list(blocks(ROOT / "README.md"))
    [recipe] = [block.content for block in found if block.language == "yaml"]
    (tmp_path / "short.yaml").write_text(recipe)
    less = ["--set", "calibration={source: my.txt, length: 32, windows_per_document: 4, sequences: 8}"]
    assert command("space", "short.yaml", *less, cwd=tmp_path).returncode == 0
    lines = [line for block in found if block.language == "sh" for line in block.content.splitlines()]
    shown = [shlex.split(line, comments=True) for line in lines if line.startswith("secateur ")]
    assert [words[1] for words in shown] == ["init", "search", "export"]
    for _, *arguments in shown:
        extra = ["--set", "effort=8k tokens"] if arguments[0] == "search" else []
        result = command(*arguments, *extra, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
