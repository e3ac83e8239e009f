"""Waiting: which event ends it, and what is said when it ends badly.  Files and events are real, machines are not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import events
from pipeline.errors import ClusterError
from pipeline.hosts import namespace
from pipeline.hosts.namespace import Namespace
from pipeline.virt import watch
from pipeline.virt.connection import Event, Listener
from pipeline.virt.timeline import SEVERAL
from pipeline.virt.watch import Progress, Reached, Signal, Watch

TOP = Path(__file__).resolve().parents[2]


class Stage:
    """The files and events of a cluster `one`, moved by the test's hand."""

    def __init__(self, run_dir: Path, process: int) -> None:
        for folder in ("report", "console"):
            (run_dir / folder).mkdir(parents=True)
        start = namespace._start_time(process)
        assert start is not None
        self.run_dir = run_dir
        self.listener = Listener()
        self.progress: list[Progress] = []
        self.watch = Watch(Namespace(run_dir, process, start), self.listener, self.progress.append, ())

    def say(self, machine: str, text: str) -> None:
        with (self.run_dir / "report" / machine).open("a") as file:
            file.write(text)

    def show(self, machine: str, text: str) -> None:
        with (self.run_dir / "console" / f"{machine}.log").open("a") as file:
            file.write(text)

    def happens(self, machine: str, event: Event) -> None:
        self.listener.put(Event(f"one-{machine}", event.what, event.detail))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "one", os.getpid())
    yield made
    with contextlib.suppress(OSError):
        made.watch.close()
    made.listener.close()


POWERED_OFF = Event("", "stopped", "it powered off")
INSTALLED: frozenset[Signal] = frozenset({"DONE", "STOPPED"})


def test_machines_are_told_in_the_order_in_which_they_get_there(stage: Stage) -> None:
    for node in ("node1", "node2"):
        stage.watch.expect(node, "start", {"READY"}, within=10)
    stage.say("node2", "STATUS network up\nREADY\n")
    reached = iter(stage.watch)
    assert next(reached) == Reached("node2", "start")
    stage.say("node1", "READY\n")
    assert list(reached) == [Reached("node1", "start")]
    assert stage.progress == [Progress("node2", "start", "network", "up", None)]
    assert [(span.machine, span.phase, span.step) for span in stage.watch.timeline] == [
        ("node2", "start", "network"),
        ("node2", "start", ""),
        ("node1", "start", ""),
    ]


def test_an_installation_is_done_only_when_the_machine_is_off_too(stage: Stage) -> None:
    stage.watch.expect("node1", "install", INSTALLED, within=10)
    stage.say("node1", "STATUS copy 12%\nSTATUS copy 250 % of it\nDONE\n")
    later = threading.Timer(0.2, stage.happens, ["node1", POWERED_OFF])
    later.start()
    stage.watch.wait()
    assert [progress.percent for progress in stage.progress] == [12, 100]
    later.join()


def test_done_and_off_at_the_same_moment(stage: Stage) -> None:
    stage.watch.expect("node1", "install", INSTALLED, within=10)
    stage.happens("node1", POWERED_OFF)
    stage.say("node1", "DONE\n")
    stage.watch.wait()


def test_how_an_earlier_start_ended_does_not_count(stage: Stage) -> None:
    """A machine that was destroyed to be started anew: libvirt may tell of its end when its start is waited for."""
    stage.watch.expect("node1", "install", INSTALLED, within=10, starts=True)
    stage.watch.expect("node2", "start", {"READY"}, within=10, starts=True)
    for node in ("node1", "node2"):
        stage.happens(node, Event("", "stopped", "it was ended from outside"))
        stage.happens(node, Event("", "started", ""))
    stage.say("node2", "READY\n")
    reached = iter(stage.watch)
    assert next(reached) == Reached("node2", "start")
    stage.say("node1", "DONE\n")
    stage.happens("node1", POWERED_OFF)
    assert list(reached) == [Reached("node1", "install")]


