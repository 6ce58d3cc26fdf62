"""A plan of a run as a repository on the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...space.errors import SecateurError, border
from .exporting import export_plan, plan_of

REPOSITORY = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")


def push(source: Path, repository: str, pick: str | None, private: bool = True) -> str:
    """Writes a plan of a run, or a plan file, as a checkpoint and uploads it; returns its address.

    Who uploads is whoever is logged in (`hf auth login`, or HF_TOKEN); the token is huggingface_hub's to read, and is
    neither kept nor shown.

    Raises:
        SecateurError: no such name, the hub refuses or cannot be reached, or the plan cannot be written.
    """
    if REPOSITORY.fullmatch(repository) is None or ".." in repository or "--" in repository:
        raise SecateurError(f"--repo {repository[:100]}: write OWNER/NAME, of letters, digits, '-', '_' and '.'")
    from huggingface_hub import HfApi

    plan, api = plan_of(source, pick), HfApi(library_name="secateur")
    with _hub():
        api.whoami()  # before a checkpoint is written, which takes long
    with TemporaryDirectory() as folder:
        written = export_plan(plan, "hf", Path(folder) / "checkpoint", trusted=source.is_dir())
        with _hub():
            name = str(api.create_repo(repository, private=private, exist_ok=True).repo_id)
            message = f"Secateur: plan {plan.name} of {Path(plan.model.path).name}"
            api.upload_folder(repo_id=name, folder_path=written, commit_message=message)
    return f"{api.endpoint}/{name}"


@contextmanager
def _hub() -> Iterator[None]:
    """The border to the hub: whatever it, or the way to it, has against a request is one message."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    with border("push: the hub says"):
        try:
            yield
        except LocalTokenNotFoundError:
            raise SecateurError("push: nobody is logged in to the hub: hf auth login, or set HF_TOKEN") from None
