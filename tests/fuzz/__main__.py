"""Mutated inputs through the command line's `main`, in forked children with limits: no traceback, no hang, no mess."""

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

from tests.fuzz import mutations as m
from tests.fuzz import seeds

SECONDS, MEMORY, MESSAGE = 20.0, 2**30, 2000
AT_ONCE = 2
Change = Callable[[Path, random.Random], None]
Case = tuple[str, list[object]]


def preload() -> None:
    """Everything that children would import again and again."""
    import datasets  # noqa: F401
    import lm_eval.evaluator
    import lm_eval.models.huggingface
    import lm_eval.tasks  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import secateur.__main__
    import secateur.api
    import secateur.cli.main
    import secateur.runs.report.page
    import secateur.runs.report.study
    import secateur.runs.stages.tasks
    import secateur.runs.stages.tuning  # noqa: F401


def child(arguments: list[object], folder: Path, memory: int | None) -> None:
    """`secateur ARGUMENTS` with its output in `folder`; never returns."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ["SECATEUR_CACHE"] = str(folder / "cache")
    os.environ["HF_HOME"] = str(folder / "hf")
    if memory is not None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    sys.argv = ["secateur", *map(str, arguments)]
    status = 1
    try:
        from secateur.__main__ import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # what the interpreter would print
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def spawn(arguments: list[object], folder: Path, memory: int | None = MEMORY) -> int:
    pid = os.fork()
    if pid == 0:
        child(arguments, folder, memory)
    return pid


def case(kind: str, work: Path, rng: random.Random) -> Case:
    """Mutates a file of the workplace `work` and says with which command to meet it."""
    space = ["space", work / "greedy.yaml"]
    search = ["search", work / "greedy.yaml", "--out", work / "new"]
    match kind:
        case "recipe":
            name = rng.choice(list(seeds.recipes(work)))
            (m.change_yaml if rng.random() < 0.8 else m.change_bytes)(work / f"{name}.yaml", rng)
            command = ["space", work / f"{name}.yaml"]
            if rng.random() < 0.35:
                command = ["search", work / f"{name}.yaml", "--out", work / "new", "--set", "effort.tokens=4000"]
            return name, command
        case "set":
            key = rng.choice(
                ("effort.tokens", "genes.0.levels", "genes.9.x", "model", "budgets.parameters", "a.b.c", "seed")
            )
            return key, [
                *space,
                "--set",
                f"{key}={rng.choice(m.NASTY)}".replace("\0", "0").encode(errors="replace").decode(),
            ]
        case "config":
            m.change_json(work / "model" / "config.json", rng)
            return "config.json", rng.choice((space, space, search))
        case "tokenizer":
            name = rng.choice(("tokenizer.json", "tokenizer_config.json"))
            (m.change_json if rng.random() < 0.8 else m.change_bytes)(work / "model" / name, rng)
            return name, search
        case "weights":
            (m.change_safetensors if rng.random() < 0.6 else m.change_bytes)(work / "model" / "model.safetensors", rng)
            return "model.safetensors", search
        case "text":
            name, recipe = rng.choice(
                (("text.jsonl", "lines"), ("ids.npy", "tokens"), ("text.parquet", "table"), ("text.txt", "greedy"))
            )
            (m.change_lines if name == "text.jsonl" and rng.random() < 0.7 else m.change_bytes)(work / name, rng)
            return name, ["search", work / f"{recipe}.yaml", "--out", work / "new"]
        case "journal":
            run = work / rng.choice(("run-mixed", "run-front", "run-narrow"))
            (m.change_journal if rng.random() < 0.8 else m.change_bytes)(run / "journal.sqlite", rng)
            other = [
                ["resume", run],
                ["export", run, "--list"],
                ["compare", run, run],
                ["report", run, "--pick", "found"],
            ]
            return "journal", rng.choice((["report", run], *other))
        case "plan":
            plan = rng.choice(
                sorted((work / "run-narrow" / "plans").iterdir()) + sorted((work / "run-mixed" / "plans").iterdir())
            )
            (m.change_json if rng.random() < 0.8 else m.change_bytes)(plan, rng)
            to = rng.choice((*seeds.FORMATS, "hf", "gguf", "mergekit", "darwinlm", "block-configs"))
            return "plan", rng.choice((["export", plan, "--list"], ["export", plan, "--to", to, "--out", work / "new"]))
        case "peer":
            files = sorted(path for path in (work / "peers").rglob("*") if path.is_file())
            path = rng.choice(files)
            change: Change = (
                m.change_json if path.suffix == ".json" else m.change_yaml if path.suffix == ".yaml" else m.change_bytes
            )
            (change if rng.random() < 0.8 else m.change_bytes)(path, rng)
            return path.name, ["import", path, "--model", work / "model", "--out", work / "new"]
        case "gguf":
            m.change_bytes(work / "model.gguf", rng) if rng.random() < 0.5 else _header(work / "model.gguf", rng)
            extra = ["--set", f"model.path={work / 'model.gguf'}"]
            return "gguf", [*rng.choice((space, space, search)), *extra]
        case "recipe.yaml":
            run = work / "run-mixed"
            m.change_yaml(run / "recipe.yaml", rng)
            return "recipe.yaml", rng.choice((["report", run], ["resume", run]))
    name = rng.choice(("fuzzed.yaml", "data.jsonl"))
    change = m.change_yaml if name == "fuzzed.yaml" else m.change_lines
    change(work / "tasks" / name, rng)
    return name, ["eval", work / "model", "--tasks", "fuzzed", "--include", work / "tasks", "--limit", "2"]


def _header(path: Path, rng: random.Random) -> None:
    """Keys and tensors come first in a GGUF."""
    content = path.read_bytes()
    path.write_bytes(m.as_bytes(content[:3000], rng) + content[3000:])


KINDS = {
    "recipe": 8,
    "set": 2,
    "config": 5,
    "tokenizer": 3,
    "weights": 3,
    "text": 4,
    "journal": 7,
    "plan": 5,
    "peer": 5,
    "gguf": 3,
    "recipe.yaml": 2,
    "task": 1,
}


def judged(status: int, folder: Path, seconds: float) -> list[str]:
    """What is wrong with how a command ended."""
    err = (folder / "err").read_text("utf8", errors="replace")
    wrong = []
    if seconds >= SECONDS:
        wrong.append("hang")
    elif os.WIFSIGNALED(status):
        wrong.append(f"signal {os.WTERMSIG(status)}")
    elif os.WEXITSTATUS(status) not in (0, 2):
        wrong.append(f"status {os.WEXITSTATUS(status)}")
    if "Traceback" in err:
        wrong.append("traceback")
    if "out of memory" in err or "MemoryError" in err:
        wrong.append("memory")
    if len(err) > MESSAGE and "Traceback" not in err:
        wrong.append("message")
    if list(folder.rglob("*.secateur-part")):
        wrong.append("half-written")
    new = folder / "new"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 2 and new.is_dir() and not (new / "journal.sqlite").exists():
        wrong.append("half-written")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--inputs", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kind", choices=(*KINDS, "all"), default="all")
    parser.add_argument("--only", type=int, help="one input, whose output is shown")
    asked = parser.parse_args()
    print(f"fuzzing with --seed {asked.seed}", flush=True)
    preload()
    base = Path(tempfile.mkdtemp(prefix="secateur-fuzz-"))
    origin = base / "origin"
    origin.mkdir()

    def run(*arguments: object) -> int:
        pid = spawn(list(arguments), origin, None)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    pid = os.fork()
    if pid == 0:
        try:
            seeds.build(origin, run)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, (origin / "err").read_text()
    end, number = time.monotonic() + asked.seconds, 0
    running: dict[int, tuple[int, str, str, list[object], Path, float]] = {}
    counts: collections.Counter[str] = collections.Counter()
    found: list[str] = []
    if asked.only is not None:
        number, asked.inputs = asked.only, asked.only + 1
    while running or (number < asked.inputs and time.monotonic() < end):
        while len(running) < AT_ONCE and number < asked.inputs and time.monotonic() < end:
            rng = random.Random(f"{asked.seed}-{number}")
            kind = asked.kind if asked.kind != "all" else rng.choices(list(KINDS), list(KINDS.values()))[0]
            work = base / "work" / str(number)
            shutil.copytree(origin, work)
            _relocate(work, origin)
            what, command = case(kind, work, rng)
            running[spawn(command, work)] = (number, kind, what, command, work, time.monotonic())
            number += 1
        time.sleep(0.005)
        for pid, (index, kind, what, command, work, started) in list(running.items()):
            seconds = time.monotonic() - started
            if seconds >= SECONDS:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, 0 if seconds >= SECONDS else os.WNOHANG)
            if not done:
                continue
            del running[pid]
            counts[kind] += 1
            wrong = judged(status, work, seconds)
            if asked.only is not None:
                print(command, (work / "out").read_text(), (work / "err").read_text(), sep="\n")
            for one in wrong:
                last = (work / "err").read_text("utf8", errors="replace").strip().splitlines()[-1:]
                found.append(one)
                print(
                    f"{one}: --seed {asked.seed} --only {index} ({kind}, {what}, {command[0]}): {str(last)[:300]}",
                    flush=True,
                )
            shutil.rmtree(work, ignore_errors=True)
    total = sum(counts.values())
    print(f"{total:,} inputs ({', '.join(f'{name} {count}' for name, count in sorted(counts.items()))})")
    print(json.dumps({"wrong": collections.Counter(found)}))
    shutil.rmtree(base, ignore_errors=True)
    sys.exit(1 if found else 0)


def _relocate(work: Path, origin: Path) -> None:
    """The copy's recipes, runs and plans name the copy's files: same length, so that databases stay whole."""
    for path in (*work.glob("*.yaml"), *work.glob("tasks/*.yaml")):
        path.write_text(path.read_text().replace(str(origin), str(work)))


if __name__ == "__main__":
    main()
