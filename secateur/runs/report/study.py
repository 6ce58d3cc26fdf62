"""A run as an Optuna study, for optuna-dashboard: a view derived from the journal, rebuilt whenever it is asked for."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...space.errors import StorageError
from ...space.evaluation import Evaluation
from ...space.gene import Gene
from ...space.objective import Objective, parse_objectives
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION
from .summary import joined


def write_study(folder: RunFolder, space: Space) -> Path:
    """Writes `report/study.log` with a trial for every genome that was scored on calibration text; returns its path.

    Parameters are what each gene keeps (or its share of zeros), values the objectives, constraints how far each budget
    is exceeded. Names of the plans that a genome is are user attributes.

    Raises:
        SecateurError: the folder cannot be written.
    """
    objectives = parse_objectives(folder.recipe.objectives) or (Objective(folder.recipe.score),)
    parts: dict[str, list[Evaluation]] = {}
    for _, evaluation in folder.journal.evaluations(CALIBRATION):
        parts.setdefault(evaluation.key, []).append(evaluation)
    names: dict[str, list[str]] = {}
    for choice in folder.journal.choices().values():
        names.setdefault(space.key(choice.genome), []).append(choice.name)
    path = folder.inside("report", "study.log")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        storage = JournalStorage(JournalFileBackend(name))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=storage, study_name=folder.path.resolve().name, directions=["minimize"] * len(objectives)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.set_metric_names([objective.name for objective in objectives])
        study.add_trials([_trial(space, objectives, found, names.get(key, [])) for key, found in parts.items()])
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _trial(space: Space, objectives: tuple[Objective, ...], parts: list[Evaluation], names: list[str]) -> FrozenTrial:
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
    if whole is None:
        attributes["reason"] = next(part.reason for part in parts if part.status == "failed")
    return create_trial(
        state=TrialState.COMPLETE if whole is not None else TrialState.FAIL,
        values=[objective.of(whole) for objective in objectives] if whole is not None else None,
        params={gene.key: _value(gene, level) for gene, level in pairs},
        distributions={gene.key: _distribution(gene) for gene in space.genes},
        user_attrs=attributes,
        system_attrs={"constraints": excess} if excess else {},
    )


def _value(gene: Gene, level: int) -> float | int:
    value = gene.levels[level]
    return value if isinstance(value, int) else gene.removed(level)


def _distribution(gene: Gene) -> BaseDistribution:
    first, last = _value(gene, 0), _value(gene, len(gene.levels) - 1)
    if gene.treatments:
        return FloatDistribution(float(first), float(last))
    return IntDistribution(int(last), int(first))
