"""Everything on a device that is not the CPU: a pretended one, which tells every copy, every wait and every mixture."""

import gc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secateur
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.memory import Placement
from secateur.fitness.model.device import device_name, find_device, synchronise
from secateur.fitness.recent import Recent
from secateur.fitness.resident import Resident
from secateur.fitness.slopes import SubnetSlopes
from secateur.fitness.timing import speed
from secateur.operators.sampling import uniform
from secateur.runs.asked.reading import make_recipe
from secateur.runs.memory import work_of
from secateur.runs.problem import build_space
from secateur.runs.record.facts import DEVICE, MEASURED
from secateur.runs.record.folder import RunFolder
from secateur.runs.run import execute
from secateur.runs.watcher import Watcher
from secateur.runs.workplace import workplace_of
from secateur.space.errors import SecateurError
from secateur.space.slopes import SLOPES
from tests.pretended import NAME, TRAFFIC, pretend
from tests.program import apart
from tests.tiny import tiny_recipe

DROPS = [{"kind": "attention"}, {"kind": "mlp"}]
WIDTHS = [{"kind": "attention", "levels": [2, 1, 0]}, {"kind": "mlp", "levels": "4 levels", "multiple_of": 4}]
SPARSE = [{"kind": "sparsity", "levels": [0.2, 0.4, 0.6, "2:4"]}]
HIDDEN = [{"kind": "hidden", "levels": [32, 24, 20], "multiple_of": 4}]
CANDIDATES: dict[str, dict[str, Any]] = {
    "drops": {"genes": DROPS},
    "magnitude": {"genes": SPARSE, "pruner": "magnitude"},
    "wanda": {"genes": SPARSE, "pruner": "wanda"},
    "sparsegpt": {"genes": SPARSE, "pruner": "sparsegpt"},
    "wanda in widths": {"genes": [*WIDTHS, *SPARSE], "pruner": "wanda"},
    "admm in widths": {"genes": [*WIDTHS, *SPARSE], "pruner": "admm"},
    "bias": {"genes": WIDTHS, "widths": {"order": "magnitude", "repair": "bias"}},
    "least-squares": {
        "genes": [*WIDTHS, *SPARSE],
        "widths": {"order": "wanda-sp", "repair": "least-squares"},
        "pruner": "ria",
    },
    "hidden": {"genes": [*WIDTHS, *SPARSE, *HIDDEN], "widths": {"hidden": "magnitude"}, "pruner": "wanda"},
    "pca": {"genes": [*WIDTHS, *SPARSE, *HIDDEN], "widths": {"hidden": "pca"}, "pruner": "wanda"},
    "three scores": {"genes": DROPS, "objectives": ["kl_full", "cross_entropy", "hidden_error", "parameters"]},
}
TRAINING = {"candidates": 2, "sequences": 4, "stages": [{"tokens": 32, "survivors": 1}]}
RUNS: dict[str, dict[str, Any]] = {
    "depth": {"genes": DROPS, "training": {"what": "full", **TRAINING}},
    "slopes": {
        "genes": SPARSE,
        "pruner": "wanda",
        "training": {"what": "lora", **TRAINING},
        "strategy": {"name": "surrogate", "sequences": 2},
        "effort": {"tokens": 4000},
    },
    "updating": {
        "genes": [*WIDTHS, *SPARSE],
        "pruner": "sparsegpt",
        "score": "cross_entropy",
        "widths": {"order": "obs", "repair": "least-squares"},
    },
    "admm": {"genes": [*WIDTHS, *SPARSE], "pruner": "admm", "widths": {"order": "output-error", "repair": "admm"}},
    "stream": {
        "genes": [*WIDTHS, *SPARSE, *HIDDEN],
        "pruner": "ria",
        "widths": {"order": "taylor", "repair": "bias", "hidden": "pca"},
        "training": {"what": "norms", **TRAINING},
    },
    "front": {
        "genes": WIDTHS,
        "widths": {"order": "flap"},
        "objectives": ["kl", "latency"],
        "budgets": {},
        "strategy": {"name": "nsga2", "population": 6, "initial": ["dense", "uniform"]},
        "effort": {"evaluations": 14},
        "latency": {"device": NAME, "prefill": 16, "decode": 2, "repeats": 3, "seconds": 2, "spread": 0.5},
    },
}


