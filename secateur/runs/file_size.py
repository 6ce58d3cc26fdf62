"""The size of the file that a plan is written to, where a recipe names it."""

from typing import Any

from ..space.costs import FILE, Layout
from ..space.errors import SecateurError
from ..space.space import Space
from .asked.recipe import Recipe


def layout(recipe: Recipe, config: dict[str, Any], space: Space, metadata: int | None) -> Layout:
    """What bytes of files are counted by; raises SecateurError where not every genome has such a file."""
    from ..plans.checkpoint.gguf import layout_of, vocabulary_of  # which takes a while, and few ask for it
    from ..plans.formats.gguf import check_space

    instead = "weight_bytes are counted of every model"
    try:
        check_space(space, config)
    except SecateurError as error:
        raise SecateurError(f"{FILE}: {error}; {instead}") from error
    entries: list[Any] = []
    if metadata is None:
        try:
            asked = recipe.model
            entries = vocabulary_of(asked.path, space.anatomy.vocabulary, None, asked.trust_remote_code)
        except SecateurError as error:
            raise SecateurError(
                f"{FILE}: what its vocabulary takes there is not known, since llama.cpp's name for this kind of "
                f"tokenizer is not; {instead}"
            ) from error
    return layout_of(config, space.anatomy, space.additions, entries, metadata)
