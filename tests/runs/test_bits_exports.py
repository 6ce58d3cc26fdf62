"""Types and grids in other tools' formats: written, read back, and carried out by llama.cpp's own quantizer."""

import ctypes
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import yaml

from secateur.fitness.bits.encoding import library
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.subnets.weights import Weights
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.features import Subject
from secateur.plans.formats.gguf_layout import NAMES, OUTSIDE
from secateur.plans.formats.table import FORMATS, files, refusal
from secateur.plans.reading import read_states
from secateur.space.bits import Bits
from secateur.space.errors import SecateurError
from secateur.space.grids import Grid
from secateur.space.state import BlockState, dense_state
from secateur.space.treatments import Treatment, treatment
from tests.genes import without
from tests.plans import plan_source
from tests.tiny import anatomy_for, model_of

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 12, "head_dim": 16}
ANATOMY = anatomy_for(**SIZES, tie_word_embeddings=True)
TYPES = ("Q8_0", "Q5_1", "Q4_0", "")


def states_of(levels: dict[str, Treatment | None], removed: tuple[int, ...] = ()) -> list[BlockState]:
    """Of all layers alike, less those that are removed; others' levels by turns where one is None."""
    states = []
    for block in ANATOMY.blocks:
        own = {name: levels.get(name, Bits("Q8_0")) for name in (one.name for one in block.matrices)}
        state = dense_state(block).with_treated({name: one for name, one in own.items() if one is not None})
        if block.index in removed:
            state = without(block, "attention", "mlp").with_treated(
                {name: state.treated[name] for name in (one.name for one in block.outside) if name in state.treated}
            )
        states.append(state)
    return states


def mixed(removed: tuple[int, ...] = ()) -> Subject:
    """Another type in every other linear, some none."""
    states = []
    for block, state in zip(ANATOMY.blocks, states_of({}, removed), strict=True):
        kinds = [TYPES[(block.index + place) % 4] for place in range(len(block.matrices))]
        named = zip((one.name for one in block.matrices), kinds, strict=True)
        levels: dict[str, Treatment] = {n: Bits(k) if k else treatment(0) for n, k in named if n in state.treated}
        states.append(state.with_treated(levels))
    return plan_source(ANATOMY, states)


def written(subject: Subject, name: str, folder: Path) -> Path:
    for file, content in files(FORMATS[name], subject).items():
        (folder / file).write_text(str(content))
    return folder


@pytest.mark.parametrize("removed", [(), (3, 10)])
def test_types_are_given_back(tmp_path: Path, removed: tuple[int, ...]) -> None:
    subject = mixed(removed)
    written(subject, "llama-quantize", tmp_path)
    assert read_states(tmp_path / "types.txt", ANATOMY) == subject.states
    command = shlex.split((tmp_path / "command.txt").read_text())
    assert ("--prune-layers" in command) == bool(removed)
    assert command[command.index("--tensor-type-file") + 1] == "types.txt"


@pytest.mark.skipif(library() is None, reason="needs llama.cpp: make test has it")
def test_llama_cpp_quantizes_as_the_file_of_types_says(tmp_path: Path) -> None:
    """Its own quantizer with the file's patterns: every matrix has the plan's type, whatever its mix would have."""
    llama_cpp = pytest.importorskip("llama_cpp")
    subject = mixed()
    written(subject, "llama-quantize", tmp_path)
    model = model_of("llama", **SIZES, tie_word_embeddings=True)
    dense = [dense_state(block) for block in ANATOMY.blocks]
    write_gguf(model, anatomy_of(model), dense, Weights(Blocks(model, ANATOMY)), tmp_path / "dense.gguf")
    lines = (tmp_path / "types.txt").read_text().split()
    overrides = (llama_cpp.llama_model_tensor_override * (len(lines) + 1))()
    for place, line in enumerate(lines):
        pattern, _, kind = line.rpartition("=")
        overrides[place].pattern = pattern.encode()
        overrides[place].type = int(gguf.GGMLQuantizationType[kind.upper()])
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    parameters.tt_overrides = ctypes.cast(overrides, type(parameters.tt_overrides))
    small = tmp_path / "small.gguf"
    done = llama_cpp.llama_model_quantize(
        str(tmp_path / "dense.gguf").encode(), str(small).encode(), ctypes.byref(parameters)
    )
    assert done == 0
    found = {one.name: one.tensor_type.name for one in gguf.GGUFReader(small).tensors}
    for block, state in zip(ANATOMY.blocks, subject.states, strict=True):
        for position, matrix in enumerate(block.matrices):
            inside = position < len(block.linears)
            short = (NAMES if inside else OUTSIDE)[f"{matrix.name}.weight"]
            level = state.level(matrix.name)
            wanted = level.kind if isinstance(level, Bits) else "F32"
            assert found[f"blk.{block.index}.{short}" if inside else short] == wanted, matrix.name


