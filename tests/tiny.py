"""Small stand-ins: random models of every family, spaces over them, and evaluators that need no model."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from secateur.runs.asked.recipe import Recipe
from secateur.runs.problem import build_space, problem_of
from secateur.search.loop import Allowance
from secateur.search.memo import Asker
from secateur.search.steps import Steps
from secateur.space.anatomy import Anatomy
from secateur.space.evaluation import Evaluation
from secateur.space.families.table import FAMILIES, anatomy
from secateur.space.gene import Gene
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES
from secateur.space.question import Question, Told
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.genes import hidden_gene, sparsity_genes, structured_genes

VOCABULARY = 96
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 12},
    "mistral": {"head_dim": 12, "sliding_window": 16},
    "qwen3": {"head_dim": 12, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 12, "sliding_window": 8, "query_pre_attn_scalar": 12},
    "gemma3_text": {"head_dim": 12, "sliding_window": 8, "query_pre_attn_scalar": 12, "sliding_window_pattern": 2},
    "smollm3": {"no_rope_layer_interval": 2},
    "granite": {"embedding_multiplier": 3.0, "residual_multiplier": 0.7, "logits_scaling": 2.0},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 24},
    "bert": {"max_position_embeddings": 64, "type_vocab_size": 2},
    "roberta": {"max_position_embeddings": 66, "type_vocab_size": 1},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_inner": 48, "n_positions": 64},
    "gemma": {"head_dim": 12},
    "glm": {"head_dim": 12},
    "glm4": {"head_dim": 12},
    "nemotron": {"head_dim": 12},
    "seed_oss": {"head_dim": 12},
    "ernie4_5": {"head_dim": 12},
    "hunyuan_v1_dense": {"head_dim": 12},
    "ministral": {"head_dim": 12, "sliding_window": 16},
    "olmo3": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "exaone4": {"sliding_window": 8, "sliding_window_pattern": 2},
    "starcoder2": {"sliding_window": 16},
    "xlm-roberta": {"max_position_embeddings": 66, "type_vocab_size": 1},
    "camembert": {"max_position_embeddings": 66, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 4, "n_heads": 4},
}
NO_GROUPS = ("opt", "gpt2", "gpt_neox", "bert", "roberta", "xlm-roberta", "camembert", "distilbert")
OWN_NAMES = ("gpt2", "distilbert")
EVERY_FAMILY = tuple(sorted(FAMILIES))
FAMILY_NAMES = (
    *("bert", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral", "olmo2", "opt", "phi3"),
    *("qwen2", "qwen3", "roberta", "smollm3"),
)
"""Those that between them have everything an anatomy can have; the others differ in names and biases."""
CAUSAL_NAMES = tuple(name for name in FAMILY_NAMES if not FAMILIES[name].encoder)


def config_of(family: str, **changes: Any) -> Any:
    """A configuration of a tiny model."""
    values = {**COMMON, **SPECIAL.get(family, {}), **changes}
    if family in NO_GROUPS:
        values.pop("num_key_value_heads", None)
    if family in OWN_NAMES:
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            values.pop(name)
    if family == "gpt2":
        values.pop("max_position_embeddings")
    return AutoConfig.for_model(family, **values)


def model_of(family: str, seed: int = 0, headless: bool = False, **changes: Any) -> Any:
    """A tiny random model whose norms are not all ones, so that forgetting one is seen; `headless`: what saves as a
    model without a head."""
    torch.manual_seed(seed)
    auto = AutoModelForMaskedLM if FAMILIES[family].encoder else AutoModelForCausalLM
    if headless:
        auto, changes = AutoModel, {"tie_word_embeddings": False, **changes}
    model = auto.from_config(config_of(family, **changes)).eval().requires_grad_(False)
    model.config.architectures = [type(model).__name__]
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def anatomy_for(family: str = "llama", **changes: Any) -> Anatomy:
    return anatomy(config_of(family, **changes).to_dict())


LEVELS = tuple(Sparsity.parse(level) for level in (0.25, 0.5, "2:4", 0.75))


def mixed_genes(shape: Anatomy, levels: Sequence[Sparsity] = LEVELS, per: str = "sublayer") -> tuple[Gene, ...]:
    """Genes of every kind over all layers."""
    layers = range(len(shape.blocks))
    return (
        *structured_genes(shape, "attention", layers),
        *structured_genes(shape, "mlp", layers),
        *structured_genes(shape, "block", layers),
        *sparsity_genes(shape, levels, layers, per),
    )


def all_genes(shape: Anatomy, hidden: str | None = None) -> tuple[Gene, ...]:
    """Genes of every kind with widths, over all layers; `hidden`: the order of the residual width, if searched."""
    layers = range(len(shape.blocks))
    block = shape.blocks[0]
    genes = [
        *structured_genes(shape, "attention", layers, levels=tuple(range(block.dimensions["groups"], -1, -1))),
        *structured_genes(shape, "mlp", layers, levels="4 levels", multiple_of=4),
        *structured_genes(shape, "block", layers),
        *sparsity_genes(shape, LEVELS, layers, "sublayer"),
    ]
    if block.dimensions["queries"] > 1:
        genes += structured_genes(shape, "queries", layers, levels=(block.dimensions["queries"], 1))
    if hidden is not None:
        genes.append(hidden_gene(shape, (32, 24, 20), 4, hidden))
    return tuple(genes)


def drop_space(layers: int = 4, family: str = "llama") -> Space:
    """Attention and MLP drops over a tiny model, no budget."""
    shape = anatomy_for(family, num_hidden_layers=layers)
    genes = structured_genes(shape, "attention", range(layers)) + structured_genes(shape, "mlp", range(layers))
    return Space(shape, genes)


@dataclass
class TableEvaluator:
    """Losses from a seeded table: additive over genes and levels, with pairwise interactions and noise per sequence.

    `calls` counts (genome, sequence) pairs really scored; `broken` genomes fail.
    """

    space: Space
    interaction: float = 0.0
    noise: float = 0.0
    seed: int = 0
    length: int = 16
    calls: list[tuple[str, int]] = field(default_factory=list)
    broken: frozenset[Genome] = frozenset()

    def loss(self, genome: Genome) -> float:
        rng = np.random.default_rng(self.seed)
        total = 0.0
        for gene, level in zip(self.space.genes, genome.levels, strict=True):
            weights = np.sort(rng.random(len(gene.levels) - 1))
            total += float(weights[level - 1]) if level else 0.0
        pairs = rng.random((len(genome.levels), len(genome.levels)))
        changed = [index for index, level in enumerate(genome.levels) if level]
        return total + self.interaction * sum(float(pairs[a, b]) for a in changed for b in changed if a < b)

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for genome in genomes:
            key = self.space.key(genome)
            self.calls += [(key, index) for index in sequences]
            if genome in self.broken:
                yield self._evaluation(genome, key, sequences, (), "failed", "broken on purpose")
                continue
            base = self.loss(genome)
            values = tuple(base + self.noise * random.Random(f"{key} {index}").gauss(0.0, 1.0) for index in sequences)
            status = "ok" if self.space.feasible(genome) else "infeasible"
            yield self._evaluation(genome, key, sequences, values, status, "")

    def _evaluation(
        self, genome: Genome, key: str, sequences: range, values: tuple[float, ...], status: Any, reason: str
    ) -> Evaluation:
        return Evaluation(
            genome,
            key,
            sequences,
            {"kl": values} if values else {},
            self.space.costs(genome),
            status,
            reason,
            len(sequences) * self.length,
            len(sequences) * len(self.space.anatomy.blocks),
            0.001,
        )


class ListJournal:
    """A journal in memory."""

    def __init__(self, rows: Sequence[Evaluation] = ()) -> None:
        self.kept: dict[Question[Any], list[Any]] = {LOSSES: list(rows)}

    @property
    def rows(self) -> list[Evaluation]:
        """Of subnets as they are."""
        return self.kept[LOSSES]

    def answers(self, question: Question[Told]) -> list[Told]:
        return list(self.kept.get(question, ()))

    def append(self, question: Question[Told], answer: Told) -> None:
        self.kept.setdefault(question, []).append(answer)


def each(find: Callable[[Genome, range], Told]) -> Asker[Told]:
    """Asks for one genome after the other."""
    return lambda genomes, sequences: (find(genome, sequences) for genome in genomes)


def best_by_force(space: Space, evaluator: TableEvaluator) -> tuple[float, Genome]:
    """The true optimum of a small space."""
    return min((evaluator.loss(genome), genome) for genome in space.all() if space.feasible(genome))


WORDS = [f"word{index}" for index in range(VOCABULARY - 3)]


def save_tiny(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A checkpoint with a tokenizer of whole words, as a user would have it on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {name: index for index, name in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    if FAMILIES[family].encoder:
        # The last word makes room.
        vocabulary = {**{name: index for name, index in vocabulary.items() if name != WORDS[-1]}, "<mask>": 95}
        special |= {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    model_of(family, **changes).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def save_text(path: Path, documents: int = 40, words: int = 60, seed: int = 0) -> Path:
    """A text file of random words, documents separated by blank lines."""
    rng = random.Random(seed)
    path.write_text("\n\n".join(" ".join(rng.choices(WORDS, k=words)) for _ in range(documents)))
    return path


def tiny_recipe(folder: Path, text: Path, held_out: Path | None = None, **changes: Any) -> dict[str, Any]:
    """A recipe over a tiny checkpoint that runs in a second or two."""
    recipe: dict[str, Any] = {
        "model": {"path": str(folder)},
        "calibration": {"source": str(text), "sequences": 6, "length": 16, "windows_per_document": 3},
        "genes": [{"kind": "attention"}, {"kind": "mlp"}],
        "budgets": {"block_parameters": "<= 0.6x"},
        "strategy": {"name": "greedy", "sequences": 2},
        "baselines": [],
        "seed": 0,
    }
    if held_out is not None:
        recipe["held_out"] = [{"source": str(held_out), "sequences": 5, "length": 16, "windows_per_document": 2}]
    return {**recipe, **changes}


def steps_of(recipe: Recipe) -> Steps:
    """The search that a recipe asks for, checked as a run checks it; nothing of it is trained afterwards."""
    allowance = Allowance(recipe.effort.tokens, recipe.effort.evaluations)
    problem = problem_of(recipe, build_space(recipe), allowance)
    recipe.strategy.check(problem)
    return recipe.strategy.steps(problem)