def test_what_an_earlier_start_said_does_not_count(stage: Stage) -> None:
    stage.say("node1", "DONE\nREADY\n")
    stage.show("node1", "Kernel panic - not syncing: long ago\n")
    stage.watch.expect("node1", "start", {"READY"}, within=0.5)
    (stage.run_dir / "report/node1").unlink()  # as a start does
    stage.say("node1", "STATUS boot\n")
    with pytest.raises(ClusterError, match=r"node1 \(start/boot\): not ready after 0.5 s, last seen at: boot"):
        stage.watch.wait()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda stage: stage.say("node1", "STATUS partition sfdisk\nFAIL disk too small\n"),
            r"node1 \(install/partition\): disk too small",
        ),
        (lambda stage: stage.say("node1", "FAIL\n"), "it reported a failure without a reason"),
        (
            lambda stage: stage.show("node1", "Kernel panic - not syncing: Attempted to kill init!\n"),
            "kernel panic: Attempted to kill init!",
        ),
        (lambda stage: stage.happens("node1", POWERED_OFF), r"node1 \(install\): it powered off too early"),
        (lambda stage: stage.happens("node1", Event("", "crashed", "its kernel panicked")), "its kernel panicked$"),
        (lambda stage: stage.happens("node1", Event("", "rebooted", "it restarted")), "it restarted by itself"),
        (
            lambda stage: stage.happens("node1", Event("", "paused", "no space left on /run/xen-oscar/disks")),
            r"node1 \(install\): paused: no space left on /\S+/one/disks$",
        ),
        (
            lambda stage: stage.happens("head", Event("", "paused", "no space left on /disks")),
            r"head \(running\): paused: no space left on /disks$",
        ),
        (lambda stage: stage.happens("head", POWERED_OFF), r"head \(running\): it powered off"),
        (lambda stage: stage.show("head", "Out of memory: Killed process 3 (rsyncd)\n"), "rsyncd was killed"),
        (lambda stage: stage.listener.put(Event("", "lost", "libvirt no longer answers")), "libvirt no longer answers"),
    ],
)
def test_what_ends_a_wait(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, act: Callable[[Stage], None], message: str
) -> None:
    monkeypatch.setattr(watch, "_LAST_WORDS", 0.5)
    stage.watch.guard("head")
    stage.watch.expect("node1", "install", INSTALLED, within=20)
    act(stage)
    with pytest.raises(ClusterError, match=message) as caught:
        stage.watch.wait()
    assert "doit" in caught.value.hint


def test_what_is_no_failure(stage: Stage) -> None:
    stage.watch.guard("head")
    stage.watch.expect("node1", "install", INSTALLED, within=10)
    stage.happens("node2", POWERED_OFF)  # nobody waits for it
    stage.happens("head", Event("", "rebooted", "it restarted"))  # somebody wanted that
    stage.say("node1", "a line that is no word of ours\nDONE\n")
    stage.happens("node1", POWERED_OFF)
    stage.watch.wait()


def test_done_without_power_off_is_told_as_such(stage: Stage) -> None:
    stage.watch.expect("node1", "install", INSTALLED, within=0.3)
    stage.say("node1", "DONE\n")
    with pytest.raises(ClusterError, match=r"done, but not powered off after 0.3 s"):
        stage.watch.wait()


def test_the_first_deadline_counts(stage: Stage) -> None:
    stage.watch.expect("node1", "start", {"READY"}, within=30)
    stage.watch.expect("node2", "start", {"READY"}, within=0.1)
    with pytest.raises(ClusterError, match="node2"):
        stage.watch.wait()


def test_console_lines_are_shown_with_the_failure(stage: Stage) -> None:
    stage.watch.expect("node1", "start", {"READY"}, within=5)
    stage.show("node1", "\x1b[1mone\x1b[0m\r\ntwo\r\n")
    stage.say("node1", "FAIL it\n")
    with pytest.raises(ClusterError) as caught:
        stage.watch.wait()
    assert caught.value.tail == "one\ntwo"
    assert caught.value.log == stage.run_dir / "console/node1.log"


def test_a_machines_own_words_come_before_its_console(stage: Stage) -> None:
    stage.watch.expect("node1", "install", INSTALLED, within=5)
    stage.show("node1", "Kernel panic - not syncing: Attempted to kill init!\n")
    stage.happens("node1", POWERED_OFF)
    stage.say("node1", "STATUS partition\nFAIL no disk\n")
    with pytest.raises(ClusterError, match=r"node1 \(install/partition\): no disk"):
        stage.watch.wait()


