"""The engine: a step is built in a worker of its own and published whole, or not at all."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import events, filesystems, kept, sandbox
from pipeline.engine import Engine
from pipeline.errors import BuildError, UserError
from pipeline.step import Parent, Plan, Step
from pipeline.store import Store

TOP = Path(__file__).resolve().parents[1]


def step(function: str, *parents: str, name: str = "x", **params: object) -> Step:
    return Step(
        "test",
        name,
        "for a test",
        f"tests.makers:{function}",
        params=params,
        parents=tuple(Parent(f"input{number}", parent) for number, parent in enumerate(parents)),
    )


def engine(artifacts: Path, *steps: Step) -> Engine:
    return Engine(Plan({item.task: item for item in steps}), artifacts, TOP / "recipes")


def made(engine: Engine, task: str, name: str = "text") -> str:
    return engine.entry(task).path.joinpath(name).read_text()


def test_a_step_is_built_once_and_then_up_to_date(tmp_path: Path) -> None:
    one = step("write", text="hello")
    first = engine(tmp_path, one)
    assert not first.up_to_date("test:x")
    first.build("test:x")
    assert made(first, "test:x") == "hello"
    assert engine(tmp_path, one).up_to_date("test:x")
    assert not list((tmp_path / "store" / ".building").iterdir())


def spoil(artifacts: Path, digest: str) -> None:
    """Change what a builder has extracted of a layer."""
    from pipeline.layers import cache

    found = [folder / digest for folder in cache.folders(artifacts) if (folder / digest).exists()]
    assert found
    (found[0] / "text").write_text("rot")


def test_a_step_whose_input_was_spoiled_in_memory_is_built_once_more(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    unsubscribe = events.subscribe(heard.append)
    try:
        for number in range(3):
            steps = step("layer", name="layer", text="hello"), step("below", "test:layer", text=number)
            one = engine(tmp_path, *(replace(item, tools=("tar", "zstd")) for item in steps))
            if number == 0:
                one.build("test:layer")
            else:
                spoil(tmp_path, one.entry("test:layer").digest)
            one.build("test:x")
            assert made(one, "test:x") == "hello"
    finally:
        unsubscribe()
    assert len([event for event in heard if isinstance(event, events.Note) and "once more" in event.text]) == 2


def test_what_a_builder_remarks_is_told(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    unsubscribe = events.subscribe(heard.append)
    try:
        engine(tmp_path, step("remark", text="hello")).build("test:x")
    finally:
        unsubscribe()
    assert events.Note("test:x: look twice") in heard


def test_a_step_that_takes_over_sees_what_it_made_last(tmp_path: Path) -> None:
    def said(text: str, *, takes_over: bool = True) -> list[str]:
        heard: list[events.Event] = []
        unsubscribe = events.subscribe(heard.append)
        try:
            engine(tmp_path, replace(step("follow", text=text), takes_over=takes_over)).build("test:x")
        finally:
            unsubscribe()
        return [event.text for event in heard if isinstance(event, events.Note)]

    assert said("one") == ["before: nothing"]
    assert said("two") == ["before: one"]
    assert said("two") == ["before: nothing"], "built again it shows that it comes out the same"
    assert said("three", takes_over=False) == ["before: nothing"]
    shutil.rmtree(engine(tmp_path, step("follow", text="three")).entry("test:x").folder)
    assert said("four") == ["before: nothing"], "it has been removed"


def test_inputs_reach_the_builder_in_order(tmp_path: Path) -> None:
    three = engine(
        tmp_path, step("write", name="a", text="1"), step("write", name="b", text="2"), step("join", "test:b", "test:a")
    )
    for task in ("test:a", "test:b", "test:x"):
        three.build(task)
    assert made(three, "test:x") == "21"


def test_what_is_passed_on_is_the_same_file_and_takes_no_room(tmp_path: Path) -> None:
    both = engine(tmp_path, step("write", name="a", text="given"), step("pass_on", "test:a"))
    for task in ("test:a", "test:x"):
        both.build(task)
    given, passed = (both.entry(task).path / "text" for task in ("test:a", "test:x"))
    assert passed.stat().st_ino == given.stat().st_ino
    assert not passed.is_symlink()
    item = both.entry("test:x").files["text"]
    assert (item["digest"], item["stored"]) == (both.entry("test:a").files["text"]["digest"], 0)
    assert both.store.damage(both.entry("test:x")) == []


def test_going_back_to_an_older_recipe_needs_no_build(tmp_path: Path) -> None:
    for text in ("old", "new"):
        engine(tmp_path, step("write", text=text)).build("test:x")
    old = engine(tmp_path, step("write", text="old"))
    assert old.up_to_date("test:x")
    assert made(old, "test:x") == "old"


def test_builders_see_no_network_and_a_scrubbed_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "leaks")
    monkeypatch.setenv("XEN_OSCAR_MIRROR", "file:///nowhere")
    one = engine(tmp_path, step("surroundings"))
    one.build("test:x")
    assert made(one, "test:x", "interfaces") == "lo"
    assert made(one, "test:x", "user") == "0"
    environment = made(one, "test:x", "environment")
    assert "SECRET" not in environment
    assert "MIRROR" not in environment
    assert "SOURCE_DATE_EPOCH=" in environment


def test_builders_see_their_inputs_and_change_only_their_output(tmp_path: Path) -> None:
    for name in ("recipes", "elsewhere", "artifacts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "recipes/opkgs/x").mkdir(parents=True)
    (tmp_path / "recipes/opkgs/x/away").symlink_to(tmp_path / "elsewhere/file")
    name = "opkgs/x/away"
    tried = {
        str(tmp_path / "recipes/file"): "read",
        str(tmp_path / "recipes/opkgs/x/away"): "read",
        str(tmp_path / "artifacts/file"): "nothing",
        str(tmp_path / "elsewhere/other"): "nothing",
        str(Path.home()): "nothing",
        "/usr/bin": "read",
        str(TOP / "tests"): "read",
        str(TOP / ".git"): "nothing",
    }
    tries = replace(step("tries", paths=list(tried)), files=((name, str(kept.of(tmp_path / "recipes", name))),))
    one = Engine(Plan({"test:x": tries}), tmp_path / "artifacts", tmp_path / "recipes")
    one.build("test:x")
    assert json.loads(made(one, "test:x")) == tried


def test_an_opkg_may_have_thousands_of_files_and_its_roots_links_show_nothing(tmp_path: Path) -> None:
    """More than a command line holds; and what a link of a root to be names is not this machine's."""
    secret, top = tmp_path / "secret", tmp_path / "recipes/opkgs/x/files/common"
    secret.write_text("ours alone")
    top.mkdir(parents=True)
    (top / "link").symlink_to(secret)
    names = [f"opkgs/x/files/common/{'long' * 20}{number}" for number in range(3000)]
    for name in names:
        (tmp_path / "recipes" / name).touch()
    names.append("opkgs/x/files/common/link")
    tried = {str(tmp_path / "recipes" / names[0]): "read", str(secret): "nothing"}
    tries = replace(
        step("tries", paths=list(tried)),
        files=tuple((name, str(kept.of(tmp_path / "recipes", name))) for name in names),
    )
    one = Engine(Plan({"test:x": tries}), tmp_path / "artifacts", tmp_path / "recipes")
    one.build("test:x")
    assert json.loads(made(one, "test:x")) == tried


