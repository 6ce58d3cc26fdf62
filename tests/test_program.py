"""The installed program as a user starts it: real processes, real signals, real exit status."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from secateur.terminal import LogWatcher, TerminalWatcher, plain, shortened
from tests.program import forked
from tests.test_kill_and_resume import count
from tests.tiny import tiny_recipe

PROGRAM = Path(sys.executable).with_name("secateur")
COMMANDS = ("search", "resume", "report", "export", "eval", "tune", "import", "compare", "dashboard", "space")


def started(*arguments: object, shell: str = "", **options: Any) -> subprocess.Popen[str]:
    words = [str(PROGRAM), *map(str, arguments)]
    # What a process that does not end was about is then said.
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **options.pop("environment", {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    if shell:
        words = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *words]
    return subprocess.Popen(
        words,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=_heard,
        **options,
    )


def _heard() -> None:
    """As in a terminal; who runs the tests in the background has signals ignored, and what they start with them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def ended(*arguments: object, **options: Any) -> tuple[int, str, str]:
    process = started(*arguments, **options)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return process.returncode, out, err


def test_alone_it_shows_its_commands() -> None:
    code, out, _ = ended()
    assert code == 2
    assert all(command in out for command in COMMANDS)
    code, out, _ = ended("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert ended("--version")[:2] == (0, f"secateur {yaml.safe_load('0.1.0')}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_refuses_what_it_does_not_know(command: str) -> None:
    code, out, _ = ended(command, "--help")
    assert (code, "Usage: secateur" in out) == (0, True)
    code, out, err = ended(command, "--nonsense")
    assert (code, out) == (2, "")
    assert "No such option: --nonsense" in err
    code, _, err = ended(command)
    assert code == 2
    assert "Missing" in err


def test_an_unknown_command_is_a_message() -> None:
    code, out, err = ended("serch")
    assert (code, out) == (2, "")
    assert "No such command 'serch'" in err


def test_streams_that_nobody_reads_or_that_are_full() -> None:
    assert ended("--help", shell="| head -1")[0] in (0, 141)
    code, _, err = ended("--help", shell="> /dev/full")
    assert code == 2
    assert "cannot write to standard output: No space left on device" in err
    assert ended("--help", shell=">&-")[0] == 0
    assert ended("nonsense", shell="2>&-")[0] == 2
    assert ended("nonsense", shell="2> /dev/full")[0] == 2
    assert ended("nonsense", shell="<&- >&- 2>&-")[0] == 2


@pytest.fixture(scope="module")
def long(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose search lasts, and a run of it that has begun."""
    folder = tmp_path_factory.mktemp("long")
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=[{"kind": "sparsity", "per": "linear", "levels": [0.25, 0.5]}],
        budgets={"linear_weights": "0.7x"},
        strategy={"name": "random"},
        effort={"evaluations": 100_000},
        baselines=[],
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def _in_the_middle(process: subprocess.Popen[str], run: Path, rows: int) -> None:
    end = time.monotonic() + 100
    while count(run) <= rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def _listening(process: subprocess.Popen[str]) -> None:
    """Waits until it has something to do at a SIGTERM."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        caught = next(one for one in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in one)
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
    pytest.fail("it does not listen")


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_search_that_is_stopped_says_how_to_go_on(
    long: Path, tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    run = tmp_path / "a run"
    arguments: tuple[object, ...] = ("search", long / "recipe.yaml", "--out", run)
    for again in range(2):
        rows = count(run)
        process = started(*arguments)
        _in_the_middle(process, run, rows)
        process.send_signal(number)
        if again:
            process.send_signal(number)  # as `timeout` does: the process, then its group
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(f"it goes on after the signal: {process.communicate()[1]}")
        assert process.returncode == status
        assert "Traceback" not in err
        assert err.count("secateur: ") == 1
        assert f"secateur: {word}; go on from here with: secateur resume '{run}'" in err, err
        assert "searching with random" in err, "progress where no terminal is"
        arguments = ("resume", run)


def test_stopped_before_there_is_a_run(long: Path, tmp_path: Path) -> None:
    process = started("search", long / "recipe.yaml", "--out", tmp_path / "run")
    _listening(process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "secateur: interrupted" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("search", "RECIPE", "--out", "new"),
        ("space", "RECIPE"),
        ("report", "RUN"),
        ("export", "RUN", "--to", "hf", "--out", "new"),
        ("eval", "RUN", "--tasks", "x"),
        ("tune", "RUN", "--tokens", "64", "--out", "new"),
        ("import", "RUN/plan.json", "--model", "RUN", "--out", "new.json"),
        ("compare", "RUN", "RUN"),
        ("dashboard", "RUN"),
    ],
)
def test_every_command_says_in_one_line_that_it_was_stopped(long: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """While it loads its libraries, which make errors of their own of what interrupts them."""
    names = {"RECIPE": str(long / "recipe.yaml"), "RUN": str(tmp_path)}
    process = started(*(names.get(word, word) for word in words), cwd=tmp_path)
    _listening(process)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert err.startswith("secateur: terminated; ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_second_signal_ends_what_does_not_end() -> None:
    code = """
import os, signal, threading, time
from secateur.space.errors import Stopped
from secateur.terminal import stoppable
def signals():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.5)
with stoppable():
    try:
        threading.Thread(target=signals).start()
        time.sleep(20)
    except Stopped:
        time.sleep(20)
"""
    command = [sys.executable, "-c", "import signal\nsignal.signal(2, signal.default_int_handler)" + code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert result.returncode == 130
    assert "left at once" in result.stderr


def test_a_signal_that_a_library_catches_is_not_lost() -> None:
    code = """
import os, signal
signal.signal(2, signal.default_int_handler)
from secateur.space.errors import Stopped
from secateur.terminal import LogWatcher, goes_on, stoppable
with stoppable():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        print("not here")
    except BaseException:
        print("caught")
    try:
        LogWatcher(print).phase("the next phase", None)
    except Stopped as stop:
        print(stop.word)
    try:
        with goes_on("so"):
            raise ImportError("of what was caught")
    except Stopped as stop:
        print(stop.__notes__)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines() == ["caught", "interrupted", "['so']"], result.stderr


def test_a_signal_that_is_lost_comes_again() -> None:
    code = """
import os, signal, threading
signal.signal(2, signal.default_int_handler)
from secateur import terminal
from secateur.space.errors import Stopped
terminal.AGAIN = 0.5
with terminal.stoppable():
    try:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            threading.Event().wait(20)
    except Stopped as stop:
        print(stop.word)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert (result.stdout, result.returncode) == ("interrupted\n", 0), result.stderr


def test_what_never_ends_is_left() -> None:
    """Such as a library that waits for workers which are gone, and catches whatever comes."""
    code = """
import os, signal, threading
signal.signal(2, signal.default_int_handler)
from secateur import terminal
terminal.AGAIN, terminal.PATIENCE = 0.2, 1.0
with terminal.stoppable():
    while True:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(20)
        except BaseException:
            signal.signal(2, signal.SIG_IGN)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 130
    assert "something does not end, and is left; what was finished is kept" in result.stderr


def test_without_a_home_or_a_folder_for_temporary_files(long: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name in ("HOME", "TMPDIR"):
        for value in (None, "", "/nonexistent"):
            code, out, err = forked("space", long / "recipe.yaml", cwd=tmp_path / "here", environment={name: value})
            assert code == 0, err
            assert "combinations" in out
    nowhere: dict[str, str | None] = {"SECATEUR_CACHE": "/dev/null/cache"}
    code, out, err = forked("space", long / "recipe.yaml", cwd=tmp_path / "here", environment=nowhere)
    assert code == 0, err
    assert not list((tmp_path / "here").iterdir()), "nothing is written into the working folder"


def test_lines_of_progress_say_what_how_far_and_how_long() -> None:
    now, lines = [0.0], list[str]()
    watcher = LogWatcher(lines.append, every=60, clock=lambda: now[0])
    watcher.phase("searching", 1000)
    for second in range(0, 301, 10):
        now[0] = second
        watcher.at(second, f"best {1 - second / 1000:.2f}")
    assert lines[0] == "searching"
    assert lines[1] == "searching: 6%, best 0.94, 1 min so far, 16 min left"
    assert len(lines) == 6
    watcher.blocks("preparing", 1, 30)
    now[0] += 3600
    watcher.blocks("preparing", 2, 30)
    assert lines[-2:] == ["preparing", "preparing: 7%, 1 h 00 min so far, 14 h 00 min left"]


@pytest.mark.parametrize("width", [80, 140])
def test_progress_fits_the_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, force_interactive=True, color_system=None)
    note = "best 0.8123 (rules 0.9012), rank correlation 0.83, 12,345 tokens/s"
    with TerminalWatcher(console) as watcher:
        watcher.phase("loading the model and its texts", None)
        watcher.phase("searching with surrogate", 1000)
        watcher.at(500, note)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert all(cell_len(line) <= width for line in shown)
    assert any(note in line for line in shown)
    assert any("searching with surrogate" in line and "100%" in line for line in shown)


def test_what_comes_from_outside_is_shown_as_it_is() -> None:
    assert plain("[red]a\x1b[31m\u202eb\ud800") == "[red]a�[31m�b�"
    assert len(shortened("x" * 10**6)) < 2000
