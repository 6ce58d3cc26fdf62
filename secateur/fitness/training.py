"""Short training of a subnet: low-rank updates, norms and biases, or every weight it has left.

The live model is never written to: masters in float32 stand beside it, and each step's forward runs with what they make
of its parameters in their place (`torch.func.functional_call`), so that the dense model is bitwise what it was. What
was removed stays removed: a dropped sublayer and a removed channel have no parameter, and a weight of a matrix that is
zero, whoever pruned it, has no gradient, since masters and updates are masked before they are used. (DarwinLM trains
without masks: of its pruned weights all grow back within ten steps. peft's LoRA has no masks either, and exchanges
modules of the live model.)

- `lora`: W + mask * (B A), B from zero, of every linear that is left (Hu et al. 2021, arXiv 2106.09685, sec. 4.1).
- `norms`: biases and the weights of norms alone (PERP, Zimmer et al. 2023, arXiv 2312.15230, sec. 2).
- `full`: every parameter, as DarwinLM does (Tang et al. 2025, arXiv 2502.07780, sec. 3.3), in float32 masters.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.question import Chain
from ..space.space import Space
from ..space.state import treated_of
from ..space.treatments import DENSE
from .cache import digest, read_tensors, usable, write_tensors
from .model.blocks import unpacked
from .scores.built_in import mean_losses
from .scores.teacher import Teacher
from .subnets.subnet import Subnet
from .treatments import masked
from .zeros.level_store import as_matrix

VERSION = 3
KEPT_BYTES, KEPT_STATES = 16 * 2**30, 32
"""How much of states is kept: so many bytes, or so many states where half of what is free on the disk has room. The
oldest go first, and are trained again should anybody want them."""

What = Literal["lora", "norms", "full"]
Optimiser = Literal["adamw", "sgd"]
Loss = Literal["distillation", "cross_entropy", "both"]
SCORED: dict[Loss, tuple[str, ...]] = {
    "distillation": ("kl",),
    "cross_entropy": ("cross_entropy",),
    "both": ("cross_entropy", "kl"),
}


@dataclass(frozen=True, slots=True)
class Training:
    """How subnets are trained.

    Attributes:
        loss: KL from the dense model, cross-entropy, or the mean of both; nats per token.
        optimiser, learning_rate: one for all stages, or one for each; the last is that of all stages after it too.
        rank: of low-rank updates.
        batch: sequences a step.
        seed: of the low-rank updates' beginning; the text has its own order.
    """

    what: What = "lora"
    loss: Loss = "distillation"
    optimiser: Optimiser | tuple[Optimiser, ...] = "adamw"
    learning_rate: float | tuple[float, ...] = 1e-3
    rank: int = 16
    batch: int = 4
    seed: int = 0

    def in_stage(self, stage: int) -> tuple[Optimiser, float]:
        """Optimiser and learning rate of a stage, counted from 0."""
        optimisers = self.optimiser if isinstance(self.optimiser, tuple) else (self.optimiser,)
        rates = self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,)
        return optimisers[min(stage, len(optimisers) - 1)], rates[min(stage, len(rates) - 1)]


class TrainingError(ArithmeticError):
    """Training went where no numbers are; the candidate has failed."""


class Trainer:
    """Trains subnets of `space` on the teacher's text, from its first sequence on, and over again where it ends.

    States are kept in `folder` after every stage: the same stages of the same subnet are not trained twice, and what a
    killed run had finished is there for the next one. `identity` names what the subnets' weights are made from.
    """

    def __init__(
        self, space: Space, subnet: Subnet, teacher: Teacher, settings: Training, folder: Path, identity: str
    ) -> None:
        self.space, self.subnet, self.teacher, self.settings = space, subnet, teacher, settings
        self.folder, self.identity = folder, identity
        self.trained_tokens = 0

    def __call__(self, genome: Genome, chain: Chain) -> dict[str, torch.Tensor]:
        """The parameters that training changed, by name in the model as the subnet has it, in its precision.

        Raises:
            TrainingError: a loss that is not finite.
        """
        state = self._state(genome, chain)
        with self.subnet:
            self.subnet.apply(self.space.states(genome))
            with torch.no_grad():
                began = self._began(genome)
                return {name: tensor.detach() for name, tensor in self._effective(genome, state, began).items()}

    # -- states ----------------------------------------------------------------------------------------------------

    def _path(self, genome: Genome, chain: Chain) -> Path:
        text = f"{self.teacher.text.digest} {len(self.teacher.text)}"
        name = digest(VERSION, self.identity, text, asdict(self.settings), self.space.key(genome), chain)
        return self.folder / f"{name}.safetensors"

    def _known(self, path: Path) -> dict[str, torch.Tensor] | None:
        """A state that is kept, on the model's device."""
        if not usable(path):
            return None
        try:
            os.utime(path)
            tensors = read_tensors(path)
        except (FileNotFoundError, SecateurError):  # another run has just forgotten it
            return None
        return {name: tensor.to(self.teacher.blocks.device) for name, tensor in tensors.items()}

    def _state(self, genome: Genome, chain: Chain) -> dict[str, torch.Tensor]:
        """Where these stages lead to; trains what is not kept, earlier stages too where they have been forgotten."""
        if not chain:
            return {}
        path = self._path(genome, chain)
        state = self._known(path)
        if state is None:
            state = self._train(genome, self._state(genome, chain[:-1]), chain)
            write_tensors(path, state)
            _forget_oldest(self.folder, path)
        return state

    # -- parameters ------------------------------------------------------------------------------------------------

    def _linears(self, genome: Genome) -> Iterator[tuple[str, bool]]:
        """(name, whether it is stored transposed) of the weights of linears that are left."""
        anatomy, states = self.space.anatomy, self.space.states(genome)
        for block, state in zip(anatomy.blocks, states, strict=True):
            for sublayer in block.sublayers:
                for linear in sublayer.linears if state.has(sublayer) else ():
                    yield f"{anatomy.blocks_path}.{block.index}.{linear.name}.weight", linear.transposed

    def _began(self, genome: Genome) -> dict[str, torch.Tensor]:
        """All parameters as training begins with them; the subnet is applied.

        Those that it has, but where levels are carried out anew at every step: these begin as they were before.
        """
        anatomy, weights = self.space.anatomy, self.subnet.weights
        began = {name: parameter.detach() for name, parameter in self.teacher.blocks.model.named_parameters()}
        states = self.space.states(genome)
        for block, position, level in treated_of(anatomy.blocks, states):
            if weights.compressors[level.name].from_before:
                matrix = anatomy.blocks[block].matrices[position].name
                before = weights.linear(block, position, states[block].with_treated({matrix: DENSE}))
                began[f"{anatomy.matrix_name(block, position)}.weight"] = before
        return began

    def _masters(self, genome: Genome, live: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What is optimised, in float32, as it begins; `live`: see `_began`."""
        if self.settings.what == "norms":
            matrices = {name for name, parameter in live.items() if parameter.dim() > 1}
            return {name: p.detach().float().clone() for name, p in live.items() if name not in matrices}
        if self.settings.what == "full":
            return {name: parameter.detach().float().clone() for name, parameter in live.items()}
        masters: dict[str, torch.Tensor] = {}
        for name, transposed in self._linears(genome):
            outputs, inputs = reversed(live[name].shape) if transposed else live[name].shape
            rank = min(self.settings.rank, outputs, inputs)
            seed = int(digest(self.settings.seed, self.space.key(genome), name), 16) % 2**63
            start = torch.randn(rank, inputs, generator=torch.Generator().manual_seed(seed)) / math.sqrt(inputs)
            masters[f"{name}@A"] = start.to(live[name].device)
            masters[f"{name}@B"] = torch.zeros(outputs, rank, device=live[name].device)
        return masters

    def _effective(
        self, genome: Genome, masters: Mapping[str, torch.Tensor], began: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Parameters in the model's precision, differentiable in `masters`, of which other entries are left alone."""
        result = {}
        if self.settings.what != "lora":
            result = {name: tensor for name, tensor in masters.items() if "@" not in name}
        else:
            for name, transposed in self._linears(genome):
                update = masters[f"{name}@B"] @ masters[f"{name}@A"]
                result[name] = began[name].float() + (update.T if transposed else update)
        held = dict(self._held(genome, result, began))
        for name, tensor in result.items():
            if name not in held:
                held[name] = masked(tensor, began[name]) if tensor.dim() > 1 else tensor
        return {name: held[name].to(began[name].dtype) for name in result}

    def _held(
        self, genome: Genome, values: Mapping[str, torch.Tensor], began: Mapping[str, torch.Tensor]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Those of `values` that have a treatment, as it holds them."""
        anatomy, compressors = self.space.anatomy, self.subnet.weights.compressors
        for block, position, level in treated_of(anatomy.blocks, self.space.states(genome)):
            name, linear = f"{anatomy.matrix_name(block, position)}.weight", anatomy.blocks[block].matrices[position]
            if name in values:
                pair = (as_matrix(linear, values[name]), as_matrix(linear, began[name]))
                yield name, as_matrix(linear, compressors[level.name].hold(level, *pair))

    # -- steps -----------------------------------------------------------------------------------------------------

    def _train(self, genome: Genome, before: Mapping[str, torch.Tensor], chain: Chain) -> dict[str, torch.Tensor]:
        """The last stage of `chain`, from the state in which those before it ended; the state it ends in itself."""
        text = self.teacher.text
        first, count = -(-sum(chain[:-1]) // text.length), -(-chain[-1] // text.length)
        order = [(first + index) % len(text) for index in range(count)]
        if self.settings.loss != "cross_entropy":
            for sequence in sorted(set(order)):
                self.teacher.prepare(range(sequence, sequence + 1))
        with self.subnet:
            self.subnet.apply(self.space.states(genome))
            began = self._began(genome)
            masters = {name: tensor for name, tensor in before.items() if not name.startswith("optimiser@")}
            masters = {name: tensor.clone() for name, tensor in masters.items()} or self._masters(genome, began)
            device = self.teacher.blocks.device
            masters = {name: tensor.to(device).requires_grad_() for name, tensor in masters.items()}
            if not masters:  # nothing is left of what would be trained
                return {"optimiser@none": torch.zeros(1)}
            optimiser = self._optimiser(masters, before, len(chain) - 1)
            for start in range(0, count, self.settings.batch):
                with torch.enable_grad():
                    loss = self._loss(
                        self._effective(genome, masters, began), order[start : start + self.settings.batch]
                    )
                    if not math.isfinite(float(loss.detach())):
                        raise TrainingError(f"training: the loss is not finite after {start * text.length:,} tokens")
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                optimiser.step()
        self.teacher.forget(order)
        self.trained_tokens += count * text.length
        state = {name: tensor.detach() for name, tensor in masters.items()}
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise TrainingError(f"training: weights are not finite after {count * text.length:,} tokens")
        for number, name in enumerate(masters):
            for entry, value in optimiser.state_dict()["state"].get(number, {}).items():
                if value is not None:
                    state[f"optimiser@{entry}@{name}"] = torch.as_tensor(value)
        return state

    def _optimiser(
        self, masters: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor], stage: int
    ) -> torch.optim.Optimizer:
        """The optimiser over masters, with the moments of the state before if they are its own."""
        kind, rate = self.settings.in_stage(stage)
        if stage and kind != self.settings.in_stage(stage - 1)[0]:
            before = {}
        optimiser: torch.optim.Optimizer
        if kind == "sgd":
            optimiser = torch.optim.SGD(list(masters.values()), lr=rate, momentum=0.9)
        else:
            optimiser = torch.optim.AdamW(list(masters.values()), lr=rate, weight_decay=0.0)
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for number, name in enumerate(masters):
            for key, value in before.items():
                if key.startswith("optimiser@") and key.endswith(f"@{name}"):
                    entries.setdefault(number, {})[key.split("@")[1]] = value.clone()
        if entries:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})
        return optimiser

    def _loss(self, parameters: dict[str, torch.Tensor], sequences: list[int]) -> torch.Tensor:
        """The mean loss over a batch, differentiable in `parameters`."""
        ids = self.teacher.text.ids[sequences].to(self.teacher.blocks.device)
        with unpacked():
            logits = torch.func.functional_call(
                self.teacher.blocks.model, parameters, args=(), kwargs={"input_ids": ids, "use_cache": False}
            ).logits
        losses = [
            loss
            for row, sequence in zip(logits, sequences, strict=True)
            for loss in mean_losses(SCORED[self.settings.loss], row, sequence, self.teacher)
        ]
        return torch.stack(losses).mean()


def _forget_oldest(folder: Path, kept: Path) -> None:
    """Removes the states used longest ago until the others have room; never `kept`."""
    size, free = kept.stat().st_size, shutil.disk_usage(folder).free
    most = max(KEPT_BYTES, min(KEPT_STATES * size, free // 2))
    files = []
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # another run's work
            if path != kept:
                files.append((path.stat(), path))
    files.sort(key=lambda pair: pair[0].st_mtime_ns)
    total = size + sum(stat.st_size for stat, _ in files)
    for stat, path in files:
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
