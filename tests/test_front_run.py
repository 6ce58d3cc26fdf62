"""Runs for a front end to end on a tiny model: what they leave, what can be picked, and what is refused."""

import json
import re
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import jsonschema
import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from transformers import AutoModelForCausalLM

import secateur
from secateur.api import compare_all, study_of
from secateur.plans.plan import read_plan, schema
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space, space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import MEMBER, Choice
from secateur.runs.report.comparison import comparison
from secateur.runs.report.front_page import table
from secateur.search.loop import Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Batch, noted
from secateur.space.errors import SecateurError
from secateur.space.front import nondominated
from secateur.space.latency import Measured, Ratio, Times
from tests.tasks import task_folder
from tests.test_cli import command, refused, write
from tests.tiny import ListJournal, TableEvaluator, steps_of, tiny_recipe

GENES = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
    {"kind": "block"},
]
LATENCY = {"device": "cpu", "prefill": 16, "decode": 3, "seconds": 2, "repeats": 3}
ESTIMATE = {"device": "estimate", "name": "phone", "gflops": 50, "bandwidth": 20, "prefill": 16, "decode": 3}


def front_recipe(tiny: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "genes": GENES,
        "budgets": {"weight_bytes": "<= 0.95x"},
        "objectives": ["kl", "latency"],
        "latency": LATENCY,
        "front": {"members": 5, "points": 3},
        "strategy": {"name": "sms-emoa", "population": 8, "sequences": 2},
        "effort": {"evaluations": 90},
        "baselines": "all",
    }
    return tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", **(values | changes))


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run for a front of KL and measured latency."""
    folder = tmp_path_factory.mktemp("front")
    recipe = write(folder / "r.yaml", front_recipe(tiny))
    result = command("search", recipe, "--out", folder / "run", SECATEUR_CACHE=str(folder / "cache"))
    assert result.returncode == 0, result.stderr
    first = result.stdout.splitlines()[1]
    assert "plans on the front" in first
    assert "at the same latency (to 1 %, as measured) or less, held-out KL is" in first
    assert "whole models took, timed in turns with the dense one" in result.stdout
    return folder


def test_members_are_the_front_and_keep_the_budgets(finished: Path) -> None:
    run = secateur.Run(finished / "run")
    front = run.front
    assert front is not None
    assert 2 <= len(front.members) <= 5
    points = [[p.values["kl"], p.values["latency"]] for p in front.members]
    assert [index for index, p in enumerate(front.members) if not p.fault] == nondominated(points)
    latencies = [p.values["latency"] for p in front.members if not p.fault]
    assert latencies == sorted(latencies, reverse=True)
    for point in front.members:
        assert point.row.costs["weight_bytes"] <= 0.95 * front.summary.dense_costs["weight_bytes"]
        assert point.measured is not None
        assert set(point.measured.ratios) == {"prefill", "decode", "latency"}
        assert point.row.scores["held"]["kl"].sequences == 5
    by_table = nondominated([[p.values["kl"], p.table["latency"]] for p in front.members])
    assert by_table == list(range(len(front.members))), "on the table nothing is dominated"
    assert 0 < front.hypervolume < 1
    for curve in front.curves.values():
        volumes = [volume for _, _, volume in curve]
        assert volumes == sorted(volumes)
    assert set(front.curves) == {"found", "random"}
    assert {p.row.name.rpartition("-")[0] for p in front.references} >= {"shortgpt"}


def test_the_report_is_self_contained_and_escapes(finished: Path) -> None:
    report = finished / "run" / "report"
    html = (report / "index.html").read_text()
    assert not re.search(r"""<(script|img|link|iframe)[^>]+(src|href)=["']?(https?:|//)""", html)
    assert html.count('class="plotly-graph-div"') == 3
    assert "attention 4 " in html or "attention 2 " in html, "profiles on hover"
    for name in ("front", "hypervolume", "profile"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plans_of_a_front_say_what_was_measured(finished: Path) -> None:
    for path in (finished / "run" / "plans").iterdir():
        values = json.loads(path.read_text())
        jsonschema.validate(values, schema())
        plan = read_plan(path)
        assert plan.latency is not None
        assert plan.latency.device == "cpu"
        assert (plan.latency.prompt, plan.latency.tokens) == (16, 3)
        assert not plan.latency_estimate


@pytest.mark.parametrize("pick", ["knee", "1", "kl<=10", "latency<=0.9x", "weight_bytes <= 0.9x", "front-01", "found"])
def test_a_plan_can_be_picked_in_many_ways(finished: Path, pick: str) -> None:
    run = secateur.Run(finished / "run")
    front, plan = run.front, run.plan(pick)
    assert front is not None
    alive = {p.row.name: p for p in front.members if not p.fault}
    dense = front.summary.dense_costs
    if pick == "knee":
        assert plan.name == front.knee
    if pick == "1":
        assert plan.name == front.members[0].row.name
    if pick == "kl<=10":
        assert alive[plan.name].values["latency"] == min(p.values["latency"] for p in alive.values())
    if pick.startswith("latency"):
        limit = 0.9 * dense["latency"]
        kept = [p for p in alive.values() if p.values["latency"] <= limit]
        assert alive[plan.name].values["kl"] == min(p.values["kl"] for p in kept)
    if pick.startswith("weight"):
        assert plan.costs["weight_bytes"] <= 0.9 * dense["weight_bytes"]


def test_reports_and_exports_of_a_pick(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(finished / "cache")
    shown = command("report", finished / "run", "--pick", "knee")
    assert shown.returncode == 0, shown.stderr
    assert "measured on cpu" in shown.stdout
    out = finished / "smaller"
    made = command(
        "export", finished / "run", "--to", "hf", "--out", out, "--pick", "latency<=0.9x", SECATEUR_CACHE=cache
    )
    assert made.returncode == 0, made.stderr
    model = AutoModelForCausalLM.from_pretrained(out)
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()
    for pick, message in (
        ("99", "ranks go from 1"),
        ("latency<=0.0001x", "no member"),
        ("latency<=soon", "40ms"),
        ("latenzy<=0.5x", "did you mean 'latency'"),
        ("best", "knee"),
    ):
        answer = refused(monkeypatch, capsys, "report", finished / "run", "--pick", pick)
        assert answer.returncode == 2
        assert message in answer.stderr


def choices(run: Path) -> dict[str, Choice]:
    with RunFolder.open(run, writing=False) as folder:
        return {
            name: Choice(name, c.genome, c.tokens, c.evaluations, 0.0) for name, c in folder.journal.choices().items()
        }


def test_same_recipe_and_seed_same_front(finished: Path) -> None:
    again = finished / "again"
    result = command("search", finished / "r.yaml", "--out", again, SECATEUR_CACHE=str(finished / "cache"))
    assert result.returncode == 0, result.stderr
    assert choices(again) == choices(finished / "run")
    compared = compare_all([finished / "run", again], finished / "both.html")
    assert [one.evaluations for one in compared] == [compared[0].evaluations] * 2
    # The same plans are timed anew, so that those of the slower moment may all be dominated by the others.
    shared = [one.shared or 0 for one in compared]
    assert all(0 <= mine <= one.members for mine, one in zip(shared, compared, strict=True))
    assert bool(sum(shared)) == bool(sum(one.members for one in compared))
    page = (finished / "both.html").read_text()
    assert "plotly" in page
    assert 'src="http' not in page


def test_runs_of_other_problems_are_not_compared(finished: Path, tiny: Path, tmp_path: Path) -> None:
    other = front_recipe(tiny, objectives=["kl", "macs"], latency=None, budgets={})
    other["strategy"] = {"name": "knapsack", "sequences": 2}
    other.pop("latency")
    secateur.run(other, tmp_path / "other")
    with pytest.raises(SecateurError, match="another problem"):
        compare_all([finished / "run", tmp_path / "other"])
    with pytest.raises(SecateurError, match="at least two"):
        compare_all([finished / "run"])


def test_a_run_opens_in_optuna_dashboard(finished: Path) -> None:
    import optuna_dashboard

    path = study_of(finished / "run")
    storage = JournalStorage(JournalFileBackend(str(path)))
    [summary] = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    with RunFolder.open(finished / "run", writing=False) as folder:
        space = space_of(folder)
        keys = {evaluation.key for _, evaluation in folder.journal.evaluations("calibration")}
        members = {space.key(c.genome) for n, c in folder.journal.choices().items() if n.startswith(MEMBER)}
    assert len(study.trials) == len(keys)
    named = [t for t in study.trials if MEMBER in t.user_attrs["plans"]]
    assert len(named) == len(members)
    assert all(value <= 0 for trial in named for value in trial.constraints.values())
    assert set(study.trials[0].params) == {gene.key for gene in space.genes}

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    server = make_server("localhost", 0, optuna_dashboard.wsgi(storage), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with urllib.request.urlopen(f"http://localhost:{server.server_port}/api/studies") as answer:
            studies = json.load(answer)["study_summaries"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [one["study_name"] for one in studies] == ["run"]


def test_an_estimate_is_called_one_everywhere(tiny: Path, tmp_path: Path) -> None:
    recipe = front_recipe(tiny, latency=ESTIMATE, strategy={"name": "nsga2", "population": 6, "sequences": 2})
    recipe |= {"effort": {"evaluations": 40}, "baselines": ["shortgpt"], "budgets": {"decode": "<= 0.9x"}}
    shown = command("space", write(tmp_path / "r.yaml", recipe))
    assert "decode" in shown.stdout, shown.stderr
    run = secateur.run(recipe, tmp_path / "run")
    assert run.front is not None
    assert run.front.estimate
    assert all(point.measured is None for point in run.front.members)
    assert run.plan("knee").latency_estimate
    assert run.plan("knee").latency is None
    html = (tmp_path / "run" / "report" / "index.html").read_text()
    assert html.count("ESTIMATE") >= 2
    told = command("report", tmp_path / "run")
    assert "ESTIMATE" in told.stdout
    assert "(estimate)" in command("report", tmp_path / "run", "--pick", "knee").stdout


def test_one_plan_under_a_latency_budget_is_checked_end_to_end(tiny: Path, tmp_path: Path) -> None:
    recipe = front_recipe(tiny, objectives=[], strategy={"name": "knapsack", "sequences": 2}, effort={})
    recipe |= {"budgets": {"latency": "<= 0.8x"}, "baselines": ["shortgpt"]}
    run = secateur.run(recipe, tmp_path / "run")
    plan = run.plan()
    assert plan.costs["latency"] <= 0.8 * plan.dense_costs["latency"]
    assert plan.latency is not None
    assert run.front is None


def own_loss(model: Any, ids: torch.Tensor) -> float:
    """Share of tokens that the model does not guess."""
    return float((model(ids).logits[0, :-1].argmax(-1) != ids[0, 1:]).float().mean())


def test_a_score_of_the_users_own(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "def wrong(model, ids):\n"
        "    return float((model(ids).logits[0, :-1].argmax(-1) != ids[0, 1:]).float().mean())\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = front_recipe(tiny, objectives=["kl", "mine:wrong", "parameters"], budgets={}, baselines=[])
    recipe |= {"strategy": {"name": "random", "sequences": 2}, "effort": {"evaluations": 20}}
    recipe.pop("latency")
    run = secateur.run(recipe, tmp_path / "run")
    front = run.front
    assert front is not None
    sys.path.append(str(tmp_path))
    plan = run.export("hf", tmp_path / "smaller", pick="1")
    model = AutoModelForCausalLM.from_pretrained(plan)
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        from secateur.runs.workplace import workplace_of

        texts = workplace_of(folder.recipe, space_of(folder)).load().calibration
    expected = sum(own_loss(model, texts.ids[index][None]) for index in range(2)) / 2
    assert front.members[0].values["mine:wrong"] == pytest.approx(expected)
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        held = workplace_of(folder.recipe, space_of(folder)).load().texts["held"]
    confirmed = [own_loss(model, ids[None]) for ids in held.ids]
    assert front.members[0].row.scores["held"]["mine:wrong"].mean == pytest.approx(sum(confirmed) / len(confirmed))
    headings, rows = table(front)
    [shown] = [row[headings.index("held\nmine:wrong")] for row in rows if row[0] == "1"]
    assert shown.startswith(f"{sum(confirmed) / len(confirmed):.3f}")
    assert "mine:wrong" in "".join(table(front, brief=True)[0][3:])
    assert "held-out held: mine:wrong" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_a_population_starts_from_files(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layer_drop_config.txt").write_text("none\nattn\nattn+mlp\nmlp\n")
    recipe = front_recipe(tiny, budgets={}, baselines=[], objectives=["kl", "parameters"], effort={"evaluations": 24})
    recipe["strategy"] |= {"initial": ["layer_drop_config.txt"]}
    recipe.pop("latency")
    run = secateur.run(recipe, tmp_path / "run")
    with RunFolder.open(run.path, writing=False) as folder:
        space = space_of(folder)
        wanted = space.from_json({"attention@1": 0, "block@2": 0, "mlp@3": 0})
        assert wanted in {evaluation.genome for _, evaluation in folder.journal.evaluations("calibration")}
    (tmp_path / "layer_drop_config.txt").unlink()
    secateur.resume(run.path)


def test_an_lm_eval_task_is_an_objective(tiny: Path, tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks")
    recipe = front_recipe(tiny, objectives=["kl", "lm-eval:guess", "parameters"], budgets={}, baselines=[])
    recipe |= {"strategy": {"name": "random", "sequences": 3}, "effort": {"evaluations": 10}}
    recipe |= {"tasks": {"include": str(folder), "documents": 4}}
    recipe.pop("latency")
    run = secateur.run(recipe, tmp_path / "run")
    front = run.front
    assert front is not None
    # Against lm-eval itself on the exported checkpoint.
    import lm_eval
    from lm_eval.tasks import TaskManager

    out = run.export("hf", tmp_path / "smaller", pick="1")
    result = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(out), "dtype": "float32"},
        tasks=["guess"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        samples={"guess": list(range(12))},
        device="cpu",
        bootstrap_iters=0,
    )
    assert result is not None
    assert front.members[0].values["lm-eval:guess"] == pytest.approx(1 - result["results"]["guess"]["acc,none"])


def test_a_benchmark_as_an_objective_needs_to_be_meant(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = task_folder(tmp_path / "tasks")
    # A local task of a benchmark's name is taken for it.
    task_folder(folder, "piqa")
    wanted = (("hellaswag", "reported honestly"), ("piqa", "another name"), ("gues", "did you mean 'guess'"))
    for name, message in wanted:
        recipe = front_recipe(tiny, objectives=["kl", f"lm-eval:{name}", "latency"], tasks={"include": str(folder)})
        answer = refused(monkeypatch, capsys, "search", write(tmp_path / "r.yaml", recipe), "--out", tmp_path / "run")
        assert answer.returncode == 2
        assert message in answer.stderr


def test_the_same_size_twice_is_searched_once(tiny: Path) -> None:
    asked: list[list[Batch]] = []
    for sizes in (["0.8x", "0.6x"], ["0.8x", "80%", "0.6x", "0.6x"]):
        asked.append([])
        strategy = {"name": "surrogate", "sequences": 2, "sizes": sizes}
        recipe = make_recipe(front_recipe(tiny, strategy=strategy, objectives=["kl", "parameters"], latency=None))
        space = build_space(recipe)
        steps = steps_of(recipe)
        memo = Memo(space, TableEvaluator(space), ListJournal())
        run(AskTell(noted(steps, lambda batch, _: asked[-1].append(batch))), memo, Spending(16))
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ({"name": "exhaustive", "sequences": 2}, {"genes": [{"kind": "mlp"}], "effort": {}}),
        (
            {"name": "nsga2", "population": 6, "sequences": 2, "initial": ["greedy", "knapsack"]},
            {"effort": {"evaluations": 120}},
        ),
        ({"name": "tpe", "population": 6, "sequences": 2, "encoding": "shares", "initial": ["uniform"]}, {}),
        ({"name": "nsga3", "population": 6, "sequences": 2}, {"objectives": ["kl", "prefill", "kv_bytes"]}),
        ({"name": "knapsack", "sequences": 2}, {"objectives": ["perplexity", "kl"], "latency": None}),
        ({"name": "random", "sequences": 2}, {"objectives": ["kl", "perplexity", "macs"], "latency": None}),
        ({"name": "nsga2", "population": 8, "sequences": 8, "race": 0.2}, {}),
        ({"name": "surrogate", "sequences": 2, "first": 1, "sizes": 3}, {"effort": {"evaluations": 120}}),
        (
            {"name": "surrogate", "sequences": 2, "sizes": ["0.8x", "60%"]},
            {"objectives": ["kl", "parameters"], "latency": None, "effort": {"evaluations": 120}},
        ),
    ],
)
def test_every_way_to_a_front_where_the_dense_model_breaks_a_budget(
    tiny: Path, tmp_path: Path, strategy: dict[str, Any], changes: dict[str, Any]
) -> None:
    values: dict[str, Any] = {"latency": ESTIMATE, "strategy": strategy, "baselines": [], "effort": {"evaluations": 60}}
    recipe = front_recipe(tiny, **(values | changes))
    recipe["budgets"] = {"parameters": "<= 0.9x"}
    run = secateur.run({key: value for key, value in recipe.items() if value is not None}, tmp_path / "run")
    front = run.front
    assert front is not None
    assert front.members
    assert 0 < front.hypervolume < 1
    assert front.curves["found"]
    for point in front.members:
        assert point.row.costs["parameters"] <= 0.9 * front.summary.dense_costs["parameters"]
    assert run.plan("knee").name == front.knee
    assert (tmp_path / "run" / "plans" / "knee.json").exists()


def test_a_member_that_breaks_its_budget_as_measured_is_none(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says 0.8x can be kept; the clock says everything takes 0.9x."""

    def slow(*_: object) -> Measured:
        ratios = {name: Ratio(0.9, 0.001) for name in ("prefill", "decode", "latency")}
        return Measured("cpu", Times(90, 9), Times(100, 10), ratios, 3)

    def quick(*_: object) -> Measured:
        ratios = {name: Ratio(0.7, 0.001) for name in ("prefill", "decode", "latency")}
        return Measured("cpu", Times(70, 7), Times(100, 10), ratios, 3)

    monkeypatch.setattr("secateur.fitness.bench.Bench.time_whole", slow)
    recipe = front_recipe(tiny, budgets={"latency": "<= 0.8x"}, baselines=[], effort={"evaluations": 30})
    recipe["strategy"] = {"name": "knapsack", "sequences": 2}
    run = secateur.run(recipe, tmp_path / "front")
    assert run.front is not None
    assert {point.fault for point in run.front.members} == {"over latency as measured"}
    assert run.front.verdict.startswith("No front found")
    with pytest.raises(SecateurError, match="No front found"):
        run.plan("knee")
    single = secateur.run(recipe | {"objectives": [], "effort": {}}, tmp_path / "single")
    [line] = single.summary.latency
    assert re.fullmatch(
        r"latency <= [0-9.]+ ms, as timed on cpu in turns .* \([0-9.]+ ms\): NOT kept by found", line
    ), line
    monkeypatch.setattr("secateur.fitness.bench.Bench.time_whole", quick)
    kept = secateur.run(recipe | {"objectives": [], "effort": {}}, tmp_path / "kept")
    [line] = kept.summary.latency
    assert line.endswith("kept by found")
    page = (tmp_path / "kept" / "report" / "index.html").read_text()
    assert "as timed" in page
    columns, rows = comparison(kept.summary, ["latency"], estimate=False, digits=3)
    place = [column.name for column in columns].index("latency as timed, 95 %")
    dense = kept.summary.dense_costs["latency"] / 1e6
    assert [row[place] for row in rows] == [f"{0.7 * dense:.1f} ms ± {0.001 * dense:.1f}", f"{dense:.1f} ms"]

    def close(*_: object) -> Measured:
        ratios = {name: Ratio(0.805, 0.01) for name in ("prefill", "decode", "latency")}
        return Measured("cpu", Times(80, 8), Times(100, 10), ratios, 3)

    monkeypatch.setattr("secateur.fitness.bench.Bench.time_whole", close)
    near = secateur.run(recipe | {"objectives": [], "effort": {}}, tmp_path / "near")
    assert near.summary.latency[0].endswith("missed, by less than timings spread, by found")


def test_what_cannot_be_timed_is_said_and_ranked_last(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> Measured:
        raise SecateurError("the device is on fire")

    monkeypatch.setattr("secateur.fitness.bench.Bench.time_whole", refuses)
    recipe = front_recipe(tiny, baselines=[], strategy={"name": "knapsack", "sequences": 2})
    run = secateur.run(recipe, tmp_path / "run")
    assert run.front is not None
    assert {point.fault for point in run.front.members} == {"not timed"}
    assert set(run.front.untimed.values()) == {"the device is on fire"}


def test_a_reference_below_the_best_there_can_be_is_refused(tiny: Path, tmp_path: Path) -> None:
    recipe = front_recipe(tiny, reference={"kl": -1}, latency=ESTIMATE)
    with pytest.raises(SecateurError, match=r"reference.kl: -1 is not above"):
        secateur.run(recipe, tmp_path / "run")


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"objectives": ["kl", "speed"]}, "unknown 'speed'"),
    ({"objectives": ["kl", "kl", "latency"]}, "twice"),
    ({"objectives": ["kl"]}, "one alone is no front"),
    ({"objectives": ["parameters", "macs"]}, "add a score"),
    ({"objectives": ["kl", "cross_entropy"], "budgets": {}}, "dense model is best"),
    ({"objectives": ["kl", "nowhere:f", "latency"]}, "cannot be imported"),
    ({"objectives": ["kl", "math:pi", "latency"]}, "function"),
    ({"latency": {"device": "cuda"}}, "the model is on cpu"),
    ({"latency": {"device": "npu"}}, "latency.device"),
    ({"latency": {"device": "estimate"}}, "gflops"),
    ({"latency": LATENCY | {"gflops": 3, "bandwidth": 2}}, "is measured"),
    ({"latency": LATENCY | {"decode": 0}, "objectives": ["kl", "decode"]}, "how many tokens"),
    ({"budgets": {"weight_bytes": "<= 0.1x"}}, "below"),
    ({"budgets": {"latency": "<= 0.001x"}, "latency": ESTIMATE}, "below"),
    ({"budgets": {"latency": "<= 7"}}, "40ms"),
    ({"reference": {"kll": 2}}, "did you mean 'kl'"),
    ({"reference": {"kl": "much"}}, "write a number"),
    ({"strategy": {"name": "evopress"}, "effort": {"tokens": 9000}}, "minimises one score"),
    ({"objectives": [], "strategy": {"name": "nsga2"}}, "searches for a front"),
    ({"strategy": {"name": "nsga2", "initial": ["nothing"]}}, "no plan file"),
    ({"strategy": {"name": "nsga2", "initial": ["gone.json"]}}, "cannot be read"),
    ({"strategy": {"name": "nsga2", "race": 0.2}}, "set 'sequences' to 8 or more"),
    ({"strategy": {"name": "nsga2", "populaton": 9}}, "did you mean 'population'"),
    ({"effort": {}}, "no end of its own"),
    ({"genes": [{"kind": "sparsity", "levels": [0.5]}]}, "zeros in dense matrices"),
    ({"genes": [{"kind": "mlp"}], "objectives": ["kl", "kv_bytes"], "latency": None}, "is the same for every genome"),
    ({"objectives": ["kl", "macs"]}, "nothing is said about latency"),
    ({"latency": ESTIMATE | {"prefill": 64}}, "64 positions"),
    ({"effort": {"evaluations": 12}}, "fewer than its population of 8"),
    (
        {"genes": [{"kind": "sparsity", "levels": [0.5]}], "objectives": [], "budgets": {"latency": "0.5x"}}
        | {"strategy": {"name": "knapsack"}},
        "genes that narrow or drop",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_nonsense_is_refused_before_any_model_runs(
    tiny: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("secateur.runs.run.coordinating", never)
    recipe = {key: value for key, value in front_recipe(tiny, **changes).items() if value is not None}
    answer = refused(monkeypatch, capsys, "search", write(tmp_path / "r.yaml", recipe), "--out", tmp_path / "run")
    assert answer.returncode == 2
    assert message in answer.stderr, answer.stderr
    assert answer.stderr.count("secateur:") == 1
    assert not (tmp_path / "run").exists()


def test_a_key_that_stands_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text("budgets:\n  parameters: 0.7x\n  parameters: 0.5x\n")
    answer = refused(monkeypatch, capsys, "space", tmp_path / "r.yaml")
    assert "'parameters' stands there twice, line 2" in answer.stderr
