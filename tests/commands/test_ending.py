"""The ends of commands: closed outputs, closed terminals, signals, and words that mean nothing; with real doit."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import PATIENCE, descendants, must_end, until

TOP = Path(__file__).resolve().parents[2]

#: Tasks that never end: a command, one that waits for something, and a real build.
DODO = """
import time
from pathlib import Path
from pipeline import events
from pipeline.engine import Engine
from pipeline.run import cleaning_up, run
from pipeline.step import Plan, Step

DOIT_CONFIG = {"num_process": 4, "default_tasks": ["quick"]}
HERE = Path.cwd()
STEP = Step("test", "x", "", "tests.makers:slow")
ENGINE = Engine(Plan({"test:x": STEP}), HERE / "artifacts", HERE)

def wait():
    try:
        Path("waiting").touch()
        while True:
            time.sleep(0.02)
    finally:
        time.sleep(0.3)
        Path("cleaned").touch()

def tidy():
    try:
        run(["sh", "-c", "touch untidy; sleep 1000"])
    finally:
        with cleaning_up():
            run(["sh", "-c", "sleep 3; touch tidied"])

def talk():
    for number in range(100):
        events.note(f"line {number}")
        time.sleep(0.01)

def task_hang():
    yield {"name": "command", "actions": [lambda: run(["sleep", "1000"])]}
    yield {"name": "wait", "actions": [wait]}
    yield {"name": "build", "actions": [lambda: ENGINE.build("test:x")]}

def task_tidy():
    return {"actions": [tidy]}

def task_talk():
    return {"actions": [talk]}

def task_quick():
    return {"actions": [lambda: Path("quick").touch()]}

def task_quicker():
    yield {"name": "one", "actions": [lambda: Path("quick").touch()], "clean": [lambda: Path("/sys/x").touch()]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    (tmp_path / "dodo.py").write_text(DODO)
    return tmp_path


def is_building(project: Path) -> bool:
    return any((project / "artifacts/store/.building").glob("*/files/begun"))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP), "TERM": "xterm", "COLUMNS": "120", "LINES": "40", **more}