def test_the_end_of_the_cluster_ends_the_wait(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        stage = Stage(tmp_path / "one", process.pid)
        stage.watch.expect("node1", "start", {"READY"}, within=20)
        stage.listener.put(Event("", "lost", "libvirt no longer answers"))
        process.kill()
        with pytest.raises(ClusterError, match="cluster one was ended from outside"):
            stage.watch.wait()
        stage.watch.close()
        stage.listener.close()


def test_a_busy_console_does_not_keep_it_from_listening(stage: Stage) -> None:
    """Reports are taken in at once, although consoles change all the time."""
    stop = threading.Event()

    def chatter() -> None:
        while not stop.wait(0.001):
            stage.show("node1", "x")

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        stage.watch.expect("node1", "start", {"READY"}, within=10)
        timer = threading.Timer(0.3, stage.say, ["node1", "READY\n"])
        timer.start()
        stage.watch.wait()
        span = stage.watch.timeline[-1]
        assert span.end - span.start < 2
    finally:
        stop.set()
        thread.join()


_STOPPED = """
import sys
from pathlib import Path
from pipeline.virt.watch import Progress
from tests.virt.test_watch import Stage
import os

stage = Stage(Path(sys.argv[1]), os.getpid())
stage.watch.expect("node1", "start", {"READY"}, within=3)
print("waits", flush=True)
stage.watch.wait()
print("ready", flush=True)
"""


@pytest.mark.parametrize("ready", [True, False])
def test_time_in_which_the_run_itself_was_stopped_does_not_count(tmp_path: Path, ready: bool) -> None:
    """Ctrl-Z and fg: a machine that takes a moment more then is not late; one that never comes is, a little later."""
    with subprocess.Popen(
        [sys.executable, "-c", _STOPPED, tmp_path / "one"],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout and run.stderr and run.stdout.readline() == "waits\n"
        run.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, run.pid, os.WSTOPPED)
        time.sleep(4)
        run.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        if ready:
            (tmp_path / "one/report/node1").write_text("READY\n")
        said, errors = run.communicate(timeout=20)
    assert (said == "ready\n") == ready, errors
    assert ready or "node1 (start): not ready after 3 s" in errors


@pytest.mark.parametrize("words", ["DONE\n", "STATUS finish\n" * 30_000 + "DONE\n", "FAIL disk too small\n"])
def test_what_was_said_before_a_power_off_may_come_a_moment_after_it(stage: Stage, words: str) -> None:
    """Through a daemon or another machine, and it may be much."""
    stage.watch.expect("node1", "install", INSTALLED, within=10)
    stage.happens("node1", POWERED_OFF)
    timer = threading.Timer(0.2, stage.say, ["node1", words])
    timer.start()
    with pytest.raises(ClusterError, match="disk too small") if "FAIL" in words else contextlib.nullcontext():
        stage.watch.wait()


def test_what_was_said_before_a_power_off_is_heard_before_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """DONE and the power-off may both come while consoles are read."""
    stage.watch.expect("node1", "install", INSTALLED, within=10)
    reading = stage.watch._read_consoles

    def slow() -> None:
        if not said:
            said.append("DONE")
            stage.say("node1", "DONE\n")
            stage.happens("node1", POWERED_OFF)
        reading()

    said: list[str] = []
    monkeypatch.setattr(stage.watch, "_read_consoles", slow)
    stage.say("node1", "STATUS finish\n")
    stage.watch.wait()
    assert said == ["DONE"]


def test_what_a_machine_says_of_itself_has_limits(stage: Stage) -> None:
    stage.watch.expect("node1", "install", INSTALLED, within=60)
    stage.say("node1", f"STATUS {'s' * 1000} {'d' * 60_000}\n")
    begin = time.process_time()
    for turn in range(100):
        stage.say("node1", "".join(f"STATUS step{number % 7} {turn}\n" for number in range(1000)))
    stage.say("node1", "DONE\n")
    stage.happens("node1", POWERED_OFF)
    stage.watch.wait()
    assert time.process_time() - begin < 10
    first, *others = stage.progress
    assert len(first.step) < 100 and len(first.detail) < 300 and first.detail.endswith("(59800 more characters)")
    assert len(others) < 500
    spans = list(stage.watch.timeline)
    assert len(spans) < 1000
    assert (spans[-1].machine, spans[-1].phase, spans[-1].step) == ("node1", "install", "")


def test_steps_that_are_short_are_told_as_one(stage: Stage) -> None:
    stage.watch.expect("node1", "start", {"READY"}, within=60)
    stage.say("node1", "STATUS one\nSTATUS two\nSTATUS three\nREADY\n")
    stage.watch.wait()
    assert [span.step for span in stage.watch.timeline] == [SEVERAL, ""]


def test_no_machine_keeps_the_loop_from_the_others(stage: Stage) -> None:
    """One prints as fast as it can, on its console and on its report channel; the other's words are heard at once."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.wait(0.001):
            stage.show("node1", "a" * 50_000 + "\b" * 50_000 + "\n")
            stage.say("node1", "STATUS a\nSTATUS b 1%\n" * 5_000)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        stage.watch.expect("node1", "start", {"READY"}, within=60)
        stage.watch.expect("node2", "start", {"READY"}, within=60)
        timer = threading.Timer(0.5, stage.say, ["node2", "READY\n"])
        timer.start()
        reached = iter(stage.watch)
        assert next(reached) == Reached("node2", "start")
        span = stage.watch.timeline[-1]
        assert span.end - span.start < 5
    finally:
        stop.set()
        thread.join()


def test_what_was_passed_over_is_said_once(stage: Stage) -> None:
    stage.watch.expect("node1", "start", {"READY"}, within=60)
    stage.show("node1", "x" * 3_000_000)
    stage.say("node1", "READY\n")
    events.subscribe(lambda _: None)()  # what other tests have left
    notes: list[str] = []
    unsubscribe = events.subscribe(lambda event: notes.append(event.text) if isinstance(event, events.Note) else None)
    try:
        stage.watch.wait()
        stage.watch.close()
    finally:
        unsubscribe()
    said = [note for note in notes if "node1 wrote faster" in note]
    assert len(said) == 1 and "MiB were passed over" in said[0]
