"""Tarballs in frames: the same bytes whatever was made before, and what is extracted is the tree."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pipeline import inventory, sandbox
from pipeline.layers import frames, members
from pipeline.layers.members import Member, Part
from tests.layers.test_file_properties import ACL, differences
from tests.layers.test_layers import CAPABILITY
from tests.layers.test_members import extracted, stands
from tests.layers.test_members import tarball as one_tarball


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that fit the trees of tests: some tens of frames, and files of several parts."""
    monkeypatch.setattr(frames, "_LEAST", 4 << 10)
    monkeypatch.setattr(frames, "_MOST", 32 << 10)
    monkeypatch.setattr(frames, "_ONE_OF", 4)
    monkeypatch.setattr(members, "PART", 32 << 10)


def listed(root: Path) -> inventory.Tree:
    return inventory.of(root, sandbox.SOURCE_DATE_EPOCH)


def made(root: Path, tarball: Path, former: Path | None = None) -> tuple[bytes, str]:
    """A tarball and its index, as they stand in their files."""
    tarball.parent.mkdir(exist_ok=True)
    frames.write(listed(root), root, tarball, former)
    return tarball.read_bytes(), frames.index(tarball).read_text()


def sown(root: Path, rng: random.Random) -> None:
    root.mkdir()
    for number in range(8):
        (root / f"{number}").mkdir()
        for other in range(20):
            (root / f"{number}/{other}").write_bytes(rng.randbytes(rng.randrange(3000)))
    (root / "large").write_bytes(rng.randbytes(200_000))


# --- random edits


