"""A run of MLflow: its tracking server, or the database that its environment variables name."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .logger import Ending, Subject

STATUS: Mapping[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
LONGEST = 6000
"""Characters of a parameter that MLflow takes."""
MANY = 100
"""Parameters that MLflow takes at once."""


def check(address: str | None) -> None:
    """Raises ImportError where the package is missing, MLflow's errors where nothing answers."""
    _client(address).search_experiments(max_results=1)


def _client(address: str | None) -> Any:
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # which tells of every table that it makes
    return MlflowClient(tracking_uri=address)


def begin(subject: Subject) -> "_Logger":
    """Begins a run, or goes on with the one that was begun before."""
    client = _client(subject.address)
    if subject.known is not None:
        client.update_run(subject.known, status="RUNNING")
        return _Logger(client, subject.known)
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(subject.project)
    number = experiment.experiment_id if experiment is not None else client.create_experiment(subject.project)
    known = client.create_run(number, run_name=subject.name).info.run_id
    settings = [Param(name, str(value)[:LONGEST]) for name, value in flat(subject.recipe).items()]
    for first in range(0, len(settings), MANY):
        client.log_batch(known, params=settings[first : first + MANY])
    return _Logger(client, known)


def flat(values: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Settings by their path, such as `effort.tokens`; of lists each entry by its place."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{within}{key}.")
        elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            found |= flat({str(place): one for place, one in enumerate(value)}, f"{within}{key}.")
        else:
            found[f"{within}{key}"] = value
    return found


class _Logger:
    def __init__(self, client: Any, known: str) -> None:
        self.known, self._client, self._tokens = known, client, 0

    def measure(self, tokens: int, values: Mapping[str, float]) -> None:
        from time import time

        from mlflow.entities import Metric

        self._tokens, now = tokens, int(1000 * time())
        metrics = [Metric(_named(name), value, now, tokens) for name, value in values.items()]
        for first in range(0, len(metrics), MANY):
            self._client.log_batch(self.known, metrics=metrics[first : first + MANY])

    def end(self, ending: Ending, values: Mapping[str, float], files: Sequence[Path]) -> None:
        try:
            self.measure(self._tokens, values)
            for file in files:
                self._client.log_artifact(self.known, str(file), file.parent.name)
        finally:
            self._client.set_terminated(self.known, STATUS[ending])


def _named(name: str) -> str:
    """A name without characters that MLflow refuses."""
    return "".join(letter if letter.isalnum() or letter in "_-. /:" else "_" for letter in name)
