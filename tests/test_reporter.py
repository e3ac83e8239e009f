"""How a run is shown, with a real doit in a folder of its own; and the order in which events may come."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import events
from pipeline.reporter import EventsReporter, LiveReporter
from pipeline.views.lines import amount
from pipeline.views.view import Activity

TOP = Path(__file__).resolve().parents[1]

DODO = """
import sys, time
from pathlib import Path
from doit import get_var
from pipeline import consent, events
from pipeline.errors import BuildError
from pipeline.run import run

DOIT_CONFIG = {"num_process": 2}
if Path("warned").exists():
    events.warning(Path("warned").read_text())

def build(name):
    events.reason(name, "the lock changed")
    for done in range(5):
        events.progress(name, done * 10**7, 5 * 10**7, "bytes")
        time.sleep(0.05)
    events.outcome(name, "built", 12.3, 118_000_000)

def boot():
    events.reason("boot", "it does not run")
    events.phase("boot", "node1", "installing", "partitions")
    time.sleep(0.5)
    events.phase("boot", "node1", "installing", "files")
    events.phase("boot", "node1", "up")
    time.sleep(0.5)

def fail(text):
    raise BuildError(text, hint="make room", tail="last line")

def bug():
    return {}["nothing"]

def sleep():
    run(["sleep", "1000"])

def wait():
    try:
        while True:
            time.sleep(0.1)
    finally:
        Path("cleaned").write_text("up")

def task_root():
    for name in "ab":
        yield {"name": name, "actions": [(build, [f"root:{name}"])]}
    yield {"name": "c", "actions": [(build, ["root:c"])], "uptodate": [True]}

def task_boot():
    return {"actions": [boot], "task_dep": ["root"]}

def task_bad():
    yield {"name": "full", "actions": [(fail, ["disk full"])]}
    yield {"name": "gone", "actions": [(fail, ["mirror gone"])]}
    yield {"name": "bug", "actions": [bug]}
    yield {"name": "after", "actions": [boot], "task_dep": ["bad:full"]}

def task_hang():
    yield {"name": "sleep", "actions": [sleep]}
    yield {"name": "wait", "actions": [wait]}

CLIPBOARD, CLEAR, SWAPPED = "\\x1b]52;c;cm0=\\x07", "\\x1b[2J", "\\u202e"

def hostile():
    said = f"{CLIPBOARD}{CLEAR}{SWAPPED}\\x9b2J[bold]as it is[/bold] :smile:"
    events.phase("hostile", "node1", "copy" + said, f"12%\\nboot: done in 1 s{said}")
    events.note(f"it says: {said}")
    time.sleep(0.5)
    raise BuildError(f"node1: {said}", hint=said, tail=f"{said}\\nlast{CLEAR} line", log=Path(f"log{CLEAR}"))

def task_hostile():
    return {"actions": [hostile]}

def task_ready():
    return {"actions": [boot], "uptodate": [True]}

def task_fresh():
    return {"actions": [lambda: events.note(f"fresh={get_var('fresh')}")]}

def task_lose():
    def lose():
        consent.require("node1 is lost: go on?", BuildError("node1 would be lost", hint="--yes"))
        events.note("lost it")
    yield {"name": "node1", "actions": [lose]}
    yield {"name": "beside", "actions": [boot]}

def task_asking():
    def ask():
        raise BuildError("the store cannot be read", hint="mend it")
    return {"actions": [boot], "uptodate": [ask]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    (tmp_path / "dodo.py").write_text(DODO)
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}