def names(root: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    return sorted(path for path in root.rglob("*") if wanted(path))


def is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def edit(root: Path, rng: random.Random) -> str:
    """One random change, and what it is called."""
    folder = rng.choice([root, *names(root, is_folder)])
    new = folder / f"new{rng.randrange(10**9)}{rng.choice(['', 'é', chr(0xDCFF), 'n' * 120])}"
    files = names(root, is_plain)
    old = rng.choice(files) if files else root / "first"
    if not files:
        old.touch()
    how = rng.choice(sorted(EDITS))
    EDITS[how](old, new, rng)
    return how


def to_folder(old: Path, new: Path, rng: random.Random) -> None:
    old.unlink()
    old.mkdir()
    (old / new.name).touch()


def to_file(old: Path, new: Path, rng: random.Random) -> None:
    if old.parent.name.isdigit():
        shutil.rmtree(old.parent)
        old.parent.write_bytes(b"a file now")


def holes(old: Path, new: Path, rng: random.Random) -> None:
    with new.open("wb") as file:
        for _ in range(3):
            os.pwrite(file.fileno(), b"data", rng.randrange(150_000))
        file.truncate(160_000)


EDITS: dict[str, Callable[[Path, Path, random.Random], object]] = {
    "add": lambda old, new, rng: new.write_bytes(rng.randbytes(rng.randrange(100_000))),
    "change": lambda old, new, rng: old.write_bytes(rng.randbytes(rng.randrange(5000))),
    "same size": lambda old, new, rng: old.write_bytes(rng.randbytes(old.stat().st_size)),
    "remove": lambda old, new, rng: old.unlink(),
    "rename": lambda old, new, rng: old.rename(new),
    "mode": lambda old, new, rng: old.chmod(rng.choice([0, 0o600, 0o4755])),
    "owner": lambda old, new, rng: os.chown(old, rng.randrange(3_000_000), 7),
    "time": lambda old, new, rng: os.utime(old, (0, rng.randrange(10**9))),
    "hard link": lambda old, new, rng: new.hardlink_to(old),
    "link before": lambda old, new, rng: new.with_name(f"!{new.name}").hardlink_to(old),
    "link": lambda old, new, rng: new.symlink_to(old.name * rng.choice([1, 40])),
    "pipe": lambda old, new, rng: os.mkfifo(new),
    "user": lambda old, new, rng: os.setxattr(old, f"user.{rng.randrange(3)}=", rng.randbytes(9)),
    "capability": lambda old, new, rng: os.setxattr(old, "security.capability", CAPABILITY),
    "list": lambda old, new, rng: os.setxattr(old, "system.posix_acl_access", ACL),
    "holes": holes,
    "file to folder": to_folder,
    "folder to file": to_file,
    "folder away": lambda old, new, rng: shutil.rmtree(old.parent) if old.parent.name.isdigit() else None,
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("seed", range(3))
def test_whatever_was_made_before_the_bytes_are_those_of_a_clean_build(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root, former = tmp_path / "root", None
    sown(root, rng)
    done, taken = [], 0
    for number in range(25):
        done.append(edit(root, rng))
        tarball = tmp_path / f"{number}/tar.zst"
        clean = made(root, tmp_path / "clean/tar.zst")
        assert made(root, tarball, former) == clean, done
        if number % 8 == 0:
            there = extracted(tarball, tmp_path / f"there{number}", "--zstd")
            assert differences(there, stands(root)) == {}, done
        if former is not None:
            taken += len(keys(former) & keys(tarball))
        # not only the one before: any that there ever was
        former = tmp_path / f"{rng.randrange(number + 1)}/tar.zst"
    assert taken > 25 * 10


def keys(tarball: Path) -> set[str]:
    return {line.split()[0] for line in frames.index(tarball).read_text().splitlines()}


# --- what is taken over


def test_frames_are_taken_over_without_a_look_at_their_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sown(root, random.Random(1))
    first = made(root, tmp_path / "first.tar.zst")
    tree = listed(root)
    (root / "3/7").write_bytes(bytes(tree["3/7"].size))
    frames.write(tree, root, tmp_path / "again.tar.zst", tmp_path / "first.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == first[0]
    frames.write(tree, root, tmp_path / "clean.tar.zst")
    assert (tmp_path / "clean.tar.zst").read_bytes() != first[0]


def test_a_change_makes_few_frames_anew(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sown(root, random.Random(1))
    made(root, tmp_path / "first.tar.zst")
    assert len(keys(tmp_path / "first.tar.zst")) > 20
    for name in ("0/5", "4/4", "7/19"):
        (root / name).write_text("changed")
        made(root, tmp_path / "second.tar.zst")
        new = keys(tmp_path / "second.tar.zst") - keys(tmp_path / "first.tar.zst")
        assert 1 <= len(new) <= 4
        shutil.copy(tmp_path / "second.tar.zst.frames", tmp_path / "first.tar.zst.frames")


FULL = Member("a", "f", 0o644, 0, 0, 1, 5, "", "0" * 64, False, (("user.a", "00"),))
CHANGES: dict[str, Any] = {
    "path": "b",
    "type": "h",
    "mode": 0o600,
    "uid": 1,
    "gid": 1,
    "mtime": 2,
    "size": 6,
    "target": "x",
    "sha256": "1" * 64,
    "sparse": True,
    "attributes": (("user.a", "01"),),
}


def test_all_that_reaches_the_bytes_is_in_the_key() -> None:
    assert CHANGES.keys() == set(Member._fields)
    others = [FULL, *(FULL._replace(**{name: value}) for name, value in CHANGES.items())]
    single = [(Part(member, 0, 5),) for member in others]
    several = [(), (Part(FULL, 0, 4),), (Part(FULL, 1, 5),), single[0] + single[1], single[1] + single[0]]
    assert len({frames.key(frame) for frame in (*single, *several)}) == len(single) + len(several)


# --- damage


def flip(tarball: Path) -> None:
    data = bytearray(tarball.read_bytes())
    data[len(data) // 2] ^= 1
    tarball.write_bytes(data)


def exchange(tarball: Path) -> None:
    """Two lines of the index change places, and with them what they say where a frame begins."""
    lines = frames.index(tarball).read_text().splitlines(keepends=True)
    frames.index(tarball).write_text("".join([lines[1], lines[0], *lines[2:]]))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "torn": lambda tarball: os.truncate(tarball, tarball.stat().st_size // 2),
    "empty": lambda tarball: os.truncate(tarball, 0),
    "gone": Path.unlink,
    "index gone": lambda tarball: frames.index(tarball).unlink(),
    "index torn": lambda tarball: os.truncate(frames.index(tarball), 1000),
    "index exchanged": exchange,
    "no index": lambda tarball: frames.index(tarball).write_bytes(b"\xff\n"),
    "numbers below zero": lambda tarball: frames.index(tarball).write_text(f"{'0' * 64} -5 {'0' * 64}\n"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_of_a_damaged_tarball_only_what_is_whole_is_taken(tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    sown(root, random.Random(2))
    made(root, tmp_path / "former.tar.zst")
    (root / "1/1").write_text("changed")
    clean = made(root, tmp_path / "clean.tar.zst")
    DAMAGE[how](tmp_path / "former.tar.zst")
    assert made(root, tmp_path / "new.tar.zst", tmp_path / "former.tar.zst") == clean


def test_several_take_over_at_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sown(root, random.Random(3))
    made(root, tmp_path / "former.tar.zst")
    (root / "1/1").write_text("changed")
    clean = made(root, tmp_path / "clean.tar.zst")
    with ThreadPoolExecutor(4) as pool:
        several = pool.map(
            lambda number: made(root, tmp_path / f"{number}.tar.zst", tmp_path / "former.tar.zst"), range(8)
        )
        assert all(one == clean for one in several)


# --- what reads it


def test_all_that_reads_zstd_reads_it(tmp_path: Path) -> None:
    root, tarball = tmp_path / "root", tmp_path / "tar.zst"
    sown(root, random.Random(4))
    made(root, tarball)
    subprocess.run(["zstd", "--quiet", "--test", tarball], check=True, timeout=60)
    plain = subprocess.run(["zstd", "-dc", tarball], capture_output=True, check=True, timeout=60).stdout
    assert plain == one_tarball(listed(root), root)
    with tarball.open("rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read() == plain