def recipe_of(tiny: Path, changes: Mapping[str, Any], device: str) -> Any:
    values = {"budgets": {}, "strategy": {"name": "random", "sequences": 2}, "effort": {"tokens": 2000}, **changes}
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", **values)
    return {**recipe, "model": {**recipe["model"], "device": device}}


def both(tiny: Path, cache: Path, changes: Mapping[str, Any]) -> list[Any]:
    """On the device and on the CPU."""
    pretend()
    return [scored(tiny, cache, changes, device) for device in (NAME, "cpu")]


def scored(tiny: Path, cache: Path, changes: Mapping[str, Any], device: str) -> tuple[Any, dict[str, Any]]:
    """Losses of some genomes, and what scoring them took when all of their levels had been seen before."""
    os.environ["SECATEUR_CACHE"] = str(cache / device)
    recipe = make_recipe(recipe_of(tiny, changes, device))
    space = build_space(recipe)
    bench = workplace_of(recipe, space).open(space)
    evaluate = bench.evaluator(space, "calibration", recipe.scores)
    rng = np.random.default_rng(0)
    genomes = list(dict.fromkeys(uniform(space, rng) for _ in range(12)))
    # Every file that they need is read, and nothing that is assembled of it is kept.
    list(evaluate(genomes, range(4)))
    bench.subnet.weights._assembled = Recent(0)
    TRAFFIC.clear()
    told = sorted(evaluate(genomes, range(4)), key=lambda one: genomes.index(one.genome))
    took = {"up": dict(TRAFFIC.up), "down": dict(TRAFFIC.down), "bytes": sum(TRAFFIC.up_bytes.values())}
    return [(one.genome.levels, one.status, dict(one.losses)) for one in told], took


