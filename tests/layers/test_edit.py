"""A file system that is changed in place holds what a new one of the changed tree would hold."""

from __future__ import annotations

import difflib
import hashlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import inventory, qcow2
from pipeline.builders import layout
from pipeline.layers import edit, ext4
from pipeline.layers.stacking import LAYER
from pipeline.layers.tools import Tools, tools
from pipeline.sandbox import SOURCE_DATE_EPOCH
from pipeline.step import Input
from tests import oddfiles
from tests.namespaced import inside, job

ROOT = Path(__file__).resolve().parents[2]
TOOLROOT = ROOT / "artifacts/amd64/toolroot/files"
OFFSET, SIZE = 1 << 20, 64 << 20
UUID = str(layout.identifier("test"))
#: cap_net_raw+ep, as setcap writes it.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
#: Where the inodes and blocks of a file lie, which is none of its user's business.
_PLACES = re.compile(
    r"Inode: \d+|Blockcount: \d+|Size of extra.*|Generation: \d+|Version: \S+|Fragment:.*|Inode checksum:.*|"
    r"(?:EXTENTS|BLOCKS|TOTAL):.*(?:\n.+)*|"
    r"ctime: .*|atime: .*|crtime: .*"
)
#: Their order is that in which a file system told them.
_ATTRIBUTES = re.compile(r"(?:^  \S.* \(\d+\).*\n)+", re.MULTILINE)
#: What no script of debugfs can have in a name.
_ENDS = re.compile(r"[\n\r]")


def _toolroot() -> Input:
    return Input("toolroot", "toolroot:amd64", TOOLROOT, hashlib.sha256((TOOLROOT / LAYER).read_bytes()).hexdigest())


def _content(tree: Path) -> inventory.Tree:
    return inventory.of(tree, SOURCE_DATE_EPOCH)


def _make(tool: Tools, image: Path, tree: Path) -> None:
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(OFFSET + SIZE)
    ext4.make(tool, image, tree, uuid=UUID, size=SIZE, offset=OFFSET)


