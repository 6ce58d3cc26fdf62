"""A run as an Optuna study, for optuna-dashboard: a view derived from the journal, which may grow while it is shown."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...space.errors import StorageError
from ...space.evaluation import Evaluation
from ...space.gene import Gene
from ...space.objective import Objective, parse_objectives
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND
from .difference import joined

LATELY = 12
"""Genomes that were scored last, which a search that goes on may score on more text."""


@dataclass
class Study:
    """The trials of a run in a storage: one for every genome that was scored on calibration text.

    Parameters are what each gene keeps (or its share of zeros), values the objectives, intermediate values the first
    objective by the sequences it was scored on, constraints how far each budget is exceeded. Names of the plans that a
    genome is are user attributes.
    """

    objectives: tuple[Objective, ...]
    storage: BaseStorage
    number: int
    _trials: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    """By the key of a subnet: its trial, the evaluations in it, and whether it is finished."""

    @classmethod
    def of(cls, folder: RunFolder, storage: BaseStorage) -> "Study":
        """A study without trials."""
        objectives = parse_objectives(folder.recipe.objectives) or (Objective(folder.recipe.score),)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        name = folder.path.resolve().name
        study = optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * len(objectives))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.set_metric_names([objective.name for objective in objectives])
        return cls(objectives, storage, storage.get_study_id_from_name(name))

    def grow(self, folder: RunFolder, space: Space) -> int:
        """Adds what the journal has come to since; returns how many genomes there are.

        While the search lasts, the trials of the genomes it scored last are running. A genome that is scored on more
        text after its trial is finished keeps that as it was.
        """
        parts: dict[str, list[Evaluation]] = {}
        last: dict[str, None] = {}
        for _, evaluation in folder.journal.evaluations(CALIBRATION):
            parts.setdefault(evaluation.key, []).append(evaluation)
            last.pop(evaluation.key, None)
            last[evaluation.key] = None
        choices = folder.journal.choices()
        names: dict[str, list[str]] = {}
        for choice in choices.values():
            names.setdefault(space.key(choice.genome), []).append(choice.name)
        running = set(list(last)[-LATELY:]) if FOUND not in choices else set()
        for key, found in parts.items():
            self._put(space, key, found, names.get(key, []), key in running)
        return len(self._trials)

    def _put(self, space: Space, key: str, parts: list[Evaluation], names: list[str], lately: bool) -> None:
        running = lately and joined(parts) is not None
        number, count, finished = self._trials.get(key, (-1, 0, False))
        if finished or (count == len(parts) and running):
            return
        trial = _trial(space, self.objectives, parts, names, running)
        if not count:
            number = self.storage.create_new_trial(self.number, template_trial=trial)
        else:
            for step, value in trial.intermediate_values.items():
                self.storage.set_trial_intermediate_value(number, step, value)
            for attribute, told in trial.user_attrs.items():
                self.storage.set_trial_user_attr(number, attribute, told)
            if not running:
                self.storage.set_trial_state_values(number, trial.state, trial.values)
        self._trials[key] = (number, len(parts), not running)


def write_study(folder: RunFolder, space: Space) -> Path:
    """Writes `report/study.log`, a `Study` in Optuna's journal format; returns its path.

    Raises:
        SecateurError: the folder cannot be written.
    """
    path = folder.inside("report", "study.log")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        Study.of(folder, JournalStorage(JournalFileBackend(name))).grow(folder, space)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _trial(
    space: Space, objectives: tuple[Objective, ...], parts: list[Evaluation], names: list[str], running: bool
) -> FrozenTrial:
    whole = joined(parts)
    genome = parts[0].genome
    costs = space.costs(genome)
    pairs = list(zip(space.genes, genome.levels, strict=True))
    excess = [budget.excess(costs) for budget in space.budgets]
    attributes: dict[str, Any] = {
        "plans": ", ".join(names),
        "sequences": sum(len(part.sequences) for part in parts),
        "tokens": sum(part.tokens for part in parts),
        **costs.to_json(),
    }
    state = TrialState.RUNNING if running else TrialState.COMPLETE
    if whole is None:
        attributes["reason"] = next(part.reason for part in parts if part.status == "failed")
        state = TrialState.FAIL
    return create_trial(
        state=state,
        values=[objective.of(whole) for objective in objectives] if whole is not None and not running else None,
        params={gene.key: _value(gene, level) for gene, level in pairs},
        distributions={gene.key: _distribution(gene) for gene in space.genes},
        user_attrs=attributes,
        system_attrs={"constraints": excess} if excess else {},
        intermediate_values=dict(_by_sequences(objectives, parts)) if whole is not None else {},
    )


def _by_sequences(objectives: tuple[Objective, ...], parts: list[Evaluation]) -> Iterator[tuple[int, float]]:
    """The first objective that is a score, on more and more sequences."""
    score = next((objective for objective in objectives if not objective.is_cost), None)
    ordered = sorted(parts, key=lambda part: part.sequences.start)
    for count in range(1, len(ordered) + 1):
        known = joined(ordered[:count])
        if score is not None and known is not None:
            yield len(known.sequences), score.of(known)


def _value(gene: Gene, level: int) -> float | int:
    value = gene.levels[level]
    return value if isinstance(value, int) else gene.removed(level)


def _distribution(gene: Gene) -> BaseDistribution:
    first, last = _value(gene, 0), _value(gene, len(gene.levels) - 1)
    if gene.treatments:
        return FloatDistribution(float(first), float(last))
    return IntDistribution(int(last), int(first))
