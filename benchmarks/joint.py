"""Widths and drops searched together on SmolLM2, at 20 % and 40 % fewer block parameters, against the alternatives.

Uniform width, drops only (searched with the same tokens), MultiPruner-style greedy, FLAP's allocation and ShortGPT, all
with the same orders and repairs; held-out KL and perplexity, and the paired difference of the joint plan to each.
Uniform widths come twice: on the levels of the search, and on multiples of 32 channels, which use the budget up. Runs
are kept in runs-local/benchmark-joint-*: a second call only reports, and one that was interrupted goes on.
"""

import math
from pathlib import Path

from benchmarks.setup import as_published, carried_out, console, table_of
from secateur.runs.asked.reading import read_recipe
from secateur.runs.asked.recipe import Recipe
from secateur.runs.problem import build_space, space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import FOUND
from secateur.runs.report.difference import Difference, compare, joined
from secateur.runs.report.summary import summarise
from secateur.runs.workplace import workplace_of
from secateur.space.evaluation import Evaluation, mean_and_error, merged

RATIOS = (0.8, 0.6)
BASELINES = ["shortgpt", "uniform-width", "flap", "greedy", "multipruner", "knapsack"]
TEXTS = ("sotu", "xsum")
GENES = [{"kind": "attention", "levels": [3, 2, 1, 0]}]


def recipe(ratio: float, drops_only: bool) -> Recipe:
    joint = read_recipe(Path("demo-widths"), [f"budgets.block_parameters='<= {ratio}x'"])
    values = joint.model_dump(mode="json")
    values |= {"baselines": BASELINES, "validation": None, **as_published(48)}
    if drops_only:
        values |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "baselines": []}
        warm = {"name": "knapsack", "sequences": 1}
        values["strategy"] = {"name": "evopress", "initial": ["shortgpt", "knapsack"], "warm": warm}
    return Recipe.model_validate(values)


def run(name: str, wanted: Recipe) -> Path:
    """Where it is, carried out."""
    path = Path("runs-local") / f"benchmark-joint-{name}"
    carried_out(path, wanted)
    return path


Plans = dict[str, tuple[dict[str, int], list[Evaluation | None]]]


def plans(path: Path) -> Plans:
    """Costs and held-out evaluations of every plan of a run."""
    with RunFolder.open(path, writing=False) as folder:
        space = space_of(folder)
        losses: dict[tuple[str, str], list[Evaluation]] = {}
        for text, evaluation in folder.journal.evaluations():
            losses.setdefault((text, evaluation.key), []).append(evaluation)
        return {
            row.name: (dict(row.costs), [joined(losses.get((text, space.key(row.genome)), [])) for text in TEXTS])
            for row in summarise(folder, space).rows
        }


def uniform(wanted: Recipe) -> Plans:
    """Every layer alike, with all KV groups or one less, and the widest MLP in multiples of 32 that fits then."""
    values = wanted.model_dump(mode="json")
    fine = build_space(Recipe.model_validate(values | {"genes": [GENES[0], {"kind": "mlp", "levels": "step 32"}]}))
    chosen: dict[str, dict[str, float | int | str]] = {}
    for groups in (3, 2):
        for kept in (level for level in fine.genes[-1].levels if isinstance(level, int)):
            plan: dict[str, float | int | str] = {
                gene.key: groups if gene.kind.name == "attention" else kept for gene in fine.genes
            }
            if fine.feasible(fine.from_json(plan)):
                chosen[f"uniform {groups} groups, {kept} channels"] = plan
                break
    widths = sorted({int(plan["mlp@0"]) for plan in chosen.values()}, reverse=True)
    few = Recipe.model_validate(values | {"genes": [GENES[0], {"kind": "mlp", "levels": widths}]})
    space = build_space(few)
    bench = workplace_of(few, space).open(space)
    result: Plans = {}
    for name, plan in chosen.items():
        genome = space.from_json(plan)
        scored: list[Evaluation | None] = []
        for text in TEXTS:
            evaluate = bench.evaluator(space, text, ("kl", "cross_entropy"))
            scored.append(merged(list(evaluate([genome], range(len(bench.texts[text]))))))
        result[name] = space.costs(genome).to_json(), scored
    return result


def main() -> None:
    for ratio in RATIOS:
        percent = round(100 * ratio)
        joint = plans(run(f"{percent}", recipe(ratio, drops_only=False)))
        alike = uniform(recipe(ratio, drops_only=False))
        drops = plans(run(f"{percent}-drops", recipe(ratio, drops_only=True)))
        table = table_of(
            f"SmolLM2 at {ratio:.0%} of the block parameters, held-out",
            ("plan", "parameters", "KL (95 %)", "perplexity sotu, xsum (95 %)", "joint minus it, KL (95 %)"),
        )
        rows = {"joint (found)": joint.pop(FOUND), "drops only (searched)": drops[FOUND], **joint, **alike}
        ours = rows["joint (found)"][1]
        for name, (costs, evaluations) in rows.items():
            table.add_row(name, f"{costs['block_parameters']:,}", *_scores(evaluations), _against(ours, evaluations))
        console.print(table)


def _scores(evaluations: list[Evaluation | None]) -> tuple[str, str]:
    known = [one for one in evaluations if one is not None]
    kl = [value for one in known for value in one.losses["kl"]]
    mean, error = mean_and_error(kl)
    perplexities = []
    for one in known:
        loss, spread = mean_and_error(one.losses["cross_entropy"])
        low, high = (math.exp(loss + sign * 1.96 * spread) for sign in (-1, 1))
        perplexities.append(f"{math.exp(loss):.1f} [{low:.1f}, {high:.1f}]")
    return f"{mean:.4f} ± {1.96 * error:.4f}", "\n".join(perplexities)


def _against(ours: list[Evaluation | None], theirs: list[Evaluation | None]) -> str:
    difference: Difference | None = compare(ours, theirs)
    if difference is None or ours is theirs:
        return ""
    return f"{difference.mean:+.4f}\n[{difference.low:+.4f}, {difference.high:+.4f}]"


if __name__ == "__main__":
    main()