GRIDS: dict[str, Treatment | None] = {
    "self_attn.q_proj": Grid.read("int8-sym"),
    "self_attn.k_proj": Grid.read("int8-sym"),
    "self_attn.v_proj": Grid.read("int8-sym"),
    "self_attn.o_proj": Grid.read("int4-g32"),
    "mlp.gate_proj": Grid.read("int4-g32"),
    "mlp.up_proj": Grid.read("int4-g32"),
    "mlp.down_proj": None,
    "model.embed_tokens": None,
}


def test_evopress_bits_are_given_back(tmp_path: Path) -> None:
    """Integers with the size of their groups beside them, and its successor's lines with types."""
    named = [name for name in GRIDS if name.startswith("self_attn")]
    widths: dict[str, Treatment | None] = {name: Grid(3 + place, 32) for place, name in enumerate(named)}
    types: dict[str, Treatment | None] = dict.fromkeys(named, Bits("Q5_1"))
    for number, levels in enumerate((widths, types)):
        others: dict[str, Treatment | None] = dict.fromkeys((name for name in GRIDS if name not in widths), None)
        subject = plan_source(ANATOMY, states_of({**levels, **others}))
        (tmp_path / str(number)).mkdir()
        folder = written(subject, "evopress-bits", tmp_path / str(number))
        assert read_states(folder / "levels.txt", ANATOMY) == subject.states
    assert (tmp_path / "0" / "levels.txt").read_text().startswith("model.layers.0.self_attn.q_proj: 3\n")
    assert "layers.0.self_attn.q_proj: 6 (6-Q5_1.pth)" in (tmp_path / "1" / "levels.txt").read_text()
    both = plan_source(ANATOMY, states_of({**widths, "mlp.down_proj": Bits("Q8_0"), "model.embed_tokens": None}))
    assert "one of the two" in (refusal(FORMATS["evopress-bits"], both) or "")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llm-compressor", "recipe.yaml"),
        ("gptqmodel", "quantize_config.json"),
        ("torchao-config", "quantization_config.json"),
        ("modelopt", "quant_cfg.yaml"),
    ],
)
def test_grids_are_given_back(tmp_path: Path, name: str, file: str) -> None:
    levels = {**GRIDS}
    if name != "gptqmodel":
        levels["mlp.down_proj"] = Grid.read("fp8")
    if name == "modelopt":
        levels |= {one: Grid.read("int4-g32-sym") for one, level in GRIDS.items() if level == Grid.read("int4-g32")}
    subject = plan_source(ANATOMY, states_of(levels))
    written(subject, name, tmp_path)
    assert read_states(tmp_path / file, ANATOMY) == subject.states


def test_what_llm_compressor_rounds_with_is_what_the_plan_was_made_with() -> None:
    subject = plan_source(ANATOMY, states_of({**GRIDS, "mlp.down_proj": Grid.read("fp8")}))
    assert subject.plan is not None
    for way, modifier in (
        ("gptq", "GPTQModifier"),
        ("nearest", "QuantizationModifier"),
        ("hqq", "QuantizationModifier"),
    ):
        plan = subject.plan.model_copy(update={"recipe": {"quantizer": way}})
        recipe = yaml.safe_load(str(files(FORMATS["llm-compressor"], replace(subject, plan=plan))["recipe.yaml"]))
        assert list(recipe) == ["quant_stage"]
        [(found, settings)] = recipe["quant_stage"]["quant_modifiers"].items()
        assert found == modifier
        kinds = sorted(
            (one["weights"]["type"], one["weights"]["num_bits"]) for one in settings["config_groups"].values()
        )
        assert kinds == [("float", 8), ("int", 4), ("int", 8)]