def doit(folder: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **more}
    return subprocess.run(
        [sys.executable, "-m", "doit", *words],
        cwd=folder,
        env=environment(),
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def by_shell(folder: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What bash makes of a command line in which `doit` is doit; its status is that of the first in a pipe."""
    script = f'doit() {{ {sys.executable} -m doit "$@"; }}\n{line}\nexit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(**more),
        text=True,
        timeout=60,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


# --- closed outputs, with the commands of this checkout

QUERIES = [
    "list",
    "list --all",
    "list lock:debian12",
    "info --no-status lock:debian12",
    "why cluster:debian12",
    "status",
    "vm list",
    "help",
    "help run",
    "help lock",
    "status --help",
    "tabcompletion",
    "gc",
    "clean --dry-run index",
]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.mark.parametrize(("words", "unbuffered"), [*((words, "1") for words in QUERIES), ("list --all", "")])
def test_whoever_reads_may_stop_reading(artifacts: Path, words: str, unbuffered: str) -> None:
    done = by_shell(TOP, f"doit {words} | true", XEN_OSCAR_ARTIFACTS=str(artifacts), PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "more"), [*((words, "") for words in QUERIES), ("list --all", "2>&-"), ("why cluster:debian12", "2>&-")]
)
def test_outputs_may_be_closed(artifacts: Path, words: str, more: str) -> None:
    done = by_shell(TOP, f"doit {words} <&- >&- {more}", XEN_OSCAR_ARTIFACTS=str(artifacts))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["list --all", "status", "help", "quicker"])
def test_an_output_that_is_full_is_told(artifacts: Path, project: Path, words: str) -> None:
    done = by_shell(
        project if words == "quicker" else TOP, f"doit {words} > /dev/full", XEN_OSCAR_ARTIFACTS=str(artifacts)
    )
    assert done.returncode == 1
    assert re.search("no space (is )?left", done.stderr, re.IGNORECASE)
    assert "Traceback" not in done.stderr


def test_signs_that_an_encoding_lacks_are_shown_all_the_same(project: Path) -> None:
    with (project / "dodo.py").open("a") as file:
        file.write("\ndef task_arrow():\n    '''\\u2192'''\n    return {'actions': []}\n")
    done = by_shell(project, "doit list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "\\u2192" in done.stdout


def test_errors_are_told_though_nobody_reads_the_rest(project: Path) -> None:
    done = by_shell(project, "doit nosuch | true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "there is no task 'nosuch'")
    assert by_shell(project, "doit --json nosuch | true").returncode == 3


# --- a run whose output goes away


def on(project: Path, *words: str, **more: Any) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A run that hangs, and is there: its command, its waiting, its building."""
    return _on(project, words, more)


@contextlib.contextmanager
def _on(project: Path, words: tuple[str, ...], more: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", *words],
        cwd=project,
        env=environment(),
        text=True,
        start_new_session=True,
        **{"stderr": subprocess.PIPE, **more},
    )
    try:
        until(lambda: (project / "waiting").exists() and is_building(project))
        yield process
    finally:
        process.kill()
        process.communicate()


def require_end(process: subprocess.Popen[str], project: Path, status: int, word: str) -> None:
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert word in said
    assert "Traceback" not in said and "Error" not in said and "ignored" not in said
    assert (project / "cleaned").exists()
    assert not list((project / "artifacts/store/.building").glob("*"))


def test_a_closed_terminal_ends_a_run_as_ctrl_c_does(project: Path) -> None:
    ours, theirs = pty.openpty()
    with on(project, "hang", stdin=theirs, stdout=theirs) as process, must_end(descendants(process.pid)):
        os.close(theirs)
        os.close(ours)  # nobody sends a signal, as it is no controlling terminal: writing to it fails
        require_end(process, project, 128 + signal.SIGHUP, "ended by SIGHUP")


@contextlib.contextmanager
def at_a_terminal(project: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """As a person has it: a run that hangs, in the live view of its controlling terminal; and our end of that."""
    ours, theirs = pty.openpty()
    code = "import fcntl, os, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-m", "doit", "hang"],
        cwd=project,
        env=environment(),
        start_new_session=True,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        try:
            until(lambda: (project / "waiting").exists() and is_building(project))
            yield process, ours
        finally:
            process.kill()


def test_a_terminal_that_takes_everything_with_it(project: Path) -> None:
    with at_a_terminal(project) as (process, ours), must_end(descendants(process.pid)):
        os.close(ours)
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert (project / "cleaned").exists()


def test_ctrl_c_that_is_typed_more_than_once(project: Path) -> None:
    said = b""
    with at_a_terminal(project) as (process, ours), must_end(descendants(process.pid)):
        os.write(ours, b"\x03")
        with contextlib.suppress(OSError):  # at the end there is no terminal any more
            while block := os.read(ours, 1 << 16):
                said += block
                os.write(ours, b"\x03" if len(said) < 1 << 12 else b"")
        assert process.wait(timeout=60) == 128 + signal.SIGINT
    os.close(ours)
    assert b"ended by SIGINT" in said and b"Traceback" not in said
    assert (project / "cleaned").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_more_signals_do_no_harm(project: Path, number: signal.Signals) -> None:
    with on(project, "hang", stdout=subprocess.DEVNULL) as process, must_end(descendants(process.pid)):
        process.send_signal(number)
        for more in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, number) * 3:
            time.sleep(0.01)
            process.send_signal(more)
        require_end(process, project, 128 + number, f"ended by {number.name}")


def test_what_puts_things_in_order_is_not_ended(project: Path) -> None:
    """Longer than anything else may take to heed the signal."""
    with on(project, "hang", "tidy", stdout=subprocess.DEVNULL) as process, must_end(descendants(process.pid)):
        until((project / "untidy").exists)
        process.terminate()
        require_end(process, project, 128 + signal.SIGTERM, "ended by SIGTERM")
    assert (project / "tidied").exists()


@pytest.mark.parametrize("words", [("hang", "talk"), ("hang", "talk", "--json")])
def test_a_run_that_nobody_listens_to_any_more_ends(project: Path, words: tuple[str, ...]) -> None:
    with on(project, *words, stdout=subprocess.PIPE) as process, must_end(descendants(process.pid)):
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        require_end(process, project, 128 + signal.SIGPIPE, "nobody reads")


def test_under_nohup_it_goes_on(project: Path) -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-m", "doit", "-n", "0", "talk", "quick"],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=60)
    assert process.returncode == 0
    assert (project / "quick").exists()


def test_queries_end_by_signals_as_well(project: Path) -> None:
    (project / "dodo.py").write_text("import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(1000)\n")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        (project / "loading").unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-m", "doit", "list"], cwd=project, env=environment(), text=True, stderr=subprocess.PIPE
        ) as process:
            until((project / "loading").exists)
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (128 + number, f"ended by {number.name}\n")