def doit(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doit", *args],
        cwd=project,
        env=environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


def doit_json(project: Path, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in doit(project, *args).stdout.splitlines()]


def on_terminal(project: Path, *args: str, typed: bytes = b"") -> str:
    """What doit writes when its standard output is a terminal, on which `typed` answers the first question."""
    ours, theirs = pty.openpty()
    own = ["setsid", "--ctty"] if typed else []  # so that a Ctrl-C that is typed reaches it
    process = subprocess.Popen(
        [*own, sys.executable, "-m", "doit", *args],
        cwd=project,
        env=environment(),
        stdin=theirs if typed else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    output = b""
    try:
        while block := os.read(ours, 65536):
            output += block
            if typed and b"[y/N]" in output:
                os.write(ours, typed)
                typed = b""
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
        process.wait(timeout=60)
    return output.decode()


# --- plain lines


@pytest.mark.parametrize("task", ["boot", "ready"])
def test_warnings_are_told_at_each_run_and_by_list_beside_the_tasks(project: Path, task: str) -> None:
    (project / "warned").write_text("a.xml:3: arch: never fits")
    assert "warning: a.xml:3: arch: never fits\n" in doit(project, task).stdout
    told = [event["text"] for event in doit_json(project, "--json", task) if event["event"] == "warning"]
    assert told == ["a.xml:3: arch: never fits"]
    assert "warning: a.xml:3: arch: never fits" in on_terminal(project, task)
    listed = doit(project, "list")
    assert listed.stderr == "warning: a.xml:3: arch: never fits\n"
    assert "warning" not in listed.stdout and "root" in listed.stdout


def test_lines_say_why_a_task_runs_and_how_long_it_took(project: Path) -> None:
    done = doit(project, "boot")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "root:a: the lock changed" in lines
    assert "root:a: built in 12 s, 113 MiB" in lines
    assert lines.index("root:a: the lock changed") < lines.index("root:a: built in 12 s, 113 MiB")
    assert "boot: node1: installing: partitions" in lines
    assert "boot: node1: up" in lines
    assert not any("files" in line for line in lines), "a detail alone is not worth a line in a log"


def test_final_table_lists_what_was_made_and_counts_what_was_reused(project: Path) -> None:
    lines = doit(project, "boot").stdout.splitlines()
    table = [line.split() for line in lines[lines.index("") + 1 :]]
    assert table[0] == ["task", "result", "time", "size"]
    assert ["root:a", "built", "12", "s", "113", "MiB"] in table
    assert lines[-1].startswith("2 built, 1 done, 1 reused in ")


def test_nothing_to_do_is_one_line(project: Path) -> None:
    done = doit(project, "ready")
    assert done.stdout.startswith("nothing to do: 1 task up to date")
    assert len(done.stdout.splitlines()) == 1


# --- failures


def test_user_error_is_shown_with_its_hint_and_no_traceback(project: Path) -> None:
    done = doit(project, "bad:full")
    assert done.returncode == 1
    assert "bad:full: FAILED" in done.stdout
    assert "disk full\n    | last line\n  hint: make room" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_each_of_several_failures_is_shown_and_what_needed_them_named(project: Path) -> None:
    done = doit(project, "--continue", "bad:full", "bad:gone", "bad:after")
    assert "disk full" in done.stdout
    assert "mirror gone" in done.stdout
    assert "bad:after: not tried: bad:full failed" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 failed, 1 not tried in")


def test_bug_keeps_its_traceback_and_says_that_it_is_one(project: Path) -> None:
    done = doit(project, "bad:bug")
    assert done.returncode == 1
    assert 'return {}["nothing"]' in done.stdout
    assert "hint: this is a bug" in done.stdout


def test_user_error_outside_of_a_task_has_no_traceback(project: Path) -> None:
    done = doit(project, "asking")
    assert done.returncode == 1
    assert done.stderr == "the store cannot be read\n  hint: mend it\n"
    assert "Traceback" not in done.stdout


def test_unknown_task_is_told_with_the_nearest(project: Path) -> None:
    done = doit(project, "bot")
    assert done.returncode == 3
    assert "there is no task 'bot'" in done.stderr
    assert "boot" in done.stderr.splitlines()[1]


# --- what machines say


def test_what_machines_say_does_not_reach_a_log_as_it_is(project: Path) -> None:
    said = doit(project, "hostile").stdout
    assert not set(said) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "hostile: node1: copy\ufffd[bold]as it is[/bold] :smile:: 12% boot: done in 1 s" in said
    assert "\nboot: done" not in said, "it makes no lines of its own"
    assert "    | last line\n  hint: \ufffd[bold]as it is[/bold] :smile:\n  log:  log" in said


def test_what_machines_say_does_not_steer_the_terminal(project: Path) -> None:
    said = on_terminal(project, "hostile")
    assert "]52;" not in said and "\x1b[2J" not in said and not set(said) & {"\x07", "\x9b", "\u202e"}
    assert said.count("[bold]as it is[/bold] :smile:") >= 4, "the picture, the note, the message, the tail"


def test_json_of_what_machines_say_is_plain(project: Path) -> None:
    said = doit(project, "--json", "hostile").stdout
    assert said.isascii()
    for line in said.splitlines():
        told = " ".join(str(value) for value in json.loads(line).values())
        assert not set(told) & {"\x1b", "\x07", "\x9b", "\u202e"}, line


# --- options


def test_json_is_one_object_a_line_wherever_the_option_stands(project: Path) -> None:
    for args in (["--json", "boot"], ["boot", "--json"]):
        found = doit_json(project, *args)
        assert {event["event"] for event in found} == {"started", "reason", "progress", "phase", "finished", "summary"}
        assert all(isinstance(event["time"], float) for event in found)
        assert {"root:a", "root:b", "boot"} == {event["task"] for event in found if event["event"] == "started"}
        last = found[-1]
        assert (last["event"], last["built"], last["reused"], last["failed"]) == ("summary", 2, 1, 0)


def test_json_tells_failures_in_fields(project: Path) -> None:
    failed, summary = doit_json(project, "--json", "bad:full")[-2:]
    assert (failed["event"], failed["kind"], failed["task"]) == ("failed", "error", "bad:full")
    assert (failed["message"], failed["hint"], failed["tail"]) == ("disk full", "make room", "last line")
    assert summary["failed"] == 1
    (error,) = doit_json(project, "--json", "asking")
    assert (error["event"], error["message"]) == ("error", "the store cannot be read")


def test_tasks_see_fresh(project: Path) -> None:
    assert "note: fresh=None" in doit(project, "fresh").stdout
    assert "note: fresh=1" in doit(project, "fresh", "--fresh").stdout


# --- the live view


def test_terminal_shows_what_runs_and_then_what_was_done(project: Path) -> None:
    text = on_terminal(project, "boot")
    assert "it does not run" in text
    assert "partitions" in text
    assert "of 48 MiB" in text
    assert "root:b: built in 12 s, 113 MiB  (the lock changed)" in text
    assert "2 built, 1 done, 1 reused in" in text


def test_terminal_shows_failures(project: Path) -> None:
    text = on_terminal(project, "bad:full")
    assert "bad:full: FAILED" in text
    assert "hint: make room" in text


def test_nothing_to_do_on_a_terminal_does_not_import_rich(project: Path) -> None:
    with (project / "dodo.py").open("a") as file:
        file.write("import atexit\natexit.register(lambda: print('rich' in sys.modules, 'pydantic' in sys.modules))\n")
    text = on_terminal(project, "ready")
    assert "nothing to do" in text
    assert "False False" in text


# --- interrupts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "threads"),
    [
        (signal.SIGINT, "2"),
        (signal.SIGTERM, "2"),
        (signal.SIGHUP, "2"),
        (signal.SIGINT, "0"),
    ],
)
def test_signal_ends_processes_and_lets_tasks_clean_up(project: Path, number: signal.Signals, threads: str) -> None:
    tasks = ["hang:wait"] if threads == "0" else ["hang:sleep", "hang:wait"]
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", "-n", threads, *tasks],
        cwd=project,
        text=True,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    expected = 1 if threads == "2" else 0
    deadline = time.monotonic() + 30
    while len(sleepers := _sleepers(process.pid)) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # for `wait`, which shows nothing
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in err
    assert "Traceback" not in out + err
    assert (project / "cleaned").exists()
    assert len(sleepers) == expected
    assert not any(Path(f"/proc/{pid}").exists() for pid in sleepers)


def _sleepers(parent: int) -> list[str]:
    """Children of that process that are `sleep`."""
    found = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(parent)], text=True, capture_output=True, check=False
    ).stdout
    return [line.split()[0] for line in found.splitlines() if line.endswith("sleep")]


