"""Plans and exports for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.plans.features import Subject
from secateur.plans.formats.form import Files
from secateur.plans.plan import bare_plan
from secateur.space.anatomy import Anatomy
from secateur.space.state import BlockState


def plan_source(
    anatomy: Anatomy, states: Sequence[BlockState], path: str = "the/model", config: Mapping[str, Any] | None = None
) -> Subject:
    """A plan that makes `states` of the blocks of the model at `path`, as exporters read it."""
    return Subject.of(bare_plan("p", path, "float32", anatomy, states, 64), anatomy, config or {})


def write_files(contents: Files, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