def _holds(image: Path, work: Path, paths: list[str]) -> str:
    """All that there is to see in a file system, but for where it lies: each inode, its content, its attributes."""
    plain = work / "plain"
    with image.open("rb") as file:
        file.seek(OFFSET)
        plain.write_bytes(file.read())
    subprocess.run(["/usr/sbin/e2fsck", "-fn", plain], check=True, capture_output=True, timeout=60)
    commands = work / "commands"
    quoted = ['"/' + path.replace('"', '""') + '"' for path in paths if "\n" not in path]
    commands.write_bytes(os.fsencode("".join(f"stat {name}\nea_list {name}\n" for name in quoted)))
    told = subprocess.run(["/usr/sbin/debugfs", "-f", commands, plain], capture_output=True, check=True, timeout=60)
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    subprocess.run(["/usr/sbin/debugfs", "-R", f"rdump / {work}/out", plain], check=True, capture_output=True)
    files = [path for path in _all(work / "out") if _file(path)]
    sums = [f"{path.relative_to(work / 'out')} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    names = sorted(os.fsencode(path.relative_to(work / "out")) for path in _all(work / "out"))
    seen = _ATTRIBUTES.sub(lambda found: "".join(sorted(found[0].splitlines(True))), os.fsdecode(told.stdout))
    return _PLACES.sub("", seen) + "\n".join(map(repr, [*sums, *names]))


def _apply(image: Path, clusters: dict[int, bytes], target: Path) -> None:
    shutil.copyfile(image, target)
    with target.open("r+b") as file:
        for number, data in clusters.items():
            file.seek(number * qcow2.CLUSTER)
            file.write(data)
        file.truncate(OFFSET + SIZE)


def _all(tree: Path) -> list[Path]:
    """Links may lead to names that are too long to be looked at."""
    return sorted(Path(top, name) for top, folders, files in os.walk(tree) for name in (*folders, *files))


# --- changes


def _some(tree: Path, chance: random.Random, wanted: Callable[[Path], bool]) -> Path | None:
    found = [path for path in _all(tree) if wanted(path) and b"\n" not in os.fsencode(path)]
    return chance.choice(found) if found else None


def _folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _file(path: Path) -> bool:
    return not path.is_symlink() and path.is_file()


def _change(tree: Path, chance: random.Random, number: int) -> None:
    """One edit of a kind that packages and OPKGs make."""
    folder = _some(tree, chance, _folder) or tree
    file, link = _some(tree, chance, _file), _some(tree, chance, Path.is_symlink)
    new = folder / chance.choice(
        [f"new{number}", f'a "{number}" b', f"<{number}>", f"tab\t{number}", f"\u00fc{number}"]
    )
    kind = chance.randrange(13)
    if kind == 0:
        new.write_bytes(chance.randbytes(chance.choice([0, 10, 5000, 300_000])))
        new.chmod(chance.choice([0o644, 0o4755, 0o600]))
    elif kind == 1:
        new.mkdir(chance.choice([0o755, 0o2750, 0o1777]))
    elif kind == 2:
        new.symlink_to(chance.choice(["nowhere", "y" * 100, 'with "quotes" and blanks']))
    elif kind == 3 and file:
        os.link(file, new)
    elif kind == 4 and file:
        file.unlink()
    elif kind == 5 and folder != tree:
        shutil.rmtree(folder)
    elif kind == 6 and file:
        file.unlink()
        file.mkdir()
    elif kind == 7 and folder != tree:
        shutil.rmtree(folder)
        folder.write_text("was a folder")
    elif kind == 8 and file:
        file.chmod(0o640)
        os.chown(file, chance.choice([0, 7, 60000]), 9)
    elif kind == 9 and file:
        os.setxattr(file, "user.note", chance.randbytes(chance.choice([1, 9])))
        if os.geteuid() == 0:
            os.setxattr(file, "security.capability", CAPABILITY)
    elif kind == 10 and link:
        link.unlink()
        link.write_text("was a link")
    elif kind == 11:
        with new.open("wb") as sparse:
            sparse.seek(200_000)
            sparse.write(b"end" + bytes(70_000))
    elif kind == 12:
        os.utime(folder, (chance.randrange(1 << 30),) * 2)
        os.mkfifo(new)


def changed_at_random(folder: str, seed: str, how: str) -> None:
    """Inner side: after each of many changes the changed file system is held against a new one."""
    base = Path(folder)
    if how == "all":
        edit._tells_blocks = lambda folder: False
    chance = random.Random(int(seed))
    oddfiles.make(base / "tree")
    for path in _all(base / "tree"):
        if _folder(path) and _ENDS.search(path.name):
            shutil.rmtree(path)
        elif _ENDS.search(path.name) or (path.is_symlink() and _ENDS.search(os.readlink(path))):
            path.unlink(missing_ok=True)
    os.setxattr(base / "tree/noted-folder", "user.note", b"short")  # with a long one it would be made anew
    work = job(base / "work", None, _toolroot(), pool=ROOT / "artifacts/pool")
    with tools(work) as tool:
        image = base / "base.img"
        _make(tool, image, base / "tree")
        before = _content(base / "tree")
        for number in range(20):
            _change(base / "tree", chance, number)
            if number % 5:
                continue
            after = _content(base / "tree")
            trees = before, after
            found = edit.clusters(tool, image, *trees, base / "tree", work.work, size=SIZE, offset=OFFSET)
            assert found == edit.clusters(tool, image, *trees, base / "tree", work.work, size=SIZE, offset=OFFSET)
            _apply(image, found, base / "changed.img")
            _make(tool, base / "new.img", base / "tree")
            one, other = (_holds(base / name, base, sorted(after)) for name in ("changed.img", "new.img"))
            differing = "\n".join(difflib.unified_diff(other.splitlines(), one.splitlines(), lineterm=""))
            assert not differing, f"seed {seed}, {number} changes:\n{differing}"


@pytest.mark.usefixtures("toolroot")
@pytest.mark.parametrize("how", ["metadata", "all"])
def test_what_is_changed_is_what_would_be_made(tmp_path: Path, how: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    inside(changed_at_random, tmp_path, seed, how)