# --- the record of a run, without doit


class Named:
    """The little of a task that a reporter reads."""

    actions = (None,)

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    yield io.StringIO()


def test_events_before_the_reporter_are_not_lost(output: io.StringIO) -> None:
    events.subscribe(lambda _: None)()  # what other tests have left
    events.note("no usable KVM")
    reporter = LiveReporter(output, {})
    reporter.complete_run()
    assert output.getvalue().startswith("note: no usable KVM\n")


def test_events_after_the_end_of_a_task_do_not_bring_it_back(output: io.StringIO) -> None:
    reporter = EventsReporter(output, {})
    reporter.execute_task(Named("root:a"))
    reporter.add_success(Named("root:a"))
    events.progress("root:a", 1, 2)
    events.phase("root:a", "node1", "up")
    reporter.complete_run()
    assert [json.loads(line)["event"] for line in output.getvalue().splitlines()] == ["started", "finished", "summary"]


def test_reason_may_come_before_and_after_the_start(output: io.StringIO) -> None:
    reporter = LiveReporter(output, {})
    events.reason("a", "early")
    reporter.execute_task(Named("a"))
    reporter.execute_task(Named("b"))
    events.reason("b", "late")
    reporter.complete_run()
    assert output.getvalue().splitlines()[:2] == ["a: early", "b: late"]


