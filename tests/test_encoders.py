"""Encoders end to end: masked text, search, export, and loading in a fresh process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model, load_tokenizer
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.built_in import score
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.text import NOT_MASKED, Sequences, masked, predicted
from secateur.space.errors import SecateurError
from tests.tiny import save_text, save_tiny, tiny_recipe

LOAD = """
import sys, secateur
from transformers import AutoModelForMaskedLM
model, info = AutoModelForMaskedLM.from_pretrained(sys.argv[1], output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
print(type(model).__name__, sum(p.numel() for p in model.parameters()))
"""


@pytest.mark.parametrize("family", ["bert", "distilbert", "xlm-roberta"])
def test_a_run_on_an_encoder(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", family)
    text, held_out = save_text(tmp_path / "a.txt", seed=1), save_text(tmp_path / "b.txt", seed=2)
    genes: list[dict[str, Any]] = [
        {"kind": "attention", "levels": [4, 2, 0]},
        {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
        {"kind": "sparsity", "per": "sublayer", "levels": [0.5]},
    ]
    recipe = tiny_recipe(tmp_path / "model", text, held_out, genes=genes, baselines=["uniform-width", "shortgpt"])
    made = secateur.run(recipe, tmp_path / "run")
    rows = {row.name: row for row in made.summary.rows}
    assert rows["found"].costs["block_parameters"] <= 0.6 * rows["dense"].costs["block_parameters"]
    assert rows["dense"].costs["kv_bytes"] == 0
    assert rows["dense"].scores["b"]["kl"].mean == pytest.approx(0, abs=1e-5)
    assert rows["found"].scores["b"]["kl"].mean > 0
    out = made.export(to="hf", out=tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", LOAD, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) == rows["found"].costs["parameters"]
    assert "AutoModelForMaskedLM" in (out / "README.md").read_text()


def test_scores_are_over_masked_tokens(tmp_path: Path) -> None:
    """Against the whole model's own logits at the masked places."""
    model: Any = load_model(str(save_tiny(tmp_path / "model", "bert")))
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    plain = torch.randint(3, 90, (3, 20), generator=torch.Generator().manual_seed(0))
    text = masked(Sequences("random", plain, frozenset()), tokenizer, 0)
    assert text.targets is not None
    assert text.ids[:, 0].eq(tokenizer.cls_token_id).all()
    assert text.ids[:, -1].eq(tokenizer.sep_token_id).all()
    hidden = text.ids.eq(tokenizer.mask_token_id)
    assert hidden.sum(1).tolist() == [3, 3, 3], "15 % of 18 tokens"
    assert torch.equal(text.targets[hidden], plain[hidden])
    assert text.targets[~hidden].eq(NOT_MASKED).all()
    assert text.digest != Sequences("random", text.ids, frozenset()).digest
    teacher = Teacher(Blocks(model, anatomy_of(model)), text, model_digest(model))
    teacher.prepare(range(3))
    for row in range(3):
        places, _ = predicted(text, row)
        logits = model(text.ids[row][None]).logits[0, places]
        expected = torch.nn.functional.cross_entropy(logits, text.targets[row][places])
        scores = score(("kl", "kl_full", "cross_entropy"), teacher.hidden(row), [row], teacher)[0]
        assert scores["cross_entropy"] == pytest.approx(float(expected), rel=1e-4)
        assert scores["kl"] == pytest.approx(0, abs=1e-5)
        assert scores["kl_full"] == pytest.approx(0, abs=1e-5)


def test_an_encoder_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tiny(tmp_path / "causal")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "causal")
    with pytest.raises(SecateurError, match="no mask token"):
        masked(Sequences("random", torch.ones(1, 8, dtype=torch.int64), frozenset()), tokenizer, 0)


def test_roberta_has_fewer_positions_than_its_table(tmp_path: Path) -> None:
    """Its positions begin behind the padding token's; a longer text is refused before anything is scored."""
    save_tiny(tmp_path / "model", "roberta")
    text = save_text(tmp_path / "a.txt", documents=80)
    recipe = tiny_recipe(tmp_path / "model", text)
    recipe["calibration"] |= {"length": 66, "sequences": 2}
    with pytest.raises(SecateurError, match="length 66 is more than the model's 65 positions"):
        secateur.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
