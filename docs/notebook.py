"""The example notebook, carried out: `python -m docs.notebook` writes it again with what its cells show."""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

FILE = Path(__file__).with_name("example.ipynb")
SECONDS = 900


def executed(folder: Path, effort: str = "") -> Any:
    """The notebook after all its cells have run in `folder`, with another `effort` where one is given.

    Raises:
        CellExecutionError: a cell has failed.
    """
    notebook = nbformat.read(FILE, as_version=4)
    for cell in notebook.cells:
        if effort and cell.cell_type == "code":
            cell.source = re.sub(r'"effort": "[^"]+"', f'"effort": "{effort}"', cell.source)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if "outputs" in cell:  # without warnings of other libraries
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Writes it."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    with TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    nbformat.write(notebook, FILE)
    print(f"wrote {FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