def test_store_hit_of_an_executed_task_is_only_counted(output: io.StringIO) -> None:
    reporter = LiveReporter(output, {})
    reporter.execute_task(Named("a"))
    events.outcome("a", "reused", 0.1, 5)
    reporter.add_success(Named("a"))
    reporter.complete_run()
    assert output.getvalue().startswith("nothing to do: 1 task up to date")


def test_threads_may_publish_at_once(output: io.StringIO) -> None:
    reporter = EventsReporter(output, {})

    def work(name: str) -> None:
        for number in range(200):
            events.phase(name, f"node{number % 3}", str(number))

    threads = [threading.Thread(target=work, args=[f"task{number}"]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reporter.complete_run()
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert sum(event["event"] == "phase" for event in found) == 8 * 200
    assert sum(event["event"] == "started" for event in found) == 8


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (0, 0, "", ""),
        (0, 98_000_000, "bytes", "0 B of 93 MiB"),
        (40, 137, "packages", "40 of 137 packages"),
        (3, 0, "files", "3 files"),
    ],
)
def test_amounts(done: int, total: int, unit: str, text: str) -> None:
    assert amount(Activity("task", done=done, total=total, unit=unit)) == text


# --- questions


@pytest.mark.parametrize(
    ("typed", "lost"), [(b"y\n", True), (b"yes\n", True), (b"\n", False), (b"n\n", False), (b"\x04", False)]
)
def test_a_person_is_asked_before_something_is_lost(project: Path, typed: bytes, lost: bool) -> None:
    said = on_terminal(project, "lose", typed=typed)
    assert said.count("node1 is lost: go on? [y/N]") == 1
    assert ("lost it" in said) == lost
    assert ("node1 would be lost" in said) != lost
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["lose:node1"], ["--json", "lose:node1"]])
def test_where_nobody_can_be_asked_nothing_is_lost_unless_yes_was_said(project: Path, words: list[str]) -> None:
    refused = doit(project, *words)
    assert refused.returncode == 1
    assert "node1 would be lost" in refused.stdout and "[y/N]" not in refused.stdout
    done = doit(project, *words, "--yes")
    assert done.returncode == 0 and "lost it" in done.stdout


def test_json_asks_nobody_even_on_a_terminal(project: Path) -> None:
    said = on_terminal(project, "--json", "lose:node1")
    assert "node1 would be lost" in said and "[y/N]" not in said


def test_ctrl_c_at_a_question_ends_the_run_and_nothing_is_lost(project: Path) -> None:
    begin = time.monotonic()
    said = on_terminal(project, "lose", typed=b"\x03")
    assert "ended by SIGINT" in said and "still running" not in said
    assert "lost it" not in said
    assert time.monotonic() - begin < 20
