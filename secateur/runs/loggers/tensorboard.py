"""Scalars for TensorBoard, in the run's own folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .logger import Ending, Subject

FOLDER = "tensorboard"


def check(_address: str | None) -> None:
    """Nothing can be wrong but that the package is missing."""
    import tensorboard.summary  # noqa: F401


def begin(subject: Subject) -> "_Logger":
    """Begins another file of events beside those that are there; TensorBoard shows them as one."""
    return _Logger(subject.folder / FOLDER)


class _Logger:
    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer

        self.known, self._tokens = FOLDER, 0
        self._writer = Writer(str(folder))

    def measure(self, tokens: int, values: Mapping[str, float]) -> None:
        self._tokens = tokens
        for name, value in values.items():
            self._writer.add_scalar(name, value, step=tokens)
        self._writer.flush()

    def end(self, ending: Ending, values: Mapping[str, float], files: Sequence[Path]) -> None:
        self.measure(self._tokens, values)
        self._writer.close()
