"""Other people's checkpoints through the command line: refused with what is wrong, or searched as they are."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
import yaml
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoConfig, AutoTokenizer

from secateur.fitness.text import pack, prefix_of
from secateur.runs import problem
from secateur.runs.asked.reading import read_recipe
from secateur.runs.run import execute, start
from tests.program import Ended, forked
from tests.tiny import model_of, save_text, save_tiny, tiny_recipe

Tensors = dict[str, torch.Tensor]


def edited(model: Path, **entries: Any) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def changed(model: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file, {"format": "pt"})


def searched(folder: Path, command: str = "search", **changes: Any) -> Ended:
    """A search on the model in `folder`, with a text and a cache of its own."""
    text = save_text(folder / "text.txt", seed=1)
    recipe = tiny_recipe(folder / "model", text) | changes
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = ("--out", folder / "run") if command == "search" else ()
    return forked(command, folder / "recipe.yaml", *out, environment={"SECATEUR_CACHE": str(folder / "cache")})


def refused(folder: Path, *words: str, command: str = "search", **changes: Any) -> None:
    result = searched(folder, command, **changes)
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 2000
    for word in words:
        assert word in result.stderr, result.stderr
    assert not (folder / "run").exists()


# -- weights that are not where they belong ----------------------------------------------------------------------------


def _without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def _more(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: torch.ones(*shape)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("lm_head"), ("lm_head.weight", "without a language-model head")),
        (_without("layers.3.mlp"), ("3 parameters are missing", "layers.3.mlp.down_proj")),
        (lambda tensors: {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}, ("are missing", "lm_head")),
        (_more("model.layers.4.mlp.up_proj.weight", 48, 32), ("have no place", "layers.4.mlp.up_proj.weight")),
        (_more("model.layers.0.self_attn.q_proj.bias", 48), ("have no place", "q_proj.bias")),
        (_more("model.norm.weight", 31), ("another shape", "model.norm.weight (31,), not (32,)")),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[Tensors], Tensors], words: tuple[str, ...]
) -> None:
    changed(save_tiny(tmp_path / "model"), change)
    refused(tmp_path, *words)


def test_configurations_that_do_not_fit_their_weights(tmp_path: Path) -> None:
    for entries, words in (
        ({"num_hidden_layers": 5}, ("layers.4",)),
        ({"num_hidden_layers": 3}, ("layers.3",)),
        ({"vocab_size": 98}, ("embed_tokens.weight (96, 32), not (98, 32)",)),
        ({"intermediate_size": 64}, ("gate_proj.weight (48, 32), not (64, 32)",)),
    ):
        edited(save_tiny(tmp_path / "model"), **entries)
        refused(tmp_path, *words)
        shutil.rmtree(tmp_path / "model")


def test_a_head_that_a_tied_configuration_ignores(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "qwen3")
    changed(model, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 0.3})
    refused(tmp_path, "tie_word_embeddings")


def test_the_parts_of_an_encoder_that_nobody_needs_are_let_be(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "bert")
    changed(model, _more("bert.pooler.dense.weight", 32, 32))
    changed(model, _more("cls.seq_relationship.weight", 2, 32))
    assert searched(tmp_path, baselines=[]).returncode == 0


def test_what_older_versions_saved_besides_is_let_be(tmp_path: Path) -> None:
    changed(save_tiny(tmp_path / "model", "gpt2"), _more("transformer.h.0.attn.masked_bias", 1))
    assert searched(tmp_path, baselines=[]).returncode == 0


def test_weights_that_are_no_numbers_are_found_before_anything_is_searched(tmp_path: Path) -> None:
    def broken(tensors: Tensors) -> None:
        tensors["model.layers.2.mlp.up_proj.weight"][0, 0] = float("nan")

    changed(save_tiny(tmp_path / "model"), broken)
    for pruner in ("wanda", "sparsegpt"):
        genes = [{"kind": "sparsity", "levels": [0.5]}]
        refused(tmp_path, "dense", "layers.2.mlp.up_proj", genes=genes, pruner=pruner, budgets={})


def test_a_model_that_overflows_is_told_another_dtype(tmp_path: Path) -> None:
    def huge(tensors: Tensors) -> None:
        tensors["model.embed_tokens.weight"] *= 1e3
        for name in tensors:
            if "down_proj" in name:
                tensors[name] *= 1e5

    model = save_tiny(tmp_path / "model")
    changed(model, huge)
    refused(tmp_path, "dense", "float16 from block", "bfloat16", model={"path": str(model), "dtype": "float16"})


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["space", "search"])
def test_quantised_checkpoints_are_refused_by_the_first_command_that_sees_them(tmp_path: Path, command: str) -> None:
    model = save_tiny(tmp_path / "model")
    for how in (
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "fp8"},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    ):
        edited(model, quantization_config=how)
        refused(tmp_path, "quantised", str(how["quant_method"]), command=command)


def test_weights_of_few_bits_are_told_without_their_configuration(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    whole = (model / "model.safetensors").read_bytes()
    for dtype in (torch.int8, torch.float8_e4m3fn):
        tensors = load_file(model / "model.safetensors")
        tensors |= {name: one.clamp(-1, 1).to(dtype) for name, one in tensors.items() if "proj" in name}
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
        for command in ("space", "search"):
            refused(tmp_path, "quantised", "is stored as", command=command)
        (model / "model.safetensors").write_bytes(whole)
    edited(model, quantization_config={})
    refused(tmp_path, "quantised", command="space")
    edited(model, quantization_config=None)
    (model / "quantize_config.json").write_text("{}")
    refused(tmp_path, "quantised", command="space")


def test_a_configuration_names_no_files_of_weights(tmp_path: Path) -> None:
    edited(save_tiny(tmp_path / "model"), transformers_weights="adapter_model.bin")
    refused(tmp_path, "transformers_weights", command="space")


def test_a_model_that_cannot_be_run_is_a_message(tmp_path: Path) -> None:
    edited(save_tiny(tmp_path / "model", "gemma3_text"), sliding_window=None)
    refused(tmp_path, "cannot be run")


def test_adapters_and_pickles(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    (model / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x/y"}')
    refused(tmp_path, "adapter", "which of the two")
    (model / "config.json").rename(tmp_path / "config.json")
    refused(tmp_path, "adapter", "base model", command="space")
    (tmp_path / "config.json").rename(model / "config.json")
    (model / "adapter_config.json").unlink()
    (model / "model.safetensors").unlink()
    refused(tmp_path, "has no model.safetensors")
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")
    refused(tmp_path, "pytorch_model.bin", "safetensors")


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "evil.bin", "a/b.safetensors", "gone.safetensors"]
)
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, name: str) -> None:
    model = save_tiny(tmp_path / "model")
    (tmp_path / "other.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    (model / "evil.bin").write_bytes(b"\x80\x04cposix\nsystem\n")
    names = list(load_file(model / "model.safetensors"))
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, name)}))
    refused(tmp_path, "index.json", name)


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_attention_heads": 3, "head_dim": 12}, "num_attention_heads is 3 and num_key_value_heads 2"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"intermediate_size": -48}, "intermediate_size is -48"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": 10**15}, "vocab_size"),
        ({"num_labels": 30_000_000}, "num_labels"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "'gemma3_text', which is known"),
        ({"model_type": "gemma4_text"}, "unknown model family 'gemma4_text'"),
    ],
)
def test_configurations_that_describe_no_model_we_know(tmp_path: Path, entries: dict[str, Any], word: str) -> None:
    edited(save_tiny(tmp_path / "model"), **entries)
    refused(tmp_path, word, command="space")


def test_damaged_files_of_a_model(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        whole = (model / name).read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"[" * 100_000, b"\xff" * 64, b"null"):
            (model / name).write_bytes(damaged)
            refused(tmp_path, "model '")
        (model / name).write_bytes(whole)


def test_names_that_are_no_models(tmp_path: Path) -> None:
    for name in ("nosuch", "a/b", "x" * 5000, "/dev/zero", "package:json", "package:../x", "a\0b"):
        refused(tmp_path, "model '", command="space", model={"path": name})


def test_attention_of_the_first_layer_cannot_be_dropped(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    genes = [{"kind": "attention", "layers": [0]}]
    refused(tmp_path, "attention, layer 0", "keep_first_attention", genes=genes, command="space")


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_the_embedding(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, 98, 3000))
    tokens = {"source": str(tmp_path / "ids.npy"), "sequences": 6, "length": 16}
    refused(tmp_path, "0..95", calibration=tokens)
    shutil.rmtree(model)
    save_tiny(model, vocab_size=128)  # padded, as Qwen's
    assert searched(tmp_path, calibration=tokens, baselines=[]).returncode == 0


def test_tokens_that_were_added_to_the_tokenizer_alone(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_tiny(tmp_path / "model"))
    tokenizer.add_tokens(["zzz"])
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "new.txt").write_text("\n\n".join(f"word{i} " + "zzz " * 60 for i in range(10)))
    calibration = {"source": str(tmp_path / "new.txt"), "sequences": 4, "length": 16}
    refused(tmp_path, "token 96", "96 rows", calibration=calibration)


def _beginning(model: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save_pretrained(model)
    return AutoTokenizer.from_pretrained(model)


def test_every_window_begins_as_the_tokenizer_begins_a_text(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "gemma2")
    plain = AutoTokenizer.from_pretrained(model)
    tokenizer = _beginning(model)
    assert prefix_of(plain) == []
    assert prefix_of(tokenizer) == [1]
    texts = [" ".join(f"word{i}" for i in range(60))]
    with_prefix, without = (pack("x", texts, tokenizer, 3, 16, 0, prefix=prefix) for prefix in (True, False))
    assert with_prefix.prefix == (1,)
    assert with_prefix.ids[:, 0].tolist() == [1, 1, 1]
    assert with_prefix.ids.shape == without.ids.shape == (3, 16)
    assert 1 not in without.ids[:, 0]
    assert torch.equal(without.ids, pack("x", texts, plain, 3, 16, 0).ids), "as before where there is no prefix"


def test_a_run_says_which_tokens_its_texts_begin_with(tmp_path: Path) -> None:
    _beginning(save_tiny(tmp_path / "model", "gemma2"))
    assert searched(tmp_path, baselines=[]).returncode == 0
    plan = json.loads((tmp_path / "run" / "plans" / "found.json").read_text())
    assert plan["texts"]["calibration"]["prefix"] == [1]


def test_a_dataset_of_several_configurations_wants_one_named(tmp_path: Path) -> None:
    """As wikitext, c4 and ptb are laid out; rows without a text are left out."""
    save_tiny(tmp_path / "model")
    documents = save_text(tmp_path / "words.txt", seed=1).read_text().split("\n\n")
    card = ["---", "configs:"]
    for name in ("wikitext-2-raw-v1", "wikitext-103-raw-v1"):
        (tmp_path / "wikitext" / name).mkdir(parents=True)
        file = tmp_path / "wikitext" / name / "train-00000-of-00001.parquet"
        parquet.write_table(pyarrow.table({"text": [*documents, None, ""]}), file)
        card += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}/*.parquet"]
    (tmp_path / "wikitext" / "README.md").write_text("\n".join([*card, "---", ""]))
    text = {"source": str(tmp_path / "wikitext"), "sequences": 6, "length": 16, "windows_per_document": 3}
    refused(tmp_path, "wikitext-103-raw-v1", "set 'config' to one of them", calibration=text)
    result = searched(tmp_path, calibration={**text, "config": "wikitext-2-raw-v1"})
    assert result.returncode == 0, result.stderr


# -- dtype -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budgets", [{"block_parameters": "0.6x"}, {"weight_bytes": "0.8x"}])
def test_a_checkpoint_is_counted_and_written_in_its_own_dtype(tmp_path: Path, budgets: dict[str, str]) -> None:
    model = model_of("llama").to(torch.bfloat16)
    save_tiny(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert searched(tmp_path, budgets=budgets, baselines=[]).returncode == 0
    out = tmp_path / "out"
    result = forked(
        "export", tmp_path / "run", "--to", "hf", "--out", out, environment={"SECATEUR_CACHE": str(tmp_path / "cache")}
    )
    assert result.returncode == 0, result.stderr
    tensors = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert (out / "model.safetensors").stat().st_size < before
    plan = json.loads((out / "plan.json").read_text())
    assert plan["costs"]["weight_bytes"] == sum(2 * tensor.numel() for tensor in tensors.values())
    assert AutoConfig.from_pretrained(out, trust_remote_code=True).dtype == torch.bfloat16


def test_the_dtype_is_that_of_the_files(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    changed(model, lambda tensors: {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()})
    values = json.loads((model / "config.json").read_text())
    for says in ({}, {"dtype": "float32"}):
        (model / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k != "dtype"} | says))
        assert searched(tmp_path, baselines=[]).returncode == 0
        result = exported(tmp_path)
        assert result.returncode == 0
        assert "times as many" not in result.stderr
        assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {
            torch.bfloat16
        }
        for name in ("run", "out"):
            shutil.rmtree(tmp_path / name)


def test_another_dtype_where_the_recipe_says_so(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    settings = {"path": str(model), "dtype": "bfloat16"}
    for saved, size in (("auto", 4), ("bfloat16", 2)):
        result = searched(tmp_path, "space", model={**settings, "saved_dtype": saved})
        assert result.returncode == 0, result.stderr
        [row] = [line for line in result.stdout.splitlines() if "weight_bytes" in line]
        [parameters] = [line for line in result.stdout.splitlines() if " parameters " in line]
        dense = [int(line.split("│")[2].replace(",", "")) for line in (row, parameters)]
        assert dense[0] == size * dense[1]


# -- what goes out -----------------------------------------------------------------------------------------------------


def exported(folder: Path, run: str = "run", out: str = "out") -> Ended:
    cache = {"SECATEUR_CACHE": str(folder / "cache")}
    return forked("export", folder / run, "--to", "hf", "--out", folder / out, environment=cache)


def test_an_export_says_nothing_of_code_that_is_not_in_it(tmp_path: Path) -> None:
    code = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    model = save_tiny(tmp_path / "model", "phi3")
    edited(model, auto_map=code)
    tokenizer = model / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"auto_map": {"AutoTokenizer": ["a.B", None]}}))
    genes = [{"kind": "block"}]
    assert searched(tmp_path, genes=genes, budgets={"block_parameters": "0.75x"}, baselines=[]).returncode == 0
    assert exported(tmp_path).returncode == 0
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in json.loads((tmp_path / "out" / name).read_text())


def test_a_plan_of_whole_blocks_from_another_tool_can_be_written(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    (tmp_path / "drop.json").write_text("[1, 2]")
    cache = {"SECATEUR_CACHE": str(tmp_path / "cache")}
    plan = tmp_path / "plan.json"
    arguments = ("import", "drop.json", "--model", "model", "--out", plan)
    assert forked(*arguments, environment=cache, cwd=tmp_path).returncode == 0
    result = forked("export", plan, "--to", "hf", "--out", tmp_path / "out", environment=cache)
    assert result.returncode == 0, result.stderr
    dense, smaller = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "out"))
    assert sum(one.numel() for one in smaller.values()) == json.loads(plan.read_text())["costs"]["parameters"]
    assert torch.equal(smaller["model.layers.1.mlp.up_proj.weight"], dense["model.layers.3.mlp.up_proj.weight"])


def test_a_checkpoint_that_is_larger_than_what_went_in_is_told(tmp_path: Path) -> None:
    """A file in half precision, written in single, stands for one of fewer bits."""
    model = save_tiny(tmp_path / "model")
    changed(model, lambda tensors: {name: tensor.to(torch.float16) for name, tensor in tensors.items()})
    wider = {"path": str(model), "saved_dtype": "float32"}
    result = searched(tmp_path, "space", model=wider)
    size = (model / "model.safetensors").stat().st_size
    (model / "consolidated.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    assert f"Model: {size:,} bytes as it is stored" in result.stdout
    assert "a plan that keeps more than" in result.stdout
    assert searched(tmp_path, budgets={"block_parameters": "0.8x"}, baselines=[], model=wider).returncode == 0
    result = exported(tmp_path)
    assert result.returncode == 0
    assert "times as many as" in result.stderr
    line = re.search(r"bytes: (secateur export .*) --out FOLDER", result.stderr)
    assert line is not None
    cache = {"SECATEUR_CACHE": str(tmp_path / "cache")}
    small = forked(*shlex.split(line[1])[1:], "--vocabulary", "none", "--out", tmp_path / "small", environment=cache)
    assert small.returncode == 0, small.stderr
    assert (tmp_path / "small" / "model.gguf").is_file()
    wrong = forked(*shlex.split(line[1])[1:-1], "q4_k", "--out", tmp_path / "wrong", environment=cache)
    assert (wrong.returncode, "--quantize q4_k: write one of q8_0" in wrong.stderr) == (2, True)
    other = forked("export", tmp_path / "run", "--to", "hf", "--quantize", "q4_0", "--out", tmp_path / "wrong")
    assert "--quantize q4_0: is for --to gguf" in other.stderr
    assert f"came in files of {size:,} bytes" in (tmp_path / "run" / "report" / "index.html").read_text()


@pytest.mark.parametrize("family", ["gpt2", "bert", "gemma3_text"])
def test_exports_load_without_a_question_where_our_classes_are_known(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path / "model", family)
    assert searched(tmp_path, baselines=[]).returncode == 0
    assert exported(tmp_path).returncode == 0
    auto = "AutoModelForMaskedLM" if family == "bert" else "AutoModelForCausalLM"
    code = f"""