def in_turns(tiny: Path, cache: Path, offload: str) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Losses of a population, with the model on the device and with blocks that come in turns, and what that took."""
    pretend()
    os.environ["SECATEUR_CACHE"] = str(cache)
    recipe = recipe_of(tiny, {"genes": [*WIDTHS, *SPARSE], "widths": {"order": "flap", "repair": None}}, NAME)
    work = work_of(make_recipe(recipe), build_space(make_recipe(recipe)))
    memory, found = work.peak(Placement(max(work.blocks), "disk", work.least)), []
    for placed in ({}, {"memory": memory, "offload": offload}):
        asked = make_recipe({**recipe, "model": {**recipe["model"], **placed}})
        space = build_space(asked)
        bench = workplace_of(asked, space).open(space)
        rng = np.random.default_rng(0)
        genomes = [space.dense, *(uniform(space, rng) for _ in range(9))]
        evaluate = bench.evaluator(space, "calibration", asked.scores)
        list(evaluate(genomes, range(4)))  # the teacher's answers are there
        TRAFFIC.clear()
        gc.collect()  # of the whole model nothing is there
        TRAFFIC.peak = 0
        found.append([(one.genome.levels, one.status, dict(one.losses)) for one in evaluate(genomes, range(4))])
    assert bench.shelf is not None
    return (
        found[0],
        found[1],
        {"up": dict(TRAFFIC.up), "peak": TRAFFIC.peak, "down": dict(TRAFFIC.down), "memory": memory},
    )


@pytest.mark.parametrize("offload", ["cpu", "disk"])
def test_blocks_that_come_in_turns_come_once_for_all_candidates(tiny: Path, tmp_path: Path, offload: str) -> None:
    """And no more is on the device than the recipe gives, the least that will do; hidden states wait on the host."""
    whole, placed, took = apart(in_turns, tiny, tmp_path, offload)
    assert sorted(placed) == sorted(whole)
    assert took["up"]["fitness/model/shelf.py:_bring"] <= 4 * 9
    assert took["peak"] <= took["memory"]
    assert "fitness/walk.py:_kept" in took["down"]


@pytest.mark.parametrize("name", CANDIDATES)
def test_for_a_candidate_ids_go_in_and_one_vector_of_losses_comes_out(tiny: Path, tmp_path: Path, name: str) -> None:
    """No mask, plane or repair is brought again, and nothing is waited for in between."""
    (there, took), (here, _) = apart(both, tiny, tmp_path, CANDIDATES[name])
    assert {status for _, status, _ in there} == {"ok"}
    embeddings = len({levels[-1] for levels, _, _ in there}) if "hidden" in CANDIDATES[name].get("widths", {}) else 1
    assert took["up"] == {"fitness/model/blocks.py:embed": embeddings}
    assert took["bytes"] == embeddings * 4 * 16 * 8, "ids of four sequences"
    assert took["down"] == {"fitness/scores/built_in.py:_on_host": len(there)}
    for (levels, _, losses), (same, _, others) in zip(there, here, strict=True):
        assert levels == same
        assert {score: pytest.approx(values, rel=1e-4) for score, values in losses.items()} == others


def sloped(tiny: Path, cache: Path) -> list[Any]:
    """Slopes on the device and on the CPU, and what they took when the levels had been seen before."""
    pretend()
    found: list[Any] = []
    for device in (NAME, "cpu"):
        os.environ["SECATEUR_CACHE"] = str(cache / device)
        recipe = make_recipe(recipe_of(tiny, CANDIDATES["wanda"], device))
        space = build_space(recipe)
        bench = workplace_of(recipe, space).open(space)
        ask = SubnetSlopes(space, bench.subnet, bench.evaluator(space, "calibration", ("kl",)).teacher, "kl")
        genome = uniform(space, np.random.default_rng(0))
        list(ask([genome], range(4)))
        TRAFFIC.clear()
        [slopes] = ask([genome], range(4))
        found += [slopes.reason, np.nan_to_num(slopes.first).tolist(), dict(TRAFFIC.up), dict(TRAFFIC.down)]
    return found


def test_slopes_are_waited_for_once(tiny: Path, tmp_path: Path) -> None:
    reason, first, up, down, _, others, *_ = apart(sloped, tiny, tmp_path)
    assert not reason
    assert up == {"fitness/slopes.py:_add": 2}, "ids, and how many positions each sequence is scored at"
    assert down == {"fitness/slopes.py:_on_host": 1}
    assert np.array(first) == pytest.approx(np.array(others), rel=1e-3, abs=1e-6)
    assert np.any(first)


def carried_out(tiny: Path, folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A whole run and its export."""
    pretend()
    os.environ["SECATEUR_CACHE"] = str(folder / "cache")
    run = secateur.run(recipe_of(tiny, changes, NAME), folder / "run")
    run.export("hf", folder / "smaller")
    with RunFolder.open(run.path, writing=False) as opened:
        journal = opened.journal
        return {
            "refused": dict(TRAFFIC.refused),
            "failed": [one.reason for _, one in journal.evaluations() if one.status == "failed"],
            "texts": sorted({text for text, _ in journal.evaluations()}),
            "slopes": [one.reason for _, one in journal.answers(SLOPES)],
            "devices": list(journal.all(DEVICE)),
            "timed": [one["device"] for one in journal.all(MEASURED).values()],
            "written": (folder / "smaller" / "config.json").is_file(),
        }


@pytest.mark.parametrize("name", RUNS)
def test_whole_runs_mix_no_devices(tiny: Path, tmp_path: Path, name: str) -> None:
    found = apart(carried_out, tiny, tmp_path, RUNS[name])
    assert found["refused"] == {}
    assert found["failed"] == []
    assert found["written"]
    assert found["devices"] == [f"{NAME} model 1"]
    assert any("trained on" in text for text in found["texts"]) == ("training" in RUNS[name])
    assert bool(found["slopes"]) == (name == "slopes")
    assert not any(found["slopes"])
    assert bool(found["timed"]) == (name == "front")
    assert set(found["timed"]) <= {NAME}


