"""Formats of other tools: what each can carry, what it refuses, and every one that can be read back read back."""

import csv
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.plans.features import ALL, OTHERS, Subject, features
from secateur.plans.formats.table import FORMATS, files, refusal
from secateur.plans.reading import read_states
from secateur.space.anatomy import Anatomy
from secateur.space.errors import SecateurError
from secateur.space.grids import Grid
from secateur.space.state import BlockState, dense_state
from secateur.space.treatments import Sparsity, Treatment
from tests.consumers.environment import ROOT
from tests.consumers.table import BEGIN, END, expressed
from tests.genes import state_of, without
from tests.plans import plan_source, write_files
from tests.tiny import anatomy_for

ANATOMY = anatomy_for(num_hidden_layers=5, head_dim=8)
BLOCK = ANATOMY.blocks[0]
READ = [
    name
    for name, form in FORMATS.items()
    if form.write is not None and name not in ("llama-quantize", "torch-prune", "mlx")
]
"""Those that say all of it in one file; llama-quantize's may be two, torch-prune's is torchao's, MLX's is not read."""
MAIN = {
    "evopress-levels": "levels.txt",
    "evopress-bits": "levels.txt",
    "darwinlm": "darwinlm.txt",
    "alphapruning": "profile.npy",
}


def source(states: list[BlockState]) -> Subject:
    return plan_source(ANATOMY, states)


def dense(anatomy: Anatomy = ANATOMY) -> list[BlockState]:
    return [dense_state(block) for block in anatomy.blocks]


def changed(index: int, state: BlockState) -> Subject:
    states = dense()
    states[index] = state
    return source(states)