def test_a_failure_is_told_and_leaves_no_entry_but_its_work(tmp_path: Path) -> None:
    one = engine(tmp_path, step("fail"))
    with pytest.raises(BuildError, match="wheels") as caught:
        one.build("test:x")
    assert caught.value.hint == "put them on again"
    assert caught.value.log is not None
    assert not one.up_to_date("test:x")
    assert (one.own / "failed" / "test-x" / "files" / "half").exists()


def test_a_bug_in_a_builder_shows_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        engine(tmp_path, step("crash")).build("test:x")
    assert "ZeroDivisionError" in caught.value.tail


def test_a_full_file_system_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^test:x: .*/small/more: no space is left on .*/small \(memory") as caught:
        engine(tmp_path, step("full")).build("test:x")
    assert "doit gc" in caught.value.hint
    assert caught.value.log is not None and "Traceback" in caught.value.log.read_text()


def test_a_full_file_system_is_told_also_where_the_log_lies_on_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^test:x: no space is left on a file system"):
        engine(tmp_path, step("full_with_its_log")).build("test:x")


def test_a_tool_that_was_killed_tells_who_may_have_done_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="signal SIGKILL") as caught:
        engine(tmp_path, step("killed")).build("test:x")
    assert caught.value.hint.startswith("it was killed: by the kernel if memory was short")