def test_mlx_says_the_rest_by_name() -> None:
    levels = {**GRIDS, **dict.fromkeys([f"self_attn.{one}_proj" for one in "qkv"], Grid.read("int8-g64"))}
    subject = plan_source(ANATOMY, states_of(levels))
    config = json.loads(str(files(FORMATS["mlx"], subject)["quantization.json"]))["quantization"]
    assert (config["bits"], config["group_size"], config["mode"]) in ((4, 32, "affine"), (8, 64, "affine"))
    assert config["model.layers.3.mlp.down_proj"] is False
    assert config["model.embed_tokens"] is False


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("llama-quantize", GRIDS, "grid:int8-sym in self_attn.q_proj, which it cannot express"),
        ("gguf", GRIDS, "grid:int8-sym is none of llama.cpp's types"),
        ("llm-compressor", {**GRIDS, "mlp.down_proj": Grid.read("int4-g32-half")}, "zero points in half precision"),
        ("llm-compressor", {**GRIDS, "model.embed_tokens": Grid.read("int8")}, "embed_tokens is stored in fewer bits"),
        ("gptqmodel", {**GRIDS, "mlp.down_proj": Grid.read("fp8")}, "integers of 2, 3, 4 and 8 bits"),
        ("mlx", GRIDS, "it has zero points, groups of 32, 64, 128"),
        ("modelopt", GRIDS, "o_proj has grid:int4-g32, and its integers have no zero points; search -sym levels"),
        ("torchao-config", {**GRIDS, "mlp.down_proj": Grid.read("int4-g32-half")}, "zero points in half precision"),
        ("torchao", {}, "bits:Q8_0 in self_attn.q_proj, which it cannot express"),
        ("evopress", {"model.embed_tokens": Bits("Q8_0"), **dict.fromkeys(GRIDS, None)}, "which it cannot express"),
    ],
)
def test_what_a_format_cannot_say(name: str, levels: dict[str, Treatment | None], message: str) -> None:
    if name == "evopress":
        levels = {**levels, "model.embed_tokens": Bits("Q8_0")}
    assert message in (refusal(FORMATS[name], plan_source(ANATOMY, states_of(levels))) or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blk.0.attn_q=q9_9\n", "no type q9_9"),
        ("blk.77.attn_q=q8_0\n", "no matrix of the model matches"),
        ("blk.(0=q8_0\n", "cannot read the pattern"),
    ],
)
def test_bad_files_of_types(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "types.txt").write_text(text)
    with pytest.raises(SecateurError, match=message):
        read_states(tmp_path / "types.txt", ANATOMY)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 4, "group_size": 100}, "64 inputs, no whole grid:int4-g100"),
        ({"bits": 4, "group_size": 2}, "4 bits in groups of 2: a group has 8 to"),
        ({"bits": 4, "group_size": -64}, "groups of -64: a group has 8 to"),
        ({"bits": 4, "group_size": 0}, "group_size: 0; a whole row is -1"),
        ({"bits": 4.7, "group_size": 32}, "bits: write a whole number, not '4.7'"),
        ({"bits": 9, "group_size": 32}, "a grid has 2 to 8 bits"),
        ({"bits": 4, "group_size": 32, "sym": "false"}, "sym: write true or false, not 'false'"),
        ({"bits": 4, "group_size": 32, "lm_head": True}, "'lm_head' is rounded as well"),
        ({"bits": 4, "group_size": 32, "dynamic": {"+:.*nothing": {}}}, "no linear of the model matches"),
    ],
)
def test_bad_grids(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    (tmp_path / "quantize_config.json").write_text(json.dumps(values))
    with pytest.raises(SecateurError, match=message):
        read_states(tmp_path / "quantize_config.json", ANATOMY)


def recipe_of(folder: Path, *modifiers: dict[str, Any]) -> Path:
    """A recipe of llm-compressor, a stage for each modifier."""
    stages = {f"stage{number}_stage": {"own_modifiers": one} for number, one in enumerate(modifiers)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(stages))
    return folder / "recipe.yaml"


def grouped(target: str = "Linear", inputs: dict[str, Any] | None = None, **weights: Any) -> dict[str, Any]:
    group = {"targets": [target], "weights": weights, "input_activations": inputs}
    return {"GPTQModifier": {"config_groups": {"one": group}}}


@pytest.mark.parametrize(
    ("modifier", "message"),
    [
        (grouped("re:.*nothing", num_bits=4, group_size=32), r"matches the target 're:\.\*nothing'"),
        (grouped(num_bits=4), "strategy 'tensor' with no size of groups"),
        (grouped(num_bits=4, strategy="group"), "strategy 'group' with no size"),
        (grouped(num_bits=4, strategy="channel", group_size=32), "strategy 'channel' with group_size 32"),
        (grouped(num_bits=4, group_size=2), "a group has 8 to"),
        (grouped(num_bits=4, group_size=32, type="float"), "floats have eight bits"),
        (grouped(num_bits=4, strategy="block", block_structure=[8, 8]), "'block_structure' of weights"),
        (grouped(inputs={"num_bits": 8}, num_bits=8, group_size=-1), "'input_activations' are rounded too"),
        ({"GPTQModifier": {"scheme": "W8A8"}}, "scheme 'W8A8' is none of weights alone"),
        ({"GPTQModifier": {"ignore": ["lm_head"]}}, "neither config_groups nor scheme"),
        ({**grouped(num_bits=4, group_size=32), "AWQModifier": {}}, "what AWQModifier does has no level here"),
    ],
)
def test_what_no_level_says_of_a_recipe(tmp_path: Path, modifier: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        read_states(recipe_of(tmp_path, modifier), ANATOMY)


def test_common_recipes_are_read_as_the_tool_does(tmp_path: Path) -> None:
    """What it ignores, its schemes by name, sizes of groups without a strategy; and zeros before it rounds."""
    stored = {"config_groups": {"one": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}}}
    quantizer = {"GPTQModifier": {**stored, "ignore": ["lm_head", "re:.*down_proj"]}}
    linears = {one.name: one for one in ANATOMY.blocks[0].linears}
    wanted: dict[str, Treatment] = {
        name: Grid(4, 32, symmetric=True) for name in linears if not name.endswith("down_proj")
    }
    assert dict(read_states(recipe_of(tmp_path, quantizer), ANATOMY)[3].treated) == wanted
    pruner = {"SparseGPTModifier": {"sparsity": 0.5, "mask_structure": "2:4", "targets": ["re:.*(down|gate)_proj"]}}
    found = read_states(recipe_of(tmp_path, pruner, quantizer), ANATOMY)[3].treated
    assert found["mlp.down_proj"] == treatment("2:4")
    assert found["mlp.gate_proj"] == treatment("both:2:4+int4-g32-sym")
    assert found["mlp.up_proj"] == Grid(4, 32, symmetric=True)
    scheme = {"QuantizationModifier": {"scheme": "W4A16_ASYM", "targets": "re:.*down_proj"}}
    assert dict(read_states(recipe_of(tmp_path, scheme), ANATOMY)[0].treated) == {"mlp.down_proj": Grid(4, 128)}


def test_zeros_and_a_grid_are_given_back_by_llm_compressor(tmp_path: Path) -> None:
    """Pruned in one stage, rounded in the next."""
    levels = {**GRIDS, "mlp.down_proj": treatment("both:2:4+int4-g32"), "mlp.up_proj": treatment(0.5)}
    subject = plan_source(ANATOMY, states_of(levels))
    written(subject, "llm-compressor", tmp_path)
    assert list(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == ["pruning_stage", "quant_stage"]
    assert read_states(tmp_path / "recipe.yaml", ANATOMY) == subject.states


def test_an_embedding_in_fewer_bits_is_not_lost_beside_zeros() -> None:
    levels: dict[str, Treatment | None] = {**dict.fromkeys(GRIDS, treatment(0.5)), "model.embed_tokens": Grid(8)}
    assert "embed_tokens is stored in fewer bits" in (
        refusal(FORMATS["llm-compressor"], plan_source(ANATOMY, states_of(levels))) or ""
    )


def torchao(kind: str = "IntxWeightOnlyConfig", key: str = "re:.*", **data: Any) -> dict[str, Any]:
    config = {
        "_type": kind,
        "_version": 2,
        "_data": {"weight_dtype": {"_type": "torch.dtype", "_data": "int4"}, **data},
    }
    return {"_type": "FqnToConfig", "_version": 1, "_data": {"fqn_to_config": {key: config}}}


def modelopt(name: str = "*weight_quantizer", **cfg: Any) -> dict[str, Any]:
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False}, {"quantizer_name": name, "cfg": cfg}]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torchao("Int4WeightOnlyConfig"), "'Int4WeightOnlyConfig' has no level here"),
        (torchao(granularity={"_type": "PerTensor", "_data": {}}), "granularity 'PerTensor' has no level here"),
        (torchao(granularity={"_type": "PerGroup", "_data": {"group_size": 2}}), "a group has 8 to"),
        (torchao(mapping_type={"_type": "MappingType", "_data": "ODD"}), "mapping_type 'ODD' has no level"),
        (torchao(weight_dtype={"_data": "int1"}), "a grid has 2 to 8 bits"),
        (torchao(key="model.layers.77.mlp"), "no linear of the model's blocks is called 'model.layers.77.mlp'"),
        (modelopt(num_bits=4), "one scale of a whole matrix has no level here"),
        (modelopt(num_bits=[2, 1], axis=0), r"floats of \[2, 1\] bits have no level"),
        (modelopt(num_bits=4, block_sizes={-1: 32, -2: 32}), "blocks of other shapes"),
        (modelopt("*input_quantizer", num_bits=8, axis=0), "inputs of .* are rounded too"),
        (modelopt(num_bits=8, axis=0, rotate=True), "no level here has 'rotate'"),
        (
            torchao("Float8WeightOnlyConfig", granularity={"_type": "PerTensor"}),
            "float8_e4m3fn with a scale of each row",
        ),
        (torchao(granularity={"_type": "PerAxis", "_data": {"axis": 1}}), "granularity 'PerAxis' has no level"),
        (modelopt("*nothing", num_bits=8, axis=0), r"no linear of the blocks has '\*nothing'"),
    ],
)
def test_what_no_level_says_of_a_config(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SecateurError, match=message):
        read_states(tmp_path / "config.yaml", ANATOMY)


