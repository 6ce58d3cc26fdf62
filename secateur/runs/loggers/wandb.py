"""A run of Weights & Biases, online or, with WANDB_MODE=offline, in the run's own folder until it is synchronised."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...space.errors import SecateurError
from .logger import Ending, Subject

STEP = "tokens"
LOCAL = ("offline", "disabled", "dryrun")


def check(address: str | None) -> None:
    """Raises ImportError where the package is missing, SecateurError where nobody is logged in."""
    import wandb

    if os.environ.get("WANDB_MODE") not in LOCAL and not wandb.login(host=address, prompt=False, verify=False):
        raise SecateurError("log: wandb: nobody is logged in: wandb login, or set WANDB_MODE=offline")


def begin(subject: Subject) -> "_Logger":
    """Begins a run, or goes on with the one that was begun before."""
    import wandb

    address = {} if subject.address is None else {"base_url": subject.address}
    settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, **address)
    run = wandb.init(
        project=subject.project,
        name=subject.name,
        id=subject.known,
        resume="allow",
        dir=subject.folder,
        config=dict(subject.recipe),
        reinit="create_new",
        settings=settings,
    )
    # Searches are compared at equal tokens.
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return _Logger(run)


class _Logger:
    def __init__(self, run: Any) -> None:
        self.known, self._run = str(run.id), run

    def measure(self, tokens: int, values: Mapping[str, float]) -> None:
        self._run.log({STEP: tokens, **values})

    def end(self, ending: Ending, values: Mapping[str, float], files: Sequence[Path]) -> None:
        import wandb

        self._run.summary.update(values)
        if files:
            artifact = wandb.Artifact(f"plans-{self.known}", "plans")
            for file in files:
                artifact.add_file(str(file), name=file.name)
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if ending == "finished" else 1)
