"""What the system refuses, as a person is told it: asked of real file systems, small ones, and of real limits."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from pipeline import sandbox, trouble
from pipeline.errors import BuildError, ClusterError, CommandError, UserError
from pipeline.run import run
from tests.namespaced import inside


def told(error: BaseException, *places: Path) -> UserError:
    explained = trouble.explain(error, places)
    assert explained is not None
    return explained


def small(folder: str, options: str) -> Path:
    """A small file system in memory."""
    place = Path(folder) / "small"
    place.mkdir()
    sandbox.mount("tmpfs", place, "tmpfs", options=options)
    return place


# --- file systems


def runs_full(folder: str) -> None:
    """Inner side: a file is written to a file system without room for it, by us and by a tool."""
    place = small(folder, "size=256k")
    with (place / "much").open("wb", buffering=0) as file, pytest.raises(OSError) as caught:
        while True:
            file.write(bytes(1 << 16))
    assert caught.value.filename is None  # it was the write, not the opening
    error = told(caught.value, Path(folder), place / "not" / "there")
    assert error.message == f"{place}/not/there: no space is left on {place} (memory, 0 KiB of 256 KiB free)"
    assert "doit gc" in error.hint
    assert "df" in told(caught.value).hint  # where nobody knows who wrote where
    with pytest.raises(CommandError) as failed:
        run(["cp", "/proc/self/exe", place / "more"], hint="correct your package")
    assert trouble.is_short_of_room(failed.value)
    assert told(failed.value, Path(folder)).hint == "correct your package"
    error = told(failed.value, Path(folder), place)
    assert error.message.startswith(f"no space is left on {place} (memory, ")
    assert "therefore: exit status 1: " in error.message
    assert "doit gc" in error.hint
    assert told(error, place).message == error.message


def has_no_more_files(folder: str) -> None:
    """Inner side: there is room, but not for one more name."""
    place = small(folder, "size=8m,nr_inodes=20")
    with pytest.raises(OSError) as caught:
        for number in range(100):
            (place / str(number)).touch()
    error = told(caught.value)
    assert error.message.endswith(f"no space is left on {place} (memory, all of its 20 files taken)")
    with pytest.raises(CommandError) as failed:
        run(["touch", place / "more"])
    assert "all of its 20 files taken" in told(failed.value, place).message


def is_read_only(folder: str) -> None:
    """Inner side: a file system that nobody may write to."""
    place = small(folder, "size=256k,ro")
    with pytest.raises(OSError) as caught:
        (place / "file").touch()
    assert told(caught.value).message == f"{place}/file: {place} is read-only"
    with pytest.raises(CommandError) as failed:
        run(["touch", place / "file"], hint="mend it")
    assert told(failed.value, Path(folder)).hint == "mend it"
    assert told(failed.value, place).hint.startswith(f"{place} is read-only")


def test_a_full_file_system(tmp_path: Path) -> None:
    inside(runs_full, tmp_path)


def test_a_file_system_without_room_for_names(tmp_path: Path) -> None:
    inside(has_no_more_files, tmp_path)


def test_a_read_only_file_system(tmp_path: Path) -> None:
    inside(is_read_only, tmp_path)


def test_words_of_a_tool_that_stand_further_up_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("dpkg: error: No space left on device\n" + "and so on\n" * 100)
    assert trouble.is_short_of_room(CommandError("exit status 1: apt-get", log=log, tail="and so on"))


@pytest.mark.parametrize("how", ["signal SIGKILL: tar", "image:x: its builder ended with status 137"])
def test_who_was_killed_may_have_met_with_the_kernels_want_of_memory(how: str) -> None:
    assert told(BuildError(how)).hint.startswith("it was killed: by the kernel if memory was short")
    assert trouble.is_short_of_room(BuildError(how))


def test_what_a_machine_says_is_not_about_this_one(tmp_path: Path) -> None:
    error = ClusterError("head: exit status 1 for a command", tail="out of memory", hint="look there")
    assert told(error, tmp_path) is error and error.hint == "look there"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "quota allows"),
        (errno.ENOMEM, "memory"),
        (errno.EIO, "fails: Input/output error"),
        (errno.ENFILE, "too many open files"),
        (errno.EUCLEAN, "fails: "),
        (errno.ESTALE, "fails: "),
    ],
)
def test_what_cannot_be_brought_about_here(tmp_path: Path, number: int, words: str) -> None:
    error = told(OSError(number, os.strerror(number), str(tmp_path / "file")))
    assert words in error.message and error.hint


# --- permission


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of somebody else's")
def test_a_folder_of_somebody_elses_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o555)
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(OSError) as entered:
            (tmp_path / "theirs" / "deep" / "file").read_text()
        with pytest.raises(OSError) as made:
            (tmp_path / "file").touch()
        errors = told(entered.value), told(made.value)
    finally:
        os.seteuid(0)
    assert f"{tmp_path}/theirs belongs to root and has mode 0700" in errors[0].message
    assert f"{tmp_path} belongs to root" in errors[1].message
    assert "XEN_OSCAR_ARTIFACTS" in errors[0].hint


def test_what_the_machine_forbids() -> None:
    with pytest.raises(OSError) as caught:
        Path("/sys/x").touch()
    assert "forbids" in told(caught.value).message and "doit doctor" in told(caught.value).hint


# --- names and limits


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / ("long" * 100)).touch()
    assert "too long" in told(caught.value).message and len(told(caught.value).message) < 200


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError) as caught:
        (tmp_path / "one").read_text()
    assert told(caught.value).message == f"{tmp_path}/one: links lead in a circle"


def test_too_many_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            os.open("/", os.O_RDONLY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "too many open files" in told(caught.value).message and "ulimit -n" in told(caught.value).hint


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            (tmp_path / "file").write_bytes(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "larger than" in told(caught.value).message and "ulimit -f" in told(caught.value).hint


def test_no_memory_and_no_process() -> None:
    with pytest.raises(MemoryError) as caught:
        bytearray(1 << 60)
    assert told(caught.value).message.startswith("not enough memory: ")
    assert "pids.max" in told(RuntimeError("can't start new thread")).hint
    assert "pids.max" in told(BlockingIOError(errno.EAGAIN, "fork")).hint


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no", "/x"),
        ZeroDivisionError(),
        OSError("of our own"),
        RuntimeError("other"),
        BlockingIOError(errno.EAGAIN, "locked", "/lock"),
        OSError(errno.EINVAL, "invalid"),
    ],
)
def test_what_nobody_can_put_right_stays_what_it_is(error: Exception) -> None:
    assert trouble.explain(error) is None