@st.composite
def sources(draw: st.DrawFn, carries: frozenset[str]) -> Subject:
    """Plans that ask for nothing but what a format carries."""
    states = []
    keep = draw(st.integers(0, len(ANATOMY.blocks) - 1))
    hidden = BLOCK.hidden
    if "hidden" in carries:
        hidden = draw(st.sampled_from([BLOCK.hidden, BLOCK.hidden // 2]))
    for block in ANATOMY.blocks:
        attention, queries, mlp = block.dimensions["groups"], block.dimensions["queries"], block.dimensions["channels"]
        if "groups" in carries:
            attention = draw(st.integers(1, block.dimensions["groups"]))
        if "queries" in carries:
            queries = draw(st.integers(1, block.dimensions["queries"]))
        if "channels" in carries:
            mlp = draw(st.integers(1, block.dimensions["channels"]))
        if block.index != keep and "layers" in carries and draw(st.booleans()):
            attention = mlp = 0
        elif "sublayers" in carries:
            dropped = draw(st.sampled_from([None, "attention", "mlp"]))
            attention, mlp = (0 if dropped == "attention" else attention), (0 if dropped == "mlp" else mlp)
        levels: list[Treatment] = [Sparsity()]
        if "shares" in carries:
            levels += [Sparsity(steps) for steps in (1, 73, 100, 199)]
        if "patterns" in carries:
            levels += [Sparsity(keep=2, of=4), Sparsity(keep=1, of=4)]
        levels += [Grid.read(text) for text in ("int4-g16", "int8-sym", "int3-g8-sym", "int2")] * ("grid" in carries)
        zeros = [draw(st.sampled_from(levels)) for _ in block.linears]
        states.append(state_of(block, zeros, groups=attention, queries=queries, channels=mlp, hidden=hidden))
    return source(states)


@pytest.mark.parametrize("name", READ)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), windows=st.booleans())
def test_what_a_format_can_express_comes_back(
    name: str, data: st.DataObject, windows: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    form = FORMATS[name]
    plan = data.draw(sources(form.carries))
    if refusal(form, plan) is not None:
        return
    contents = files(form, plan)
    if windows:
        # Windows line ends, a mark at the beginning, no line end at the end.
        contents = {
            file: "\ufeff" + text.rstrip("\n").replace("\n", "\r\n") if isinstance(text, str) else text
            for file, text in contents.items()
            if not file.endswith(".py")
        }
    folder = tmp_path_factory.mktemp(name)
    write_files(contents, folder)
    assert read_states(folder / MAIN.get(name, next(iter(contents))), ANATOMY) == plan.states


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_cannot_express_is_refused_with_the_place(name: str) -> None:
    form = FORMATS[name]
    half = (Sparsity(100), *(Sparsity(),) * (len(BLOCK.linears) - 1))
    pattern = (Sparsity(keep=2, of=4), *half[1:])
    asked: dict[str, tuple[Subject, str]] = {
        "layers": (changed(2, without(BLOCK, "attention", "mlp")), "layer 2 is dropped whole"),
        "sublayers": (changed(3, without(BLOCK, "attention")), "layer 3 keeps its MLP alone"),
        "groups": (changed(1, state_of(BLOCK, groups=1)), "layer 1 keeps 1 of 2 KV groups"),
        "queries": (changed(1, state_of(BLOCK, queries=1)), "layer 1 keeps 1 of 2 query heads in each KV group"),
        "channels": (changed(4, state_of(BLOCK, channels=40)), "layer 4 keeps 40 of 48 MLP channels"),
        "hidden": (
            source([state.with_kept(hidden=24) for state in dense()]),
            "the residual stream keeps 24 of 32 channels",
        ),
        "shares": (changed(0, state_of(BLOCK, half)), "layer 0 has 50.0% zeros in self_attn.q_proj"),
        "patterns": (changed(0, state_of(BLOCK, pattern)), "layer 0 has 2:4 zeros in self_attn.q_proj"),
    }
    assert asked.keys() == ALL - {OTHERS}
    for feature, (plan, where) in asked.items():
        assert set(features(ANATOMY, plan.states)) == {feature}
        if feature in form.carries:
            assert "which it cannot express" not in (refusal(form, plan) or "")
            continue
        assert refusal(form, plan) == f"{where}, which it cannot express"
        if form.write is not None:
            with pytest.raises(SecateurError, match=f"--to {name}: .*cannot express"):
                files(form, plan)


def test_what_tools_get_wrong_without_a_word_is_refused() -> None:
    """Traps of the tools themselves, each with its reason."""
    flat = sparse([Sparsity(100)] * 7)
    command = str(files(FORMATS["alphapruning"], flat)["command.txt"])
    assert "--prune_method wanda --sparsity_ratio 0.5 " in command, "its map would divide by nothing"
    assert "without a word" in (refusal(FORMATS["torch-pruning"], changed(1, state_of(BLOCK, queries=1))) or "")
    assert "no layer is dropped" in (refusal(FORMATS["llama-quantize"], source(dense())) or "")
    assert "several to a group" in (refusal(FORMATS["darwinlm"], changed(1, state_of(BLOCK, groups=1))) or "")
    first = changed(0, without(BLOCK, "attention"))
    assert "head size off the first layer" in (refusal(FORMATS["gguf"], first) or "")
    assert "caches read their length off the first layer" in (refusal(FORMATS["hf"], first) or "")
    qwen = anatomy_for("qwen3", num_hidden_layers=4)
    plan = plan_source(qwen, dense(qwen))
    assert "qwen3" in (refusal(FORMATS["mergekit"], plan) or "")
    assert "whose head is its embedding" in (refusal(FORMATS["gguf"], plan) or "")
    narrow = plan_source(qwen, [state.with_kept(queries=1) for state in dense(qwen)])
    assert "norms of their own" in (refusal(FORMATS["torch-pruning"], narrow) or "")
    gpt = anatomy_for("gpt2")
    plan = plan_source(gpt, dense(gpt))
    assert "Conv1D" in (refusal(FORMATS["llm-compressor"], plan) or "")
    assert "does not know gpt2" in (refusal(FORMATS["block_configs"], plan) or "")
    assert "laid out differently" in (refusal(FORMATS["darwinlm"], plan) or "")
    assert "Conv1D" in (refusal(FORMATS["torch-prune"], plan) or "")
    phi = anatomy_for("phi3")
    plan = plan_source(phi, [state_of(block, [Sparsity(100)]) for block in phi.blocks])
    for name in ("llm-compressor", "alphapruning"):
        assert "another order" in (refusal(FORMATS[name], plan) or "")
    assert refusal(FORMATS["torchao"], plan) is None, "it goes by names"
    wide = anatomy_for(num_hidden_layers=4, head_dim=12)
    plan = plan_source(wide, dense(wide), "package:m")
    for name in ("multipruner", "darwinlm"):
        assert "32 / 4 wide, and here it is 12" in (refusal(FORMATS[name], plan) or "")
    assert "folders and names of a hub" in (refusal(FORMATS["mergekit"], plan) or "")
    assert refusal(FORMATS["hf"], plan) is None, "what is kept whole is known"
    plan = plan_source(wide, [state.with_kept(channels=24) for state in dense(wide)], "package:m")
    assert "not what" in (refusal(FORMATS["hf"], plan) or ""), "another tool's file does not say which channels"


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (9, 3), (15, 5), (28, 4), (14, 2)])
def test_torch_prunings_roundings_give_what_was_meant(heads: int, groups: int) -> None:
    """Its arithmetic: int(channels * (1 - ratio)) are kept, ceil(ceil(ratio * heads) / groups) of each group go."""
    sizes: dict[str, Any] = {
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "hidden_size": 8 * heads,
        "head_dim": 8,
    }
    shape = anatomy_for(num_hidden_layers=4, intermediate_size=1536, **sizes)
    for queries, channels in itertools.product(range(2, heads // groups + 1), (1, 511, 512, 1024, 1535)):
        plan = plan_source(shape, [state.with_kept(queries=queries, channels=channels) for state in dense(shape)])
        ratios = json.loads(files(FORMATS["torch-pruning"], plan)["ratios.json"])
        for ratio in ratios["pruning_ratio_dict"].values():
            assert int(1536 * (1 - ratio)) == channels
        for ratio in ratios["head_pruning_ratio_dict"].values():
            assert math.ceil(math.ceil(ratio * heads) / groups) == heads // groups - queries


def mixed() -> Subject:
    levels = [Sparsity(60 + 2 * index) for index in range(7)]
    states = sparse(levels).states
    odd = state_of(ANATOMY.blocks[2], [*levels[:5], Sparsity(keep=1, of=4), Sparsity()])
    return source([*states[:2], odd, *states[3:]])


def sparse(levels: list[Sparsity]) -> Subject:
    """The same levels of the linears in every block."""
    return source([state_of(block, levels) for block in ANATOMY.blocks])


def test_llm_compressor_gets_names_in_module_order_and_a_stage_for_each_structure() -> None:
    recipe = yaml.safe_load(files(FORMATS["llm-compressor"], mixed())["recipe.yaml"])
    assert list(recipe) == ["pruning_stage"], "it reads keys that end in _stage alone"
    assert all(name.endswith("_modifiers") for name in recipe["pruning_stage"])
    first, second = (group["SparseGPTModifier"] for group in recipe["pruning_stage"].values())
    assert (first["mask_structure"], second["mask_structure"]) == ("0:0", "3:4"), "it says how many of four are zero"
    assert second["sparsity"] == [0.75]
    assert len(first["targets"]) == len(first["sparsity"]) == 33
    assert first["targets"][:2] == ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"]
    assert first["sparsity"][:2] == [0.3, 0.31]
    assert second["targets"] == ["model.layers.2.mlp.up_proj"]
    assert not any("lm_head" in name for name in first["targets"])


def test_torch_lists_have_floats_and_patterns_as_blocks() -> None:
    entries = json.loads(files(FORMATS["torchao"], mixed())["sparsity.json"])
    assert all(isinstance(entry["sparsity_level"], float) for entry in entries)
    [pattern] = [entry for entry in entries if "zeros_per_block" in entry]
    assert pattern["tensor_fqn"] == "model.layers.2.mlp.up_proj.weight"
    assert (pattern["sparse_block_shape"], pattern["zeros_per_block"]) == ([1, 4], 3)


def test_alphaprunings_linear_map_gives_the_profile_back() -> None:
    """Its `prune_all`: values between (1 - eps) and (1 + eps), scaled so that the mean by weights is the ratio."""
    levels = [Sparsity(30 + 10 * index) for index in range(7)]
    contents = files(FORMATS["alphapruning"], sparse(levels))
    numbers = json.loads(contents["profile.json"])
    buffer = contents["profile.npy"]
    assert isinstance(buffer, bytes)
    values = np.load(io.BytesIO(buffer), allow_pickle=False)
    weights = np.array([linear.weights for block in ANATOMY.blocks for linear in block.linears], dtype=float)
    low, high = 1 - numbers["epsilon"], 1 + numbers["epsilon"]
    ratios = (values - values.min()) / (values.max() - values.min()) * (high - low) + low
    ratios *= numbers["sparsity_ratio"] * weights.sum() / (ratios * weights).sum()
    assert np.allclose(ratios, [level.share for _ in ANATOMY.blocks for level in levels], atol=1e-12)


def test_evopress_levels_count_whole_weights_around_the_overall_sparsity() -> None:
    levels = [Sparsity(30 + 10 * index) for index in range(7)]
    contents = files(FORMATS["evopress-levels"], sparse(levels))
    numbers = json.loads(contents["metadata.json"])
    lines = dict(line.split(": ") for line in str(contents["levels.txt"]).splitlines())
    for block in ANATOMY.blocks:
        for linear, level in zip(block.linears, levels, strict=True):
            name = f"model.layers.{block.index}.{linear.name}"
            zeros = numbers["sparsity"] * linear.weights + int(lines[name]) * numbers["weights_diff"]
            assert zeros == pytest.approx(level.share * linear.weights, abs=numbers["weights_diff"] / 2)
            assert abs(int(lines[name])) <= numbers["num_levels"]
    assert isinstance(numbers["weights_diff"], int), "its script takes whole weights"


def test_mergekit_ranges_are_half_open_and_in_runs() -> None:
    states = dense()
    for index in (1, 4):
        states[index] = without(BLOCK, "attention", "mlp")
    recipe = yaml.safe_load(files(FORMATS["mergekit"], source(states))["mergekit.yaml"])
    ranges = [part["sources"][0]["layer_range"] for part in recipe["slices"]]
    assert ranges == [[0, 1], [2, 4]]
    assert recipe["merge_method"] == "passthrough"


def test_a_csv_profile_has_a_row_for_each_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(str(files(FORMATS["csv"], mixed())["profile.csv"]))))
    assert [row["layer"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[2]["mlp.up_proj"] == "1:4"


NOT_THIS_MODEL = {
    "levels.txt": ("model.layers.9.mlp.up_proj: 1\n", "no 'model.layers.9.mlp.up_proj'"),
    "double.txt": ("model.layers.1.mlp.up_proj: 1\nmodel.layers.1.mlp.up_proj: 2\n", "line 2: .* twice"),
    "word.txt": ("model.layers.1.mlp.up_proj: few\n", "no 'name: level'"),
    "sleb.txt": ("[1, 7]", "block 7, but the model has 5"),
    "torchao.json": (
        '[{"tensor_fqn": "model.layers.1.mlp.up.weight", "sparsity_level": 0.5}]',
        "no 'model.layers.1.mlp",
    ),
    "one.json": ('[{"tensor_fqn": "model.layers.1.mlp.up_proj.weight", "sparsity_level": 1}]', "less than 1"),
    "merge.yaml": ("merge_method: passthrough\nslices: [{sources: [{model: m, layer_range: [0, 9]}]}]", "up to 8"),
    "again.yaml": (
        "merge_method: passthrough\n"
        "slices: [{sources: [{model: m, layer_range: [0, 3]}]}, {sources: [{model: m, layer_range: [2, 5]}]}]",
        "repeated",
    ),
    "ties.yaml": ("merge_method: ties\nslices: []", "passthrough alone"),
    "short.yaml": (
        "s: {m: {SparseGPTModifier: {sparsity: [0.1, 0.2], targets: [LlamaDecoderLayer]}}}",
        "2 shares for 5 modules",
    ),
    "head.yaml": ("s: {m: {WandaPruningModifier: {sparsity: [0.5], targets: [Linear]}}}", "1 shares for 36 modules"),
    "miss.yaml": ("s: {m: {WandaPruningModifier: {sparsity: 0.5, targets: ['re:.*expert']}}}", "nothing .* matches"),
    "bc.json": ('{"block_configs": [{"attention": {}, "ffn": {}}]}', "1 blocks, the model 5"),
    "plc.json": ('{"num_hidden_layers": 4, "per_layer_config": {}}', "plan.json beside it"),
    "more.json": ('{"pruned_mlp_idx": [], "pruned_mlp_width": {"1": 4800}}', "keeps 4800 of 48"),
    "bad.csv": ("a,b\n1,2\n", "no column 'layer'"),
    "up.csv": ("layer,kv_groups,query_heads_per_group,mlp_channels,mlp.upproj\n0,2,2,48,0.5\n", "no 'mlp.upproj'"),
    "two.yaml": (
        "merge_method: passthrough\n"
        "slices: [{sources: [{model: m, layer_range: [0, 3]}]}, {sources: [{model: n, layer_range: [3, 5]}]}]",
        "2 models",
    ),
    "half.yaml": (
        "merge_method: passthrough\nslices: [{sources: [{model: m, layer_range: [0, 5], "
        "parameters: {scale: [{filter: o_proj, value: 0.5}]}}]}]",
        "a scale of 0.5",
    ),
    "owl.yaml": ("s: {m: {WandaPruningModifier: {sparsity: 0.5, sparsity_profile: owl, targets: Linear}}}", "profile"),
    "regex.yaml": ("s: {m: {WandaPruningModifier: {sparsity: 0.5, targets: ['re:*.mlp']}}}", "not what its format"),
    "blocks.json": (
        '[{"tensor_fqn": "model.layers.1.mlp.up_proj.weight", "sparsity_level": 0.5, '
        '"sparse_block_shape": [1, 4], "zeros_per_block": 2}]',
        "are a pattern; these are not",
    ),
    "five.json": (
        '[{"tensor_fqn": "model.layers.1.mlp.up_proj.weight", "sparsity_level": 1.0, '
        '"sparse_block_shape": [1, 5], "zeros_per_block": 2}]',
        "no whole 3:5",
    ),
    "odd.json": ('{"pruned_mlp_idx": [], "pruned_attn_width": {"1": 12}}', "no whole KV groups"),
    "outside.json": ('{"num_hidden_layers": 5, "per_layer_config": {"9": {"skip": ["mlp"]}}}', "layer 9"),
    "other.json": ('{"pruning_ratio_dict": {"model.layers.1.mlp.down_proj": 0.5}}', "neither an MLP's input"),
    "bomb.yaml": ("a: &a {b: *a}", "a value that holds itself"),
    "empty.npy": ("", "cannot be read"),
    "zip.npy": ("PK\x03\x04", "cannot be read"),
}


@pytest.mark.parametrize("name", NOT_THIS_MODEL)
def test_what_does_not_fit_the_model_is_refused_by_name(name: str, tmp_path: Path) -> None:
    text, message = NOT_THIS_MODEL[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "metadata.json").write_text('{"sparsity": 0.5, "weights_diff": 8}')
    with pytest.raises(SecateurError, match=message):
        read_states(tmp_path / name, ANATOMY)


def test_levels_without_their_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "levels.txt").write_text("model.layers.1.mlp.up_proj: 1\n")
    with pytest.raises(SecateurError, match=r"metadata\.json beside it"):
        read_states(tmp_path / "levels.txt", ANATOMY)


def test_lines_may_come_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"sparsity": 0.5, "weights_diff": 153.6}')
    (tmp_path / "levels.txt").write_text("model.layers.3.mlp.up_proj:  -1\nmodel.layers.1.self_attn.q_proj: 2")
    states = read_states(tmp_path / "levels.txt", ANATOMY)
    assert states[3].level("mlp.up_proj") == Sparsity(80)
    assert states[1].level("self_attn.q_proj") == Sparsity(160)
    assert states[0] == dense()[0]


