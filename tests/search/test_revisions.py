"""Whether strategies still decide as they did: a run of before is replayed, and has to come to the same.

`traces/revisions.json` has what each decided. Where one decides otherwise, its `revision` goes up, and

    python -m tests.search.test_revisions

writes that down anew. A revision that has gone up without need refuses runs that could go on.

What a model of the loss says differs in its last digits from processor to processor, and now and then that decides. So
all of it is computed by kernels that every processor of today has; where even those come to other numbers, nothing can
be said.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.search.memo import Memo
from secateur.search.model.options import Options
from secateur.search.steps import AskTell, Steps
from secateur.search.strategies.darwin import darwin
from secateur.search.strategies.evopress import Schedule
from secateur.search.strategies.surrogate import surrogate
from secateur.search.strategies.table import STRATEGIES as TABLE
from secateur.search.strategies.table import load
from secateur.space.budget import parse_budgets
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.search import test_downhill as slopes
from tests.search.test_strategies import POOL, STRATEGIES, drops, sparse, widths
from tests.tiny import ListJournal, TableEvaluator, anatomy_for, each

RECORD = Path(__file__).parent / "traces" / "revisions.json"
KERNELS = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "OMP_NUM_THREADS": "1",
}
"""Variables by which numpy, scipy and torch take the same kernels on every processor since 2013."""
SEED = 3
ANATOMY = anatomy_for(hidden_size=64, intermediate_size=256, num_hidden_layers=4, head_dim=16)
_ASKED = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": ["Q8_0", "Q5_0", "Q4_0"], "per": "sublayer"})
_FREE = Space(ANATOMY, KINDS["bits"].genes(ANATOMY, _ASKED, Wishes()))
STORED = _FREE.with_budgets(parse_budgets({"weight_bytes": "0.4x"}, _FREE.dense_costs))


def descending(space: Space, seed: int) -> Steps:
    return surrogate(space, slopes.POOL, seed, [space], Options(slopes=True, tolerance=0.02), [slopes.START])


def priced(space: Space, seed: int) -> Steps:
    return surrogate(space, slopes.POOL, seed, [space], Options(slopes=True, tolerance=0.02))


def trained(space: Space, seed: int) -> Steps:
    schedule = Schedule(generations=4, offspring=8, survivors=(4, 1), tokens=(16, 32))
    return darwin(space, POOL, seed, schedule, ((32,), (32, 64)), "costs", fresh=False)


CASES: dict[str, tuple[Callable[[], Space], Callable[[Space, int], Steps]]] = {
    f"{name}: {make.__name__}": (make, steps)
    for make in (drops, sparse, widths)
    for name, steps in STRATEGIES.items()
    if "multipruner" not in name or make != sparse
}
CASES["surrogate: bits"] = (lambda: STORED, priced)
CASES["surrogate: slopes"] = (lambda: slopes.SPACE, descending)
CASES["darwin: drops"] = (drops, trained)


def strategy_of(case: str) -> str:
    return case.split(":")[0].split(",")[0]


def decided(case: str) -> str:
    """A digest of all batches and the answer."""
    make, steps = CASES[case]
    space = make()
    if case in ("surrogate: slopes", "surrogate: bits"):
        evaluator: TableEvaluator = slopes.Convex(space, noise=0.01)
        exact = slopes.Exact(evaluator)
        memo = Memo(space, evaluator, ListJournal(), lambda _: each(exact))
    else:
        evaluator = TableEvaluator(space, 0.1, 0.2)
        memo = Memo(space, evaluator, ListJournal(), lambda _: evaluator)
    digest = hashlib.sha256()
    asking = AskTell(steps(space, SEED))
    while (batch := asking.ask()) is not None:
        used = [batch.sequences.start, batch.sequences.stop]
        said = [[genome.levels for genome in batch.genomes], used, [one.name for one in batch.also], batch.trained]
        digest.update(json.dumps(said).encode())
        asking.tell(memo(batch))
    digest.update(json.dumps(asking.incumbent.levels if asking.incumbent else None).encode())
    return digest.hexdigest()[:16]


def numbers() -> str:
    """A digest of what the kernels under the models come to here."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((90, 120))
    square = wide @ wide.T + np.eye(90)
    solved = np.linalg.solve(square, wide)
    values = [square, np.linalg.cholesky(square), solved, np.exp(-(wide**2)), np.log(1 + wide**2), wide.sum(axis=0)]
    tensor = torch.from_numpy(square)
    values += [
        torch.linalg.cholesky(tensor).numpy(),
        (tensor @ tensor).numpy(),
        tensor.exp().numpy(),
        tensor.erf().numpy(),
    ]
    return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in values)).hexdigest()[:16]


def everything() -> dict[str, Any]:
    rows = {case: {"revision": load(strategy_of(case)).revision, "decided": decided(case)} for case in CASES}
    return {"numbers": numbers(), "cases": rows}


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    """What all cases decide, in a process whose kernels are those of `KERNELS`."""
    command = [sys.executable, "-m", "tests.search.test_revisions", "show"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=os.environ | KERNELS, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_who_decides_otherwise_has_another_revision(case: str, now: dict[str, Any]) -> None:
    recorded: dict[str, Any] = json.loads(RECORD.read_text())
    before, found = recorded["cases"][case], now["cases"][case]
    again = "write it down anew (`python -m tests.search.test_revisions`)"
    assert found["revision"] == before["revision"], f"{case}: {again}"
    if found["decided"] != before["decided"] and now["numbers"] != recorded["numbers"]:
        pytest.skip("this processor's kernels come to other numbers than those that the record was made with")
    assert found["decided"] == before["decided"], (
        f"{case} decides otherwise than revision {found['revision']} did: raise that strategy's `revision`, and {again}"
    )


def test_every_strategy_is_recorded() -> None:
    assert {strategy_of(case) for case in CASES} == set(TABLE)


def test_other_settings_are_other_decisions(now: dict[str, Any]) -> None:
    """The digest notices: of all cases of one space no two are alike, but for those that ask for the same."""
    seen = {case: row["decided"] for case, row in now["cases"].items() if case.endswith(": drops")}
    assert len(set(seen.values())) >= len(seen) - 2


if __name__ == "__main__":
    if os.environ | KERNELS != os.environ:  # libraries read these when they are loaded
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.search.test_revisions", *sys.argv[1:]], os.environ | KERNELS
        )
    text = json.dumps(everything(), indent=1) + "\n"
    if sys.argv[1:] == ["show"]:
        print(text)
    else:
        RECORD.write_text(text)
