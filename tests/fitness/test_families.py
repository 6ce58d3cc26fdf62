"""Each family on a tiny random model of it, forward for forward."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, DynamicCache
from transformers.pytorch_utils import Conv1D

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.subnets.materialise import materialised, smaller_config
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.subnets.weights import Weights
from secateur.plans.formats.linears import OTHER_ORDER
from secateur.space.errors import SecateurError
from secateur.space.families.table import FAMILIES, anatomy
from secateur.space.space import Space
from secateur.space.state import dense_state
from tests.tiny import EVERY_FAMILY, VOCABULARY, config_of, mixed_genes, model_of

CONTEXT = 12
IDS = torch.tensor([[random.Random(7).randrange(3, VOCABULARY) for _ in range(CONTEXT)]])


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool(torch.allclose(first, second, rtol=1e-4, atol=1e-4))


def through_blocks(blocks: Blocks, subnet: Subnet | None = None) -> torch.Tensor:
    hidden = blocks.embed(IDS)
    for index in range(len(blocks.modules)):
        hidden = subnet.run(index, hidden) if subnet else blocks.run(index, hidden)
    return blocks.logits(hidden)


@pytest.fixture(params=EVERY_FAMILY)
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
        ("bert", {"type_vocab_size": 3}),
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


def test_depth_only_checkpoints_load_with_plain_transformers(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape))
    states = space.states(space.from_json({"block@2": 0, "block@3": 0}))
    smaller: Any = materialised(model, shape, states, Weights(Blocks(model, shape)))
    smaller.save_pretrained(tmp_path)
    loaded = (AutoModelForCausalLM if shape.causal else AutoModelForMaskedLM).from_pretrained(tmp_path).eval()
    assert type(loaded) is type(model)
    assert torch.equal(loaded(IDS).logits, smaller(IDS).logits)
    if shape.causal:
        cached = loaded.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=True)
        assert torch.equal(cached, loaded.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=False))
    with Subnet(Blocks(model, shape)) as subnet:
        subnet.apply(states)
        assert close(through_blocks(subnet._blocks, subnet), loaded(IDS).logits[0])


def test_unsliced_layer_lists_are_refused_by_transformers() -> None:
    """The trap that `smaller_config` avoids."""
    model = model_of("qwen3")
    shape = anatomy_of(model)
    states = [dense_state(block) for block in shape.blocks]
    states[1] = states[1].with_kept(groups=0, queries=0, channels=0)
    assert len(smaller_config(model.config, shape, states).layer_types) == 3


def test_linears_are_in_the_order_of_modules(family: str) -> None:
    """By which tools read lists; those of families where they are not are refused."""
    model = model_of(family)
    shape = anatomy_of(model)
    block: Any = model.get_submodule(shape.blocks_path)[0]
    registered = [name for name, one in block.named_modules() if isinstance(one, torch.nn.Linear | Conv1D)]
    assert (registered == [linear.name for linear in shape.blocks[0].linears]) == (family not in OTHER_ORDER)


def test_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(SecateurError, match=r"unknown model family 'lama'; known: arcee, bert, .*smollm3"):
        anatomy({"model_type": "lama"})
    with pytest.raises(SecateurError, match=r"bert.*gpt_neox"):
        anatomy({"model_type": "t5"})
    assert len(FAMILIES) == 31


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
    from tests.genes import structured_genes

    space = Space(shape, structured_genes(shape, "attention", [0], keep_first_attention=False))
    smaller = materialised(model, shape, space.states(space.smallest), Weights(Blocks(model, shape)))
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
        gene.members[0][0] for gene in space.genes if gene.kind.name == "attention"
    }
    assert kept == {0, 1}
    states = space.states(space.from_json({"attention@2": 0, "attention@3": 0}))
    smaller: Any = materialised(model, shape, states, Weights(Blocks(model, shape)))
    cache = DynamicCache(config=smaller.config)
    first = smaller(IDS[:, :7], past_key_values=cache, use_cache=True).logits
    second = smaller(IDS[:, 7:], past_key_values=cache, use_cache=True).logits
    assert close(torch.cat([first, second], 1), smaller(IDS).logits)


def test_gpt2_that_counts_its_layers_is_refused() -> None:
    with pytest.raises(SecateurError, match="scale_attn_by_inverse_layer_idx"):
        anatomy(config_of("gpt2", scale_attn_by_inverse_layer_idx=True).to_dict())


def test_nothing_left_is_no_model() -> None:
    model = model_of("llama")
    shape = anatomy_of(model)
    states = [dense_state(block).with_kept(groups=0, queries=0, channels=0) for block in shape.blocks]
    with pytest.raises(SecateurError, match="removes every block"):
        smaller_config(model.config, shape, states)