def levels_of(state: BlockState) -> tuple[Treatment, ...]:
    return state.levels(BLOCK)


def pair_of(state: BlockState) -> tuple[int, int]:
    """KV groups and channels."""
    return state.kept["groups"], state.kept["channels"]


def test_llm_compressor_recipes_by_class_regex_and_default(tmp_path: Path) -> None:
    """In module order whatever the order of the targets; the head has a place in the list unless it is ignored."""
    path = tmp_path / "r.yaml"

    def read(**modifier: object) -> tuple[BlockState, ...]:
        path.write_text(yaml.safe_dump({"stage": {"modifiers": {"SparseGPTModifier": modifier}}}))
        return read_states(path, ANATOMY)

    by_layer = read(sparsity=[0.1, 0.2, 0.3, 0.4, 0.5], targets=["LlamaDecoderLayer"], ignore=["re:.*lm_head"])
    assert [levels[0].share for levels in map(levels_of, by_layer)] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(len(set(levels_of(state))) == 1 for state in by_layer)
    downs = read(sparsity=[0.1, 0.2], targets=["model.layers.4.mlp.down_proj", "model.layers.1.mlp.down_proj"])
    assert (levels_of(downs[1])[6].share, levels_of(downs[4])[6].share) == (0.1, 0.2)
    every = read(sparsity=0.5, targets="Linear", ignore=["lm_head", r"re:.*\.0\."])
    assert not every[0].treated
    assert all(level.share == 0.5 for state in every[1:] for level in levels_of(state))
    pattern = read(sparsity=0.5, mask_structure="2:4", targets=[r"re:.*layers\.[12]\.mlp"])
    assert str(levels_of(pattern[1])[4]) == "2:4"
    assert not pattern[0].treated


