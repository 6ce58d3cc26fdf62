"""A workplace is plain values: whoever gets a copy opens the same bench."""

import pickle
import shutil
from pathlib import Path

import pytest

from secateur.fitness.text import TextRequest
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded, Workplace
from secateur.space.errors import SecateurError
from secateur.space.space import Space
from tests.tiny import all_genes


def workplace(tiny: Path) -> Workplace:
    texts = tuple(
        TextRequest(name, str(tiny / "calibration.txt"), "text", "train", 6, 16, 2) for name in ("calibration", "held")
    )
    return Workplace(str(tiny / "model"), texts, pruner="wanda", widths=WidthSettings("wanda-sp", hidden="magnitude"))


def test_a_copy_opens_the_same_bench(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))
    own = workplace(tiny)
    copy = pickle.loads(pickle.dumps(own))  # noqa: S301 - of our own making
    assert copy == own
    assert hash(copy) == hash(own)
    shape = own.load().anatomy
    space = Space(shape, all_genes(shape, "magnitude"))
    genome = space.canonical(space.smallest.with_level(0, 0))
    told: list[str] = []
    benches = [own.open(space, lambda what, done, total: told.append(what)), copy.open(space)]
    assert any("levels" in what for what in told)
    losses = [
        [one.losses for one in bench.evaluator(space, "held", ("kl", "cross_entropy"))([genome], range(6))]
        for bench in benches
    ]
    assert losses[0] == losses[1]
    assert benches[0].prepared_digest == benches[1].prepared_digest


def test_texts_are_read_before_the_model(tiny: Path, tmp_path: Path) -> None:
    """A text that is too short is told of a model whose weights are not even there."""
    shutil.copytree(tiny / "model", tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    text = TextRequest("few", str(tiny / "calibration.txt"), "text", "train", 10**6, 16, 1)
    with pytest.raises(SecateurError, match="is too short"):
        Workplace(str(tmp_path / "model"), (text,)).load()


def test_what_is_loaded_is_no_bench() -> None:
    """Nothing can be scored before it is prepared."""
    assert not hasattr(Loaded, "evaluator")
    assert not hasattr(Loaded, "weights")
