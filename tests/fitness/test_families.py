"""Each family on a tiny random model of it, forward for forward."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache

from secateur.fitness.blocks import Blocks
from secateur.fitness.checkpoint import anatomy_of
from secateur.fitness.level_store import LevelStore
from secateur.fitness.materialise import materialised, smaller_config
from secateur.fitness.prepare import prepare
from secateur.fitness.subnet import Subnet
from secateur.operators.sampling import uniform
from secateur.space.costs import dense_state
from secateur.space.errors import SecateurError
from secateur.space.families import FAMILIES, anatomy
from secateur.space.space import Space
from tests.tiny import FAMILY_NAMES, LEVELS, VOCABULARY, config_of, mixed_genes, model_of

CONTEXT = 12
IDS = torch.tensor([[random.Random(7).randrange(3, VOCABULARY) for _ in range(CONTEXT)]])


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool(torch.allclose(first, second, rtol=1e-4, atol=1e-4))


def through_blocks(blocks: Blocks, subnet: Subnet | None = None) -> torch.Tensor:
    hidden = blocks.embed(IDS)
    for index in range(len(blocks.modules)):
        hidden = subnet.run(index, hidden) if subnet else blocks.run(index, hidden)
    return blocks.logits(hidden)


@pytest.fixture(params=FAMILY_NAMES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_anatomy_is_that_of_the_model(family: str) -> None:
    for tied in (True, False):
        model = model_of(family, tie_word_embeddings=tied)
        shape = anatomy_of(model)
        space = Space(shape, mixed_genes(shape))
        assert space.dense_costs.parameters == sum(p.numel() for p in model.parameters())
        assert shape == anatomy(model.config.to_dict())


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", {"attention_bias": True}),
        ("smollm3", {"attention_bias": True, "mlp_bias": True}),
        ("gemma2", {"attention_bias": True}),
        ("olmo2", {"attention_bias": True}),
        ("qwen2", {"num_key_value_heads": 4}),
        ("opt", {"enable_bias": False, "word_embed_proj_dim": 32}),
        ("opt", {"layer_norm_elementwise_affine": False}),
        ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
        ("gpt2", {"n_inner": None}),
    ],
)
def test_variants_of_a_family(family: str, changes: dict[str, Any]) -> None:
    model = model_of(family, **changes)
    blocks = Blocks(model, anatomy_of(model))
    assert close(through_blocks(blocks), model(IDS).logits[0])


def test_block_by_block_is_the_model(family: str) -> None:
    model = model_of(family)
    blocks = Blocks(model, anatomy_of(model))
    assert torch.equal(through_blocks(blocks), model(IDS).logits[0].float())
    hidden = blocks.embed(IDS)
    assert close(blocks.logits(hidden)[3:5], blocks.logits(hidden[:, 3:5])), "the head is position-wise"


def zeroed(model: Any, space: Space, genome: Any, store: LevelStore) -> torch.Tensor:
    """The slow obvious twin: a deep copy whose dropped branches write zeros through zeroed output projections."""
    twin = copy.deepcopy(model)
    for block, state in zip(space.anatomy.blocks, space.states(genome), strict=True):
        module = twin.get_submodule(f"{space.anatomy.blocks_path}.{block.index}")
        for sublayer, kept in zip(block.sublayers, (state.attention, state.mlp), strict=True):
            if not kept:
                last = module.get_submodule(sublayer.linears[-1].name)
                last.weight.zero_()
                if last.bias is not None:
                    last.bias.zero_()
        for position, (linear, level) in enumerate(zip(block.linears, state.sparsity, strict=True)):
            if level:
                module.get_parameter(f"{linear.name}.weight").copy_(store.weight(block.index, position, level))
    logits: torch.Tensor = twin(IDS).logits[0].float()
    return logits


def test_applied_is_zeroed_is_materialised_and_undone(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape), context=CONTEXT)
    blocks = Blocks(model, shape)
    prepare(blocks, "magnitude", LEVELS, range(len(shape.blocks)), None, tmp_path)
    store = LevelStore(tmp_path, "magnitude", shape, blocks.modules)
    before = {name: (p.data_ptr(), p.clone()) for name, p in model.named_parameters()}
    modules = dict(model.named_modules())
    rng = np.random.default_rng(0)
    for _ in range(12):
        genome = uniform(space, rng)
        states = space.states(genome)
        with Subnet(blocks, store) as subnet:
            subnet.apply(states)
            applied = through_blocks(blocks, subnet)
        assert close(applied, zeroed(model, space, genome, store)), space.to_json(genome)
        smaller = materialised(model, shape, states, store)
        assert close(applied, smaller(IDS).logits[0].float())
        check_costs(space, genome, smaller)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == {n: ptr for n, (ptr, _) in before.items()}
    assert all(torch.equal(p, before[name][1]) for name, p in model.named_parameters())
    assert dict(model.named_modules()) == modules


def check_costs(space: Space, genome: Any, smaller: Any) -> None:
    """Computed costs are what one counts on the materialised model."""
    costs = space.costs(genome)
    prefix = f"{space.anatomy.blocks_path}."
    parameters = dict(smaller.named_parameters())
    names = {f"{linear.name}.weight" for block in space.anatomy.blocks for linear in block.linears}
    inside = {n.removeprefix(prefix).partition(".")[2]: 0 for n in parameters if n.startswith(prefix)}
    assert costs.parameters == sum(p.numel() for p in parameters.values())
    assert costs.block_parameters == sum(p.numel() for n, p in parameters.items() if n.startswith(prefix))
    assert costs.weight_bytes == sum(p.numel() * p.element_size() for p in parameters.values())
    assert inside is not None
    linears = [
        p for n, p in parameters.items() if n.startswith(prefix) and n.removeprefix(prefix).partition(".")[2] in names
    ]
    assert costs.linear_weights == sum(int((p != 0).sum()) for p in linears)
    assert costs.parameters - costs.nonzero_parameters == sum(int((p == 0).sum()) for p in linears)
    if space.anatomy.family != "gemma2":  # its soft-capped attention is not a counted kernel call
        windows = [block.window or CONTEXT for block in space.anatomy.blocks]
        smaller.config._attn_implementation = "eager"
        with FlopCounterMode(display=False) as counter:
            smaller(IDS, use_cache=False)
        # The counter sees whole matrices, masked or not: a window shorter than the context is ours to subtract.
        beyond = sum(
            2 * block.heads * block.head_dim * (CONTEXT - min(CONTEXT, window))
            for block, window, state in zip(space.anatomy.blocks, windows, space.states(genome), strict=True)
            if state.attention
        )
        rotary = rotary_macs(smaller)
        assert counter.get_total_flops() / 2 / CONTEXT == costs.macs + beyond + rotary
    cache = DynamicCache()
    smaller(IDS, past_key_values=cache, use_cache=True)
    sizes = [
        layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if getattr(layer, "keys", None) is not None
    ]
    assert costs.kv_bytes * CONTEXT == sum(sizes)


def rotary_macs(model: Any) -> float:
    """Rotary embeddings are computed with a matrix product of positions and frequencies; it is no cost of ours."""
    with FlopCounterMode(display=False) as counter:
        for name, module in model.named_modules():
            if name.endswith("rotary_emb"):
                types = (
                    set(getattr(model.config, "layer_types", None) or []) if hasattr(module, "layer_types") else set()
                )
                states = torch.zeros(1, CONTEXT, 32)
                for kind in sorted(types) or [None]:
                    args = {"layer_type": kind} if kind else {}
                    module(states, position_ids=torch.arange(CONTEXT)[None], **args)
    return float(counter.get_total_flops() / 2 / CONTEXT)


def test_depth_only_checkpoints_load_with_plain_transformers(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape))
    states = space.states(space.from_json({"block@2": 0, "block@3": 0}))
    smaller: Any = materialised(model, shape, states, None)
    smaller.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(model)
    assert torch.equal(loaded(IDS).logits, smaller(IDS).logits)
    cached = loaded.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=True)
    assert torch.equal(cached, loaded.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=False))
    with Subnet(Blocks(model, shape)) as subnet:
        subnet.apply(states)
        assert close(through_blocks(subnet._blocks, subnet), loaded(IDS).logits[0])


def test_unsliced_layer_lists_are_refused_by_transformers() -> None:
    """The trap that `smaller_config` avoids."""
    model = model_of("qwen3")
    states = [dense_state(block) for block in anatomy_of(model).blocks]
    states[1] = type(states[1])(0, 0, states[1].sparsity)
    assert len(smaller_config(model.config, states).layer_types) == 3


def test_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(SecateurError, match=r"unknown model family 'lama'; did you mean 'llama'\?.*families.py"):
        anatomy({"model_type": "lama"})
    with pytest.raises(SecateurError, match=r"bert.*gpt_neox"):
        anatomy({"model_type": "bert"})
    assert len(FAMILIES) == 13


def test_a_model_that_is_not_what_its_family_says() -> None:
    model = model_of("llama")
    model.model.layers[1].mlp.extra = torch.nn.Linear(2, 2)
    with pytest.raises(SecateurError, match=r"family llama: parameter model.layers.1.mlp.extra.bias is \(2,\)"):
        anatomy_of(model)


def test_opt_350m_is_refused() -> None:
    with pytest.raises(SecateurError, match="do_layer_norm_before"):
        anatomy(config_of("opt", do_layer_norm_before=False).to_dict())


def test_first_attention_dropped_only_where_a_recipe_insists() -> None:
    model = model_of("llama")
    shape = anatomy_of(model)
    from secateur.space.build import structured_genes

    space = Space(shape, structured_genes(shape, "attention", [0], keep_first_attention=False))
    smaller = materialised(model, shape, space.states(space.smallest), None)
    with Subnet(Blocks(model, shape)) as subnet:
        subnet.apply(space.states(space.smallest))
        assert close(through_blocks(subnet._blocks, subnet), smaller(IDS).logits[0])


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_the_first_layer_of_each_sort_keeps_its_attention(family: str) -> None:
    """Caches read the length of a chunked sequence off the first layer of each sort of window."""
    model = model_of(family)
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape))
    kept = {shape.blocks.index(block) for block in shape.blocks} - {
        gene.members[0][0] for gene in space.genes if gene.kind == "attention"
    }
    assert kept == {0, 1}
    smaller: Any = materialised(model, shape, space.states(space.from_json({"attention@2": 0, "attention@3": 0})), None)
    cache = DynamicCache(config=smaller.config)
    first = smaller(IDS[:, :7], past_key_values=cache, use_cache=True).logits
    second = smaller(IDS[:, 7:], past_key_values=cache, use_cache=True).logits
    assert close(torch.cat([first, second], 1), smaller(IDS).logits)


def test_gpt2_that_counts_its_layers_is_refused() -> None:
    with pytest.raises(SecateurError, match="scale_attn_by_inverse_layer_idx"):
        anatomy(config_of("gpt2", scale_attn_by_inverse_layer_idx=True).to_dict())


def test_nothing_left_is_no_model() -> None:
    model = model_of("llama")
    states = [type(dense_state(b))(0, 0, dense_state(b).sparsity) for b in anatomy_of(model).blocks]
    with pytest.raises(SecateurError, match="removes every block"):
        smaller_config(model.config, states)