def test_mergekit_recipes_with_scales_drop_sublayers(tmp_path: Path) -> None:
    scaled = {"scale": [{"filter": "o_proj", "value": 0.0}, {"value": 1.0}]}
    slices = [
        {"sources": [{"model": "m", "layer_range": [0, 2]}]},
        {"sources": [{"model": "m", "layer_range": [2, 3], "parameters": scaled}]},
        {"sources": [{"model": "m", "layer_range": [4, 5]}]},
    ]
    (tmp_path / "m.yml").write_text(yaml.safe_dump({"merge_method": "passthrough", "slices": slices}))
    kept = [pair_of(state) for state in read_states(tmp_path / "m.yml", ANATOMY)]
    assert kept == [(2, 48), (2, 48), (0, 48), (0, 0), (2, 48)]


def test_block_configs_and_per_layer_configs(tmp_path: Path) -> None:
    whole: dict[str, object] = {"attention": {"n_heads_in_group": 2}, "ffn": {"intermediate_size": 48}}
    entries = [whole] * 3 + [{"attention": {"no_op": True}, "ffn": {"intermediate_size": 0}}, whole]
    (tmp_path / "b.json").write_text(json.dumps({"block_configs": entries}))
    kept = [pair_of(state) for state in read_states(tmp_path / "b.json", ANATOMY)]
    assert kept == [(2, 48)] * 3 + [(0, 0), (2, 48)]
    for fewer in ({"num_key_value_heads": 1}, {"n_heads_in_group": 4}):
        (tmp_path / "b.json").write_text(json.dumps({"block_configs": [{"attention": fewer, "ffn": {}}] * 5}))
        with pytest.raises(SecateurError, match="all query heads; ours go with their KV group"):
            read_states(tmp_path / "b.json", ANATOMY)
    config = {
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "hidden_size": 32,
        "per_layer_config": {
            "1": {"intermediate_size": 32},
            "02": {"num_attention_heads": 2},
            "3": {"skip": ["attention"]},
            "4": {"num_attention_heads": 2, "num_key_value_heads": 1},
        },
    }
    (tmp_path / "c.json").write_text(json.dumps(config))
    states = read_states(tmp_path / "c.json", ANATOMY)
    kept_units = [(state.kept["groups"], state.kept["queries"], state.kept["channels"]) for state in states]
    assert kept_units == [(2, 2, 48), (2, 2, 32), (2, 1, 48), (0, 0, 48), (1, 2, 48)]


def test_the_table_has_every_format_and_what_it_can_express() -> None:
    """`make test-consumers` writes it; whoever adds a format runs that."""
    text = (ROOT / "docs" / "reference" / "formats.md").read_text()
    rows = [line.split(" | ") for line in text.partition(BEGIN)[2].partition(END)[0].splitlines()]
    written = {row[0].strip("| `"): row[1] for row in rows if len(row) == 5}
    assert {name: expressed(form) for name, form in FORMATS.items()}.items() <= written.items()
