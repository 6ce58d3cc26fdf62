"""Zeros as a treatment: the level store of a pruner, filled for what is wanted."""

import torch

from ...space.errors import SecateurError
from ...space.treatments import Sparsity, Treatment
from ..treatments import Ground, Kept, Position, Wanted, Watch, masked
from .level_store import VERSION, LevelStore, as_matrix
from .preparation import prepare, store_folder


class Zeros:
    """What a pruner makes of the linears of a model."""

    from_before = False

    def __init__(self, ground: Ground) -> None:
        if ground.pruner is None:
            raise SecateurError("levels of zeros need a pruner; name one in the recipe")
        self._ground, blocks = ground, ground.blocks
        self.folder = store_folder(ground.digest, ground.pruner, ground.text, ground.has_zeros)
        self.store = LevelStore(self.folder, ground.pruner, blocks, ground.room)

    @property
    def identity(self) -> str:
        """The version of the store and the name of its folder."""
        return f"{VERSION} {self.folder.name}"

    def prepare(self, wanted: Wanted, watch: Watch) -> None:
        """Fills the store; see `zeros.preparation.prepare`."""
        ground = self._ground
        blocks: dict[int, set[Treatment]] = {}
        for (index, _), some in wanted.items():
            blocks.setdefault(index, set()).update(some)
        levels = {level for some in blocks.values() for level in some if isinstance(level, Sparsity)}
        prepare(
            ground.blocks,
            self.store.pruner,
            levels,
            blocks,
            ground.text,
            self.folder,
            watch,
            ground.narrower,
            ground.rotation,
        )
        self.store.check(levels, blocks, ground.narrower)

    def weight(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """With exactly `level.zeros` zeros, or more where the model has them."""
        assert isinstance(level, Sparsity)
        block, linear = place
        if kept is None:
            return as_matrix(self.store.anatomy.blocks[block].linears[linear], self.store.weight(block, linear, level))
        return self.store.masked(block, linear, matrix, level, kept)

    def hold(self, level: Treatment, matrix: torch.Tensor, began: torch.Tensor) -> torch.Tensor:
        """Zeros stay, whoever has made them."""
        return masked(matrix, began)