def test_patterns_of_configs_are_read_as_their_tools_do(tmp_path: Path) -> None:
    """torchao: a name before a pattern, the first pattern that fits all of it; ModelOpt: the last entry that fits."""
    values = torchao()
    first = values["_data"]["fqn_to_config"]["re:.*"]
    named = {"_type": "Float8WeightOnlyConfig", "_data": {}}
    values["_data"]["fqn_to_config"] = {
        r"re:.*layers\.0\..*up_proj": None,
        "re:.*proj": first,
        "model.layers.1.mlp.up_proj": named,
        "re:.*up": named,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(SecateurError, match="is called 're:"):
        read_states(tmp_path / "config.json", ANATOMY)
    del values["_data"]["fqn_to_config"]["re:.*up"]
    (tmp_path / "config.json").write_text(json.dumps({"quant_method": "torchao", "quant_type": {"default": values}}))
    states = read_states(tmp_path / "config.json", ANATOMY)
    assert "mlp.up_proj" not in states[0].treated
    assert states[1].treated["mlp.up_proj"] == Grid.read("fp8")
    assert states[2].treated["mlp.up_proj"] == Grid(4, symmetric=True)
    entries = modelopt(num_bits=4, block_sizes={-1: 32})
    entries["quant_cfg"].append({"quantizer_name": "*layers.3.*weight_quantizer", "enable": False})
    (tmp_path / "quant.yaml").write_text(yaml.safe_dump(entries))
    states = read_states(tmp_path / "quant.yaml", ANATOMY)
    assert not states[3].treated
    assert set(states[4].treated.values()) == {Grid(4, 32, symmetric=True)}
    # Of other classes of modules it says nothing of linears; and without settings an entry only switches.
    entries["quant_cfg"].append({"parent_class": "nn.BatchNorm1d", "quantizer_name": "*", "enable": False})
    entries["quant_cfg"].append({"quantizer_name": "*layers.3.*up_proj.weight_quantizer", "enable": True})
    (tmp_path / "quant.yaml").write_text(yaml.safe_dump(entries))
    states = read_states(tmp_path / "quant.yaml", ANATOMY)
    assert set(states[3].treated) == {"mlp.up_proj"}
    assert set(states[4].treated.values()) == {Grid(4, 32, symmetric=True)}


def test_a_name_comes_before_a_pattern_and_that_before_a_class(tmp_path: Path) -> None:
    """As compressed-tensors matches targets, wherever they stand."""
    groups = {
        f"group_{number}": {"targets": [target], "weights": {"num_bits": bits, "group_size": 32}}
        for number, (target, bits) in enumerate(
            [("Linear", 4), ("re:.*down_proj", 8), ("model.layers.1.mlp.down_proj", 3)]
        )
    }
    states = read_states(recipe_of(tmp_path, {"GPTQModifier": {"config_groups": groups}}), ANATOMY)
    assert states[0].treated["mlp.up_proj"] == Grid(4, 32, symmetric=True)
    assert states[0].treated["mlp.down_proj"] == Grid(8, 32, symmetric=True)
    assert states[1].treated["mlp.down_proj"] == Grid(3, 32, symmetric=True)