class Hearing(Watcher):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def moved(tiny: Path, folder: Path) -> list[Any]:
    """A run that was begun on the CPU, and cut there, goes on on the device."""
    os.environ["SECATEUR_CACHE"] = str(folder / "cache")
    made, left = SubnetEvaluator._evaluation, [5]

    def cut(self: SubnetEvaluator, *arguments: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return made(self, *arguments)

    SubnetEvaluator._evaluation = cut  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        secateur.run(recipe_of(tiny, {"genes": DROPS, "budgets": {"sublayers": 5}}, "auto"), folder / "run")
    SubnetEvaluator._evaluation = made  # type: ignore[method-assign]
    pretend()
    watcher = Hearing()
    with RunFolder.open(folder / "run") as opened:
        execute(opened, watcher)
        count = len(list(opened.journal.evaluations("calibration")))
    secateur.resume(folder / "run")
    with RunFolder.open(folder / "run", writing=False) as opened:
        again = len(list(opened.journal.evaluations("calibration")))
        devices = list(opened.journal.all(DEVICE))
    page = (folder / "run" / "report" / "index.html").read_text()
    return [watcher.said, count, again, devices, f"Evaluations were made on cpu and {NAME} model 1" in page]


def test_a_run_that_goes_on_on_another_device_says_so(tiny: Path, tmp_path: Path) -> None:
    said, count, again, devices, told = apart(moved, tiny, tmp_path)
    assert said == [f"goes on on {NAME} model 1; evaluations on calibration so far are of cpu"]
    assert count == again > 5
    assert devices == ["cpu", f"{NAME} model 1"]
    assert told


def refusals() -> list[str]:
    """What is said of devices that are not there."""
    pretend()
    found = [str(find_device(name)) for name in ("cpu", "auto", NAME, f"{NAME}:1")]
    for name in ("cuda", f"{NAME}:2", "nonsense", "cpu:x"):
        try:
            find_device(name)
        except SecateurError as error:
            found.append(str(error))
    for name in ("cpu", f"{NAME}:1"):
        synchronise(find_device(name))
    return [*found, device_name(find_device(NAME)), device_name(find_device("cpu")), *TRAFFIC.synchronised]


def test_devices_are_named_as_torch_names_them() -> None:
    assert apart(refusals) == [
        *("cpu", NAME, NAME, f"{NAME}:1"),
        f"model.device 'cuda': torch sees no such device; use {NAME} or cpu, or auto",
        f"model.device '{NAME}:2': there are 2 of them, counted from 0",
        f"model.device 'nonsense': torch knows no such device; use {NAME} or cpu",
        f"model.device 'cpu:x': torch knows no such device; use {NAME} or cpu",
        *(f"{NAME} model 1", "cpu"),
        f"{NAME}:1",
    ]


def brought() -> list[Any]:
    """Copies to the device by files of 400 bytes where there is room for two."""
    pretend()
    kept, reads = Resident(torch.device(NAME), limit=1000), list[str]()

    def get(name: str) -> float:
        def read() -> dict[str, torch.Tensor]:
            reads.append(name)
            return {"values": torch.full((100,), float(ord(name)))}

        before = sum(TRAFFIC.up.values())
        assert float(kept.get(name, read)["values"].mean()) == ord(name)
        return sum(TRAFFIC.up.values()) - before

    return [[get(name) for name in "abababcbcadbe"], reads]


def test_what_is_used_stays_on_the_device_and_goes_to_the_host_before_it_is_read_again() -> None:
    copies, reads = apart(brought)
    assert copies == [1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    assert reads == ["a", "b", "c", "d", "e"], "nothing is read twice: what went out is still on the host"


def test_a_dtype_that_is_slower_than_float32_is_warned_of(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    speeds = {"float32": 60e9, "bfloat16": 9e9, "float16": 50e9}
    monkeypatch.setattr(speed, "matrix_speed", lambda dtype, _: speeds[dtype])
    cpu = torch.device("cpu")
    assert [speed.slowness(dtype, cpu) for dtype in ("float32", "float16")] == ["", ""]
    said = "bfloat16 is 6.7 times slower than float32 on this cpu: set model.dtype to float32"
    assert speed.slowness("bfloat16", cpu).startswith(said)
    recipe = recipe_of(tiny, {"genes": DROPS}, "cpu")
    for dtype, told in (("bfloat16", True), ("float32", False)):
        lines = secateur.describe(make_recipe({**recipe, "model": {**recipe["model"], "dtype": dtype}})).lines
        assert any(line.startswith(said) for line in lines) == told


@pytest.mark.parametrize(
    ("device", "message"),
    [("", "write cpu, an accelerator"), ("CUDA", "write cpu, an accelerator"), ("cuda:x", "write cpu, an accelerator")],
)
def test_names_that_are_none_are_refused_in_the_recipe(tiny: Path, device: str, message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        make_recipe(recipe_of(tiny, {"genes": DROPS}, device))
