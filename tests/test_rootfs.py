"""Root file systems opened from within: whatever links stand in them, nothing outside is read, written or removed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rootfs import RootFs


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A root beside a folder of the machine, which no test may change."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("the machine's own")
    return tmp_path / "root"


@pytest.fixture
def root(top: Path) -> Iterator[RootFs]:
    with RootFs(top) as opened:
        yield opened


@pytest.fixture(params=["absolute", "relative", "a chain"])
def leading_out(request: pytest.FixtureRequest, top: Path) -> str:
    """A link in the root to the folder outside, in the ways that there are."""
    outside = top.parent / "outside"
    if request.param == "absolute":
        (top / "way").symlink_to(outside)
    elif request.param == "relative":
        (top / "way").symlink_to("../outside")
    else:
        (top / "first").symlink_to("../../../../../../../.." + str(outside))
        (top / "way").symlink_to("first")
    return "way"


ACTS: dict[str, Callable[[RootFs, str], object]] = {
    "write": lambda root, path: root.write(path, "ours"),
    "link": lambda root, path: root.link(path, "ours"),
    "remove": lambda root, path: root.remove(path),
    "copy": lambda root, path: root.copy(Path("/etc/passwd"), path),
    "make_folder": lambda root, path: root.make_folder(path + "/more"),
    "remove_if_empty": lambda root, path: root.remove_if_empty(path),
    "set_access": lambda root, path: root.set_access(path, 0o777),
}


@pytest.mark.parametrize("act", ACTS)
def test_no_act_reaches_what_a_link_leads_to_outside(root: RootFs, leading_out: str, act: str) -> None:
    outside = root.top.parent / "outside"
    before = outside.stat()
    for path in (leading_out, f"{leading_out}/file", f"{leading_out}/new"):
        with contextlib.suppress(OSError):  # the first may have put a file of ours in place of the link
            ACTS[act](root, path)
    assert [entry.name for entry in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "the machine's own"
    assert outside.stat().st_mtime_ns == before.st_mtime_ns
    assert outside.stat().st_mode == before.st_mode


def test_nothing_outside_is_read(root: RootFs, leading_out: str) -> None:
    assert root.stat(f"{leading_out}/file") is None
    assert root.names(leading_out) == []
    assert not list(root.files("/"))
    with pytest.raises(OSError, match="No such file"):
        root.read(f"{leading_out}/file")


def test_links_lead_to_places_inside(root: RootFs) -> None:
    root.make_folder("usr/lib")
    root.link("lib", "usr/lib")
    root.link("opt/up", "../../../../usr")
    root.link("opt/absolute", "/usr/lib")
    for number, place in enumerate(("lib", "/opt/up/lib", "opt/absolute")):
        root.write(f"{place}/file{number}", str(number))
        assert (root.top / f"usr/lib/file{number}").read_text() == str(number)
        assert root.read(f"usr/lib/file{number}") == str(number).encode()


def test_folders_are_made_where_a_link_to_nothing_points(root: RootFs) -> None:
    root.link("var/run", "/run")
    root.link("var/deep", "../not/there")
    root.write("/var/run/tool/pid", "1")
    root.write("/var/deep/file", "2")
    assert (root.top / "run/tool/pid").read_text() == "1"
    assert (root.top / "not/there/file").read_text() == "2"


def test_links_in_a_circle_are_an_error_and_no_hang(root: RootFs) -> None:
    root.link("a", "b")
    root.link("b", "a")
    with pytest.raises(OSError) as caught:
        root.write("a/file", "")
    assert caught.value.errno == errno.ELOOP


def test_the_links_of_proc_are_not_followed(root: RootFs) -> None:
    with RootFs(Path("/")) as machine, pytest.raises(OSError):
        machine.read("/proc/self/root/etc/passwd")


def test_a_named_pipe_does_not_hold_whoever_reads(root: RootFs) -> None:
    os.mkfifo(root.top / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        root.read("pipe")


def test_a_file_takes_the_place_of_a_link_and_not_of_a_folder(root: RootFs) -> None:
    root.make_folder("folder")
    root.link("etc/link", "/outside")
    root.write("etc/link", "file")
    assert not (root.top / "etc/link").is_symlink()
    with pytest.raises(IsADirectoryError):
        root.write("folder", "")
    with pytest.raises(NotADirectoryError):
        root.write("etc/link/below", "")


def test_modes_do_not_depend_on_the_umask(root: RootFs) -> None:
    before = os.umask(0o077)
    try:
        root.write("a/b/file", "", 0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE((root.top / "a/b/file").stat().st_mode) == 0o755
    assert stat.S_IMODE((root.top / "a/b").stat().st_mode) == 0o755


def test_a_folder_for_a_mount_has_no_link_on_its_way(root: RootFs) -> None:
    root.make_folder("srv/home")
    root.link("home", "/srv/home")
    assert root.plain_folder("/srv/home") == root.top / "srv/home"
    with pytest.raises(OSError) as caught:
        root.plain_folder("/home")
    assert caught.value.errno == errno.ELOOP


def test_removing_a_tree_leaves_what_its_links_point_at(root: RootFs, leading_out: str) -> None:
    root.make_folder("tree/below")
    root.link("tree/below/out", str(root.top.parent / "outside"))
    root.remove("tree")
    assert not (root.top / "tree").exists()
    assert (root.top.parent / "outside/file").exists()


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "/a", "/", "../..", "a/../b"]), min_size=1, max_size=6))
def test_a_path_means_what_it_means_to_a_process_inside(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    top = tmp_path_factory.mktemp("root")
    target = "/".join(parts)
    (top / "a").symlink_to(target)
    (top / "b").mkdir()
    with RootFs(top) as root:
        try:
            found = root.stat("a/.")
        except OSError as error:
            assert error.errno == errno.ELOOP
            return
        inside = {(entry.st_dev, entry.st_ino) for entry in (top.stat(), (top / "b").stat())}
        assert found is None or (found.st_dev, found.st_ino) in inside
