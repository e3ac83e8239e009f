"""What Linux keeps of a file survives layers, or is refused by name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import inventory, listing, sandbox
from pipeline.errors import BuildError
from pipeline.inventory import Entry
from pipeline.layers import stacking
from pipeline.step import Input
from tests import oddfiles
from tests.layers.test_layers import CAPABILITY, content, look, make
from tests.namespaced import inside, job

#: user::rwx, user:7:r-x, group::r-x, mask::r-x, other::---
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 7, 0xFFFFFFFF), (2, 5, 7), (4, 5, 0xFFFFFFFF), (16, 5, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
)


def stands(root: Path) -> dict[str, Entry]:
    """A tree as it stands, in the words of an inventory; times of folders left out, which tell when a name was made."""
    return comparable(inventory.of(root, sandbox.SOURCE_DATE_EPOCH))


def comparable(tree: inventory.Tree) -> dict[str, Entry]:
    first = {name: names[0] for names in listing.names_of_one_file(tree) for name in names}
    return {
        name: entry._replace(inode=first.get(name, ""), mtime=0 if entry.type == "d" else entry.mtime)
        for name, entry in tree.items()
    }


def differences(one: dict[str, Entry], other: dict[str, Entry]) -> dict[str, object]:
    return {
        name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    }


# --- everything at once


def everything(folder: str) -> None:
    place = Path(folder)
    first = make(place, "first", lambda root: oddfiles.make(root / "below"))
    second = make(place, "second", lambda root: oddfiles.make(root / "above"), first)
    oddfiles.make(place / "plain")
    plain = stands(place / "plain")
    assert len(plain) > 370
    with look(place, first, second) as root:
        for name in ("below", "above"):
            assert differences(stands(root / name), plain) == {}
            found = (root / name / "private").stat()
            assert int(found.st_mtime) == 1_000_000_000
        assert differences(stands(root), comparable(stacking.contents([first, second]))) == {}

    def again(root: Path) -> None:
        shutil.rmtree(root / "below")
        oddfiles.make(root / "below")

    assert content(make(place, "again", again, first)) == []
    copy = job(place / "copy", None, first, pool=place / "artifacts/pool")
    with stacking.copied(copy) as root:
        again(root)
    assert content(Input("layer", "", copy.out, "")) == []
    third = make(place, "gone", lambda root: shutil.rmtree(root / "below/names"), first, second)
    assert sorted(content(third)) == ["-below/names", "below/"]
    fourth = make(place, "emptied", lambda root: empty(root / "above/names"), first, second)
    with look(place, first, second, fourth) as root:
        assert list((root / "above/names").iterdir()) == []
        assert differences(stands(root), comparable(stacking.contents([first, second, fourth]))) == {}


def empty(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def test_everything_arrives(tmp_path: Path) -> None:
    inside(everything, tmp_path)


# --- each property alone is a change, and so is its loss


def attribute(name: str, value: bytes) -> Callable[[Path], None]:
    return lambda path: os.setxattr(path, name, value)


def attribute_of(file: str, name: str, value: bytes) -> Callable[[Path], None]:
    return lambda root: os.setxattr(root / file, name, value)


def without(name: str) -> Callable[[Path], None]:
    return lambda path: os.removexattr(path, name)


def without_list(path: Path) -> None:
    os.removexattr(path, "system.posix_acl_access")
    path.chmod(0o755)


def hole(path: Path) -> None:
    """The same bytes, the first of them nowhere."""
    times = path.stat()
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(100_000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


ALONE: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "mode": (lambda path: path.chmod(0o4711), lambda path: path.chmod(0o755)),
    "owner": (lambda path: os.chown(path, 7, 8), lambda path: os.chown(path, 0, 0)),
    "capability": (attribute("security.capability", CAPABILITY), without("security.capability")),
    "access list": (attribute("system.posix_acl_access", ACL), without_list),
    "list for what is made in it": (attribute("system.posix_acl_default", ACL), without("system.posix_acl_default")),
    "attribute": (attribute("user.x", b"\0\n"), without("user.x")),
    "time": (lambda path: os.utime(path, (5, 5)), lambda path: os.utime(path, (9, 9))),
    "hole": (hole, lambda path: path.write_bytes(bytes(100_000))),
}
#: What folders do not have, and what files do not have.
NOT_OF = {
    "folder": {"capability", "hole"},
    "file": {"list for what is made in it"},
    "top": {"capability", "hole", "time"},
}


def each_alone(folder: str, kind: str) -> None:
    for what in ALONE.keys() - NOT_OF[kind]:
        alone(Path(folder) / what, kind, what)


def alone(place: Path, kind: str, what: str) -> None:
    name = {"folder": "folder/", "file": "folder/file", "top": ""}[kind]
    written = {"folder": ["folder/"], "file": ["folder/", "folder/file"], "top": ["./"]}[kind]

    def base(root: Path) -> None:
        (root / "folder").mkdir()
        (root / "folder/file").write_bytes(bytes(100_000))
        (root / "folder/file").chmod(0o755)

    do, undo = ALONE[what]
    first = make(place, "base", base)
    second = make(place, "done", lambda root: do(root / name), first)
    assert content(second) in (written, written[-1:]), (kind, what)
    nothing = make(place, "nothing", lambda root: None, first, second)
    assert content(nothing) == (["./"] if kind == "top" else [])
    third = make(place, "undone", lambda root: undo(root / name), first, second, nothing)
    plain = place / "plain"
    plain.mkdir()
    base(plain)
    for stack, change in (((first, second, nothing), do), ((first, second, nothing, third), undo)):
        change(plain / name)
        with look(place, *stack) as root:
            assert differences(stands(root), stands(plain)) == {}, (kind, what)
            assert differences(stands(root), comparable(stacking.contents(stack))) == {}, (kind, what)


@pytest.mark.parametrize("kind", NOT_OF)
def test_each_property_alone_is_a_change_and_so_is_its_loss(tmp_path: Path, kind: str) -> None:
    inside(each_alone, tmp_path, kind)


# --- several names of one file


def names_of_one(folder: str) -> None:
    place = Path(folder)

    def base(root: Path) -> None:
        (root / "folder").mkdir()
        (root / "a").write_text("text")
        os.link(root / "a", root / "two")
        os.link(root / "a", root / "folder/three")
        for path in (root / "a", root / "folder"):
            os.utime(path, (5, 5))

    def append(root: Path) -> None:
        with (root / "folder/three").open("a") as file:
            file.write("more")

    def replace(root: Path) -> None:
        (root / "new").write_text("another file")
        (root / "new").rename(root / "two")

    together = ["a", "folder/", "folder/three", "two"]
    changes: list[tuple[Callable[[Path], object], list[str]]] = [
        (lambda root: None, []),
        (lambda root: (root / "two").chmod(0o4755), together),
        (append, together),
        (attribute_of("a", "security.capability", CAPABILITY), together),
        (replace, ["two"]),
        (lambda root: (root / "a").unlink(), ["-a"]),
        (lambda root: os.link(root / "two", root / "four"), ["a", "folder/", "folder/three", "four", "two"]),
    ]
    first = make(place, "base", base)
    for number, (change, written) in enumerate(changes):
        plain = place / f"plain{number}"
        plain.mkdir()
        base(plain)
        change(plain)
        second = make(place, str(number), change, first)
        assert content(second) == written, number
        with look(place, first, second) as root:
            assert differences(stands(root), stands(plain)) == {}, number
            assert int((root / "folder").stat().st_mtime) == 5
        nothing = make(place, f"nothing{number}", lambda root: None, first, second)
        assert content(nothing) == [], number


def test_a_file_is_not_parted_from_its_other_names(tmp_path: Path) -> None:
    inside(names_of_one, tmp_path)


# --- a stack of layers is what one plain file system would be


def a_program(seed: int) -> Callable[[Path], None]:
    """What scripts do with files, the same for the same seed."""
    dice = random.Random(seed)
    names = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "c/") for name in ("one", "two", "three", "four")]

    def write(root: Path, name: str, how: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).is_dir():
            with (root / name).open(how) as file:
                file.write(name)

    def step() -> Callable[[Path], None]:
        name, other = dice.choice(names), dice.choice(names)
        folder = dice.choice(["a", "a/b", "c"])
        mode = dice.choice([0o600, 0o644, 0o4755])
        return dice.choice(
            [
                lambda root: write(root, name, "w"),
                lambda root: write(root, name, "a"),
                lambda root: (root / name).unlink(),
                lambda root: shutil.rmtree(root / folder),
                *[lambda root: os.link(root / name, root / other)] * 4,
                lambda root: (root / name).rename(root / other),
                lambda root: (root / name).chmod(mode),
                lambda root: (root / name).symlink_to("anything"),
                lambda root: os.setxattr(root / name, "user.x", b"x"),
                lambda root: (root / folder).mkdir(),
                lambda root: (root / folder).chmod(0o700 | mode & 0o777),
            ]
        )

    steps = [step() for _ in range(100)]

    def run(root: Path) -> None:
        for step in steps:
            with contextlib.suppress(OSError):
                step(root)

    return run


def as_one(folder: str, first: str, last: str) -> None:
    for seed in range(int(first), int(last)):
        place = Path(folder) / str(seed)
        plain = place / "plain"
        plain.mkdir(parents=True)
        stack: list[Input] = []
        for number in range(4):
            change = a_program(seed * 10 + number)
            stack.append(make(place, str(number), change, *stack))
            change(plain)
            with look(place, *stack) as root:
                assert differences(stands(root), stands(plain)) == {}, (seed, number)
                assert differences(stands(root), comparable(stacking.contents(stack))) == {}, (seed, number)


def test_a_stack_of_layers_is_what_one_file_system_would_be(tmp_path: Path) -> None:
    inside(as_one, tmp_path, 0, 8)


# --- what no image could hold


def refused(folder: str) -> None:
    place = Path(folder)

    def base(root: Path) -> None:
        (root / "file").touch()
        (root / "folder").mkdir()

    def flag(name: str, value: int) -> Callable[[Path], None]:
        def set_it(root: Path) -> None:
            descriptor = os.open(root / name, os.O_RDONLY)
            fcntl.ioctl(descriptor, 0x40086602, struct.pack("L", value))  # FS_IOC_SETFLAGS
            os.close(descriptor)

        return set_it

    def deep(root: Path) -> None:
        folder = root / "top"
        for _ in range(16):
            folder /= "d" * 200
        folder.mkdir(parents=True)

    first = make(place, "first", base)
    cases: list[tuple[Callable[[Path], object], str]] = [
        (attribute_of("file", "user.large", b"x" * 5000), "/file has 5024 bytes of extended attributes"),
        (deep, "so deep that its path has more than 3072 bytes"),
        (flag("file", 0x40), "/file has the flag d of chattr"),
        (flag("folder", 0x80), "/folder has the flag A of chattr"),
    ]
    if os.geteuid() == 0 and not sandbox.in_user_namespace():
        cases.append(
            (lambda root: os.mknod(root / "new\nnull", stat.S_IFCHR, os.makedev(1, 3)), r"/new\\nnull is a device")
        )
        cases.append((flag("file", 0x30), "/file has the flag (ia|ai) of chattr: no image can hold that"))
        cases.append((flag("folder", 0x10), "/folder has the flag i of chattr"))
    for number, (change, words) in enumerate(cases):
        with pytest.raises(BuildError, match=words):
            make(place, str(number), change, first)

    def packaged(root: Path) -> None:
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/info/other.list").write_text("/.\n/file.gz\n")
        (root / "var/lib/dpkg/info/tool:amd64.list").write_text("/.\n/file\n")
        flag("file", 0x40)(root)

    known: set[tuple[str, int, int]] = set()

    def by_the_second(root: Path) -> None:
        stacking.require_kept(work, "OPKG first", known)
        flag("folder", 0x40)(root)
        stacking.require_kept(work, "OPKG second", known)

    with pytest.raises(BuildError, match=r"^package tool:amd64: /file has"):
        make(place, "packaged", packaged, first)
    work = job(place / "opkgs", {}, first)
    sandbox.scratch(work.work, 1 << 30)
    with pytest.raises(BuildError, match=r"^OPKG second: /folder has"), stacking.changed(work) as root:
        by_the_second(root)
    sockets = make(place, "socket", lambda root: os.mknod(root / "socket", stat.S_IFSOCK), first)
    assert content(sockets) == []


def test_what_no_image_could_hold_is_refused_by_name(tmp_path: Path) -> None:
    inside(refused, tmp_path)