import secateur
from transformers import {auto}, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("out"), {auto}.from_pretrained("out")
ids = tokenizer("word1 word2", return_tensors="pt").input_ids
print(model.generate(ids, max_new_tokens=3).shape[1] if {family != "bert"} else model(ids).logits.shape[1])
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    assert "[y/N]" not in result.stdout + result.stderr


def test_baselines_that_leave_what_the_found_plan_uses_are_left_out_of_the_verdict(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    held = [{"source": str(save_text(tmp_path / "held.txt", seed=2)), "sequences": 5, "length": 16}]
    result = searched(
        tmp_path,
        genes=[{"kind": "sparsity", "per": "linear", "levels": [0.25, 0.5, 0.75]}],
        budgets={"linear_weights": "0.4x"},
        held_out=held,
        baselines=["uniform"],
        strategy={"name": "random"},
        effort={"evaluations": 20},
    )
    assert result.returncode == 0, result.stderr
    assert "uniform *" in result.stdout
    assert "Not compared, since the sides are unequal: every baseline keeps less" in result.stdout
    assert "Left out of the verdict" in (tmp_path / "run" / "report" / "index.html").read_text()


# -- zeros that are there already --------------------------------------------------------------------------------------


def _half(tensors: Tensors) -> Tensors:
    return _zeroed(tensors, 0.5)


def _zeroed(tensors: Tensors, share: float) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in tensors.items():
        if "proj" in name or "embed" in name:
            tensor[torch.rand(tensor.shape, generator=generator) < share] = 0
    return tensors


@pytest.mark.parametrize("pruner", ["wanda", "sparsegpt"])
def test_zeros_that_a_checkpoint_has_are_counted(tmp_path: Path, pruner: str) -> None:
    changed(save_tiny(tmp_path / "model"), _half)
    genes = [{"kind": "sparsity", "per": "linear", "levels": [0.2, 0.3, 0.6, 0.7]}, {"kind": "mlp"}]
    held = [{"source": str(save_text(tmp_path / "held.txt", seed=2)), "sequences": 5, "length": 16}]
    changes: dict[str, Any] = {"genes": genes, "pruner": pruner, "budgets": {"linear_weights": "<= 0.4x"}}
    changes |= {"held_out": held, "baselines": ["uniform"], "strategy": {"name": "random"}}
    result = searched(tmp_path, **changes, effort={"evaluations": 12})
    assert result.returncode == 0, result.stderr
    assert "zeros in its linears (" in result.stdout
    assert forked("resume", tmp_path / "run", environment={"SECATEUR_CACHE": str(tmp_path / "cache")}).returncode == 0
    assert exported(tmp_path).returncode == 0
    written, dense = load_file(tmp_path / "out" / "model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    for tensors, costs in ((written, plan["costs"]), (dense, plan["dense_costs"])):
        left = {name: int((tensor != 0).sum()) for name, tensor in tensors.items()}
        assert costs["linear_weights"] == sum(count for name, count in left.items() if "proj" in name)
        assert costs["nonzero_parameters"] == sum(left.values())
    places = sum(tensor.numel() for name, tensor in dense.items() if "proj" in name)
    assert plan["costs"]["linear_weights"] <= plan["budgets"]["linear_weights"] == pytest.approx(0.4 * places, rel=0.01)


def test_a_budget_that_a_pruned_checkpoint_keeps_by_itself(tmp_path: Path) -> None:
    """Levels below its zeros do not reach there, and it is there already."""
    changed(save_tiny(tmp_path / "model"), lambda tensors: _zeroed(tensors, 0.7))
    changes: dict[str, Any] = {"genes": [{"kind": "sparsity", "per": "linear", "levels": [0.25, 0.5]}]}
    changes |= {"strategy": {"name": "random"}, "effort": {"evaluations": 4}}
    result = searched(tmp_path, **changes, budgets={"linear_weights": "<= 0.4x"})
    assert result.returncode == 0, result.stderr
    assert "the dense model keeps the budgets as it is" in result.stdout + result.stderr
    shutil.rmtree(tmp_path / "run")
    result = searched(tmp_path, **changes, budgets={"linear_weights": "<= 0.2x"})
    assert result.returncode == 2
    assert "the least this space can reach" in result.stderr


def test_a_front_of_a_pruned_checkpoint(tmp_path: Path) -> None:
    changed(save_tiny(tmp_path / "model"), _half)
    genes = [{"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.6, 0.9]}, {"kind": "mlp", "levels": "4 levels"}]
    strategy = {"name": "nsga2", "population": 6, "sequences": 2}
    for repair in ("least-squares", None):
        result = searched(
            tmp_path,
            genes=genes,
            widths={"repair": repair},
            objectives=["kl", "linear_weights"],
            budgets={},
            strategy=strategy,
            effort={"evaluations": 60},
        )
        assert result.returncode == 0, result.stderr
        shutil.rmtree(tmp_path / "run")


def test_a_run_of_before_counts_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KV caches of one token, budgets cut off, zeros as weights: whatever was begun so goes on so."""
    changed(save_tiny(tmp_path / "model"), _half)
    changes: dict[str, Any] = {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "objectives": ["kl", "kv_bytes"]}
    changes |= {"budgets": {}, "strategy": {"name": "nsga2", "population": 6, "sequences": 2}}
    assert searched(tmp_path, "space", **changes, effort={"evaluations": 40}).returncode == 0
    environment = {"SECATEUR_CACHE": str(tmp_path / "cache")}
    with monkeypatch.context() as patch:
        patch.setenv(*next(iter(environment.items())))
        patch.setattr(problem, "COUNTING", 1)
        folder, loaded = start(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")
        with folder:
            execute(folder, loaded=loaded)
    assert forked("report", tmp_path / "run", environment=environment).returncode == 0
    before = json.loads(next((tmp_path / "run" / "plans").glob("*.json")).read_text())["dense_costs"]
    assert before["kv_bytes"] == 4 * 2 * 2 * 12 * 4
    assert before["nonzero_parameters"] == before["parameters"]
    assert forked("resume", tmp_path / "run", environment=environment).returncode == 0
    assert exported(tmp_path).returncode == 0
    assert json.loads(next((tmp_path / "run" / "plans").glob("*.json")).read_text())["dense_costs"] == before
