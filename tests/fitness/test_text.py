import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from secateur.fitness.sources import PACKAGED, documents
from secateur.fitness.text import TextRequest, from_token_file, pack
from secateur.fitness.workplace import Workplace
from secateur.space.errors import SecateurError
from tests.tiny import WORDS


def words(count: int, start: int = 0) -> str:
    return " ".join(WORDS[(start + index) % len(WORDS)] for index in range(count))


def test_text_files_of_every_kind_hold_the_same_documents(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ["one two", "three", "four five six"]
    (tmp_path / "a.txt").write_text("one two\n\n three \n\n\n\nfour five six\n\nthree")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"passage": text}) for text in texts))
    pq.write_table(pa.table({"passage": texts}), tmp_path / "a.parquet")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(json.dumps({"passage": text}) for text in texts))
    assert documents(str(tmp_path / "a.txt")) == texts
    assert documents(str(tmp_path / "a.jsonl"), field="passage") == texts
    assert documents(str(tmp_path / "a.parquet"), field="passage") == texts
    assert documents(str(folder), field="passage") == texts, "a Hugging Face dataset by name"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:quak", r"unknown packaged text; did you mean 'quac'\?"),
        ("missing.txt", "there is no such file"),
        ("no/such-dataset-anywhere", "cannot be loaded"),
    ],
)
def test_sources_that_do_not_exist(source: str, message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        documents(source)


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_packaged_texts_are_long_enough_to_search_and_to_confirm_on(name: str) -> None:
    texts = documents(f"package:{name}")
    assert len(texts) >= 90
    assert sum(map(len, texts)) > 700_000
    assert not any(text.startswith("Context (1)") for text in texts)


def test_a_wrong_field_names_the_fields(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"passage": "x"}\n')
    with pytest.raises(SecateurError, match=r"line 1: no text field 'text'; fields: passage"):
        documents(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('{"passage": "x"}\n{"pass')
    with pytest.raises(SecateurError, match=r"line 2: not JSON"):
        documents(str(tmp_path / "a.jsonl"), field="passage")


def test_packing(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    texts = [words(30, start) for start in range(40)]
    pool = pack("x", texts, tokenizer, 10, 8, seed=3)
    assert pool.ids.shape == (10, 8)
    assert pool.digest == pack("x", texts, tokenizer, 10, 8, seed=3).digest
    assert pool.digest != pack("x", texts, tokenizer, 10, 8, seed=4).digest
    assert len(pool.documents) < len(texts), "only as many documents as needed"
    other = pack("x", texts, tokenizer, 10, 8, seed=3, without=pool.documents)
    assert not other.documents & pool.documents
    single = pack("x", texts, tokenizer, 10, 8, seed=3, windows_per_document=1)
    assert len(single.documents) == 10


def test_text_that_is_too_short_says_how_much_there_is(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    with pytest.raises(SecateurError, match=r"too short: 10 sequences of 8 tokens are wanted, it has 2"):
        pack("x", [words(20)], tokenizer, 10, 8, seed=0)
    fewer = pack("x", [words(20)], tokenizer, 10, 8, seed=0, at_most=True)
    assert fewer.digest == pack("x", [words(20)], tokenizer, 2, 8, seed=0).digest
    with pytest.raises(SecateurError, match="it has 0"):
        pack("x", [words(3)], tokenizer, 10, 8, seed=0, at_most=True)


def test_token_files(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(100) % 50)
    pool = from_token_file(tmp_path / "ids.npy", 5, 10, vocabulary=50, seed=0)
    assert pool.ids.shape == (5, 10)
    rest = from_token_file(tmp_path / "ids.npy", 5, 10, vocabulary=51, seed=1, without=frozenset())
    assert rest.ids.shape == (5, 10)
    with pytest.raises(SecateurError, match=r"integer ids in 0..48"):
        from_token_file(tmp_path / "ids.npy", 5, 10, vocabulary=49, seed=0)
    with pytest.raises(SecateurError, match=r"too short: 11 sequences"):
        from_token_file(tmp_path / "ids.npy", 11, 10, vocabulary=50, seed=0)
    fewer = from_token_file(tmp_path / "ids.npy", 11, 10, vocabulary=50, seed=0, at_most=True)
    assert fewer.digest == from_token_file(tmp_path / "ids.npy", 10, 10, vocabulary=50, seed=0).digest
    np.save(tmp_path / "objects.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(SecateurError, match="cannot be read"):
        from_token_file(tmp_path / "objects.npy", 1, 1, vocabulary=50, seed=0)


def test_calibration_and_held_out_share_no_document(tiny: Path) -> None:
    def request(title: str) -> TextRequest:
        return TextRequest(title, str(tiny / "calibration.txt"), "text", "train", 8, 16, 1)

    requests = (request("calibration"), request("held"), request("more"))
    bench = Workplace(str(tiny / "model"), requests).load()
    first, second, third = (text.documents for text in bench.texts.values())
    assert not first & second
    assert not (first | second) & third
    assert len({text.digest for text in bench.texts.values()}) == 3