def test_what_the_system_refuses_a_builder_is_no_bug(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^test:x: /proc/self/stat: .* forbids that") as caught:
        engine(tmp_path, step("forbidden")).build("test:x")
    assert "doit doctor" in caught.value.hint


@pytest.mark.parametrize("tool", [False, True])
def test_scratch_space_for_which_memory_is_too_small_lies_on_disk(
    tmp_path: Path, tool: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_TMPFS_NEEDS", 0)
    for available, type in ((2 << 20, filesystems.of(tmp_path).type), (64 << 20, "tmpfs")):
        monkeypatch.setattr(sandbox, "memory_available", lambda available=available: available)
        one = engine(tmp_path / str(available), step("fill", tool=tool))
        one.build("test:x")
        assert made(one, "test:x") == type
        assert list(one.entry("test:x").files) == ["text"]


def test_an_output_that_differs_when_built_again_is_an_error(tmp_path: Path) -> None:
    one = engine(tmp_path, step("differs"))
    one.build("test:x")
    with pytest.raises(BuildError, match="came out different"):
        one.build("test:x")


def test_a_corrupt_artifact_is_rebuilt(tmp_path: Path) -> None:
    one = step("write", text="good")
    first = engine(tmp_path, one)
    first.build("test:x")
    first.entry("test:x").path.joinpath("text").write_text("evil")
    second = engine(tmp_path, one)
    assert not second.up_to_date("test:x")
    second.build("test:x")
    assert made(second, "test:x") == "good"


def test_two_runs_at_once_build_it_once(tmp_path: Path) -> None:
    one = step("differs")
    engines = [engine(tmp_path, one) for _ in range(3)]
    assert not any(item.up_to_date("test:x") for item in engines)
    threads = [threading.Thread(target=item.build, args=["test:x"]) for item in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({made(item, "test:x") for item in engines}) == 1
    assert len(list(Store(tmp_path).entries())) == 1


def test_kill_9_during_a_build_leaves_nothing_running_and_the_next_run_goes_on(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    os.mkfifo(sign)
    slow = replace(step("slow", sign=str(sign)), files=((str(sign), ""),))
    code = (
        f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
        "from tests.test_engine import *\n"
        f"slow = replace(step('slow', sign={str(sign)!r}), files=(({str(sign)!r}, ''),))\n"
        f"engine(Path({str(tmp_path)!r}), slow).build('test:x')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=TOP) as run:
        assert _read_fifo(sign, 60) == "1"  # the builder is process 1 of its namespace
        descendants = _descendants(run.pid)
        assert descendants
        pidfds = [os.pidfd_open(pid) for pid in descendants]
        run.send_signal(signal.SIGKILL)
        run.wait()
        for pidfd in pidfds:
            _wait_for_end(pidfd)
    done = engine(tmp_path, slow)
    assert not done.up_to_date("test:x")
    quick = replace(slow, maker="tests.makers:write", params={"text": "done"}, files=())
    after = engine(tmp_path, quick)
    after.build("test:x")
    assert made(after, "test:x") == "done"


def _read_fifo(path: Path, within: float) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as fifo:
        assert select.select([fifo], [], [], within)[0], "the builder did not start"
        return fifo.read()


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(word) for file in children for word in file.read_text().split()]
    return [*found, *(item for child in found for item in _descendants(child))]


def _wait_for_end(pidfd: int) -> None:
    try:
        assert select.select([pidfd], [], [], 20)[0], "a process of the build outlived kill -9"
    finally:
        os.close(pidfd)
