"""Members of tarballs: what GNU tar and Python read of them is the tree that they were made of."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pipeline import inventory, listing, sandbox
from pipeline.errors import BuildError
from pipeline.inventory import Entry
from pipeline.layers import members
from tests import oddfiles
from tests.layers.test_file_properties import differences


def tarball(tree: inventory.Tree, root: Path) -> bytes:
    with members.Reader(root) as reader:
        return b"".join(piece for part in members.parts(tree) for piece in reader.read(part)) + members.END


def extracted(tar: Path, folder: Path, *options: str) -> dict[str, Entry]:
    """What GNU tar makes of a tarball; it must have nothing to say."""
    folder.mkdir()
    argv = ["tar", "--extract", f"--file={tar}", f"--directory={folder}", "--numeric-owner", "--preserve-permissions"]
    done = subprocess.run([*argv, *inventory.TAR, *options], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return stands(folder)


def stands(root: Path) -> dict[str, Entry]:
    """A tree as it stands, times of folders included, and the first of a file's names in place of its inode."""
    tree = inventory.of(root, sandbox.SOURCE_DATE_EPOCH)
    first = {name: names[0] for names in listing.names_of_one_file(tree) for name in names}
    return {name: entry._replace(inode=first.get(name, "")) for name, entry in tree.items()}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    oddfiles.make(tmp_path / "odd")
    return tmp_path / "odd"


def test_gnu_tar_extracts_the_tree(odd: Path, tmp_path: Path) -> None:
    os.utime(odd / "old", (0, -86400))
    os.chown(odd / "private", 3_000_000, 3_000_001)  # more than a header has room for
    (odd / "beyond\udcff").symlink_to("\udcfe" * 120)
    tree = inventory.of(odd, sandbox.SOURCE_DATE_EPOCH)
    (tmp_path / "odd.tar").write_bytes(tarball(tree, odd))
    there = extracted(tmp_path / "odd.tar", tmp_path / "there", "--warning=no-timestamp")  # before 1970
    assert differences(there, stands(odd)) == {}
    listed = subprocess.run(["tar", "--list", "--file", tmp_path / "odd.tar"], capture_output=True, check=True)
    assert listed.stderr == b""


def test_names_come_as_gnu_tar_sorts_them(odd: Path) -> None:
    for name in ("dir", "dir/x", "dir-and-more", "dir.d"):
        (odd / name).mkdir()
    argv = ["tar", "--create", "--sort=name", "--format=posix", f"--directory={odd}", "."]
    made = subprocess.run(argv, capture_output=True, check=True).stdout
    theirs = subprocess.run(["tar", "--list"], input=made, capture_output=True, check=True).stdout
    tree = inventory.of(odd, sandbox.SOURCE_DATE_EPOCH)
    ours = subprocess.run(["tar", "--list"], input=tarball(tree, odd), capture_output=True, check=True).stdout
    assert ours == theirs


def test_python_reads_them(odd: Path, tmp_path: Path) -> None:
    tree = inventory.of(odd, sandbox.SOURCE_DATE_EPOCH)
    (tmp_path / "odd.tar").write_bytes(tarball(tree, odd))
    with tarfile.open(tmp_path / "odd.tar") as tar:
        found = {member.name.removeprefix(".").removeprefix("/"): member for member in tar}
        assert found.keys() == tree.keys()
        for path, entry in tree.items():
            member = found[path]
            assert (member.mode, member.uid, member.gid, member.mtime) == (
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime,
            ), path
            if entry.type == "f":
                content = tar.extractfile(member)
                assert content is not None and content.read() == (odd / path).read_bytes()
            elif entry.type == "l":
                assert member.linkname == entry.target


def test_holes_are_told_by_content_alone(tmp_path: Path) -> None:
    """Whichever zeros a file system keeps as holes; more than one part of a file."""
    size = 2 * members.PART + 5000
    marks = (0, 12288 + 4095, members.PART - 1, 2 * members.PART + 4096)
    tars = []
    for name, zeros in (("one", ()), ("other", (20480, members.PART + 8192))):
        root = tmp_path / name
        root.mkdir()
        with (root / "file").open("wb") as file:
            for mark in marks:
                os.pwrite(file.fileno(), b"x", mark)
            for place in zeros:
                os.pwrite(file.fileno(), bytes(4096), place)
            file.truncate(size)
        os.utime(root / "file", (0, 0))
        entry = inventory.of(root, sandbox.SOURCE_DATE_EPOCH)["file"]
        assert entry.holes > 0
        tars.append(tarball({"file": entry}, root))
        (tmp_path / f"{name}.tar").write_bytes(tars[-1])
    assert tars[0] == tars[1]
    assert len(tars[0]) < 32768
    made = extracted(tmp_path / "one.tar", tmp_path / "there")["file"]
    assert made.holes > 2 * members.PART - 32768
    assert (tmp_path / "there/file").read_bytes() == (tmp_path / "one/file").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4096, 10000, 3 * members.PART])
def test_a_file_of_nothing_but_a_hole(tmp_path: Path, size: int) -> None:
    (tmp_path / "root").mkdir()
    with (tmp_path / "root/file").open("wb") as file:
        file.truncate(size)
    tree = inventory.of(tmp_path / "root", sandbox.SOURCE_DATE_EPOCH)
    (tmp_path / "tar").write_bytes(tarball(tree, tmp_path / "root"))
    assert extracted(tmp_path / "tar", tmp_path / "there")["file"].sha256 == tree["file"].sha256


def test_another_size_than_the_inventory_says_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    tree = inventory.of(tmp_path, sandbox.SOURCE_DATE_EPOCH)
    (tmp_path / "file").write_text("longer")
    with pytest.raises(BuildError, match="/file is not what its layer's inventory says"):
        tarball(tree, tmp_path)
    (tmp_path / "file").unlink()
    (tmp_path / "file").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="/file cannot be read"):
        tarball(tree, tmp_path)


def test_no_tarball_holds_a_device(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="/dev/null: no tarball holds a file of type c"):
        tarball({"dev/null": Entry("c", 0o666)}, tmp_path)
