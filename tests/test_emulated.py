"""Foreign code in a machine: when, and with what of this one; what is believed of what it says.

`boot/test_emulated.py` runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline import confine, emulated, sandbox
from pipeline.errors import BuildError


def test_there_is_a_machine_only_where_the_page_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "_machine", None)
    sandbox.use_machine(tmp_path)
    mapped = "[vsyscall]" in Path("/proc/self/maps").read_text()
    assert sandbox._machine == (None if mapped else tmp_path)


def test_the_tools_are_named() -> None:
    assert all(shutil.which(tool) for tool in emulated.TOOLS)


def test_links_and_pipes_go_into_a_machine_as_what_they_are(tmp_path: Path) -> None:
    work, root, shown = (tmp_path / name for name in ("work", "root", "shown"))
    for folder in (work, root, shown):
        folder.mkdir()
    for name, target in {"none": "nowhere", "self": ".", "outside": "/etc/hostname"}.items():
        (shown / name).symlink_to(target)
    os.mkfifo(shown / "pipe")
    (shown / "file").write_text("a file")
    (tmp_path / "link").symlink_to("shown/file")  # what a bind shows is what a link leads to
    sources = [shown, (tmp_path / "link").resolve()]
    assert emulated._fill(work, root, sources)[-2:] == ["bind0", "bind1"]
    lists = [subprocess.check_output(["tar", "--list", "-vf", work / name], text=True) for name in ("bind0", "bind1")]
    kinds = {line[0] + line.split("./", 1)[1] for text in lists for line in text.splitlines()}
    assert kinds == {"d", "lnone -> nowhere", "lself -> .", "loutside -> /etc/hostname", "ppipe", "-file"}
    assert "-file" in {line[0] + line.split("./", 1)[1] for line in lists[1].splitlines()}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"status oops\n", "status oops"),
        (b"status 1 2\n", "status 1 2"),
        (b"status \n", "status"),
        (b"status -1\n", "status -1"),
        (b"status 99999999999999999999\n", "status 9999"),
        (b"\xff\xfe", "end: "),
        (b"", "it said nothing"),
    ],
)
def test_a_machine_that_says_no_status_is_an_error(said: bytes, shown: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_bytes(said.ljust(emulated._WORDS, b"\0"))
    with (tmp_path / "console").open("wb") as file:
        file.seek(1 << 30)  # as long as somebody likes; only its end is read
        file.write(b"\xff\nthe last line\n")
    with pytest.raises(BuildError) as caught:
        emulated._status(tmp_path, ["true"], tmp_path / "log")
    assert shown in caught.value.message and len(caught.value.message) < 200
    assert caught.value.tail.endswith("the last line") and len(caught.value.tail) <= emulated._CONSOLE


def test_the_status_is_what_the_machine_says(tmp_path: Path) -> None:
    (tmp_path / "said").write_bytes(b"status 137\n".ljust(emulated._WORDS, b"\0"))
    assert emulated._status(tmp_path, ["true"], tmp_path / "log") == 137


@pytest.mark.parametrize("more", [-1, 0, 1, 4096])
def test_no_more_is_kept_of_what_is_printed_than_in_a_chroot(more: int, tmp_path: Path) -> None:
    disk = tmp_path / "output"
    disk.write_bytes((b"x" * (confine.PRINTED + more)).ljust(emulated._OUTPUT, b"\0"))
    kept = emulated._printed(disk)
    assert kept == b"x" * (confine.PRINTED + min(more, 0)) + (confine.LEFT_OUT if more > 0 else b"")


def test_a_shell_can_read_what_runs_in_it(tmp_path: Path) -> None:
    """With names that a shell would take apart."""
    binds = [(tmp_path, "/run/a folder", True), (tmp_path, "/tmp/it's", False)]
    made = emulated._ramdisk(["echo", "it's 100%"], binds, {"binds/0": tmp_path}, {"NAME": "$(a) 'b'"}, "/a b")
    for name in ("init", "inside", "start"):
        text = made._entries[name][1]
        subprocess.run(["sh", "-n"], input=text, check=True, timeout=10)