# --- words


@pytest.mark.parametrize(
    "words",
    [
        ["quick=1"],
        ["a=b"],
        ["quick", "a=b"],
        ["="],
        ["=quick"],
        ["quick", ""],
        [""],
        ["quick", "nosuch"],
        ["quick\n"],
        ["nosuch", "quick"],
        ["quick", "no*such"],
        ["*such"],
        ["quick", "--", "-a"],
        ["list", "quick=1"],
        ["list", ""],
        ["info", "quick=1"],
        ["info", "nosuch"],
        ["clean", "quick=1"],
        ["clean", "no*such"],
        ["help", "nosuch"],
        ["quick", "list"],
        ["--json", "list"],
        ["list", "list"],
    ],
)
def test_a_word_that_is_no_task_is_refused_and_nothing_is_run(project: Path, words: list[str]) -> None:
    done = doit(project, *words)
    assert done.returncode == 3
    assert "there is no task" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (project / "quick").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["quick", "--nosuch"],
        ["quick", "-x"],
        ["list", "--nosuch"],
        ["--nosuch"],
        ["-d", "/tmp", "quick"],
        ["--file=dodo.py", "quick"],
        ["help", "run", "list"],
        ["info"],
        ["info", "quick", "quicker:one"],
    ],
)
def test_what_a_command_does_not_take_is_refused_with_where_to_look(project: Path, words: list[str]) -> None:
    done = doit(project, *words)
    assert done.returncode == 2
    assert "doit help" in done.stderr
    assert not (project / "quick").exists()


@pytest.mark.parametrize(
    "words",
    ["status x", "status a=b", "doctor x", "gc x", "why quick x", "vm list x y", "update a=b", "tabcompletion quick"],
)
def test_our_own_commands_drop_no_word_either(words: str) -> None:
    done = doit(TOP, *words.split())
    assert done.returncode in (2, 3)
    assert words.rsplit(maxsplit=1)[-1] in done.stderr


@pytest.mark.parametrize("command", ["forget", "ignore", "dumpdb", "reset-dep", "strace"])
def test_commands_on_what_is_not_remembered_are_refused(project: Path, command: str) -> None:
    done = doit(project, command, "quick")
    assert done.returncode == 1
    assert "not used here" in done.stderr and "hint:" in done.stderr


def test_options_may_stand_anywhere(project: Path) -> None:
    done = doit(project, "quick", "--json", "-n", "1", "--verbosity=1", "-a")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["done"] == 1


def test_without_a_word_the_default_is_run(project: Path) -> None:
    assert doit(project).returncode == 0
    assert (project / "quick").exists()


def test_what_cannot_be_cleaned_is_told(project: Path) -> None:
    done = doit(project, "clean", "quicker:one")
    assert done.returncode == 1
    assert done.stderr.startswith("/sys/x: Permission denied")
    assert "Traceback" not in done.stderr
