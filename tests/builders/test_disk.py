"""Layouts of disks, each machine's own files, and file systems made without mounting."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import inventory, sandbox
from pipeline.builders import disk, layout, settings
from pipeline.description import Cluster, FileSystem, Interface, Machine, Network
from pipeline.errors import BuildError, CommandError, UserError
from pipeline.layers import ext4
from pipeline.layers.stacking import LAYER
from pipeline.layers.tools import tools
from pipeline.rootfs import RootFs
from pipeline.step import Input
from tests import oddfiles
from tests.namespaced import inside, job

ROOT = Path(__file__).resolve().parents[2]
TOOLROOT = ROOT / "artifacts/amd64/toolroot/files"
needs_toolroot = pytest.mark.usefixtures("toolroot")

#: cap_net_raw+ep, as setcap writes it.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
SWAP = FileSystem("swap", 256, "swap")


def machine(*filesystems: FileSystem, disk_mib: int = 2048, role: str = "compute") -> Machine:
    card = Interface("eth0", "private", "52:54:00:00:00:01", "10.8.0.11", 24)
    if role == "head":
        cards = (
            Interface("eth0", "public", "52:54:00:00:01:00", "10.9.0.1", 24),
            Interface("eth1", "private", "52:54:00:00:00:00", "10.8.0.1", 24),
        )
        return Machine("head", "head", 0, 512, 1, disk_mib, filesystems, cards)
    return Machine("node1", "compute", 1, 384, 1, disk_mib, filesystems, (card,))


def cluster(head: Machine, *nodes: Machine) -> Cluster:
    networks = (Network("public", "10.9.0.0/24", "10.9.0.254"), Network("private", "10.8.0.0/24", ""))
    return Cluster("demo", "debian12", "amd64", "demo.test", "local", networks, head, nodes, (), "debian")


# --- layouts


def test_root_takes_what_swap_leaves() -> None:
    plan = layout.of(machine(FileSystem("/", 0, "ext4"), SWAP))
    assert [(item.number, item.start, item.sectors) for item in plan.partitions] == [
        (1, 2048, 1791 * 2048),
        (2, 1792 * 2048, 256 * 2048),
    ]
    assert plan.size == 2048 << 20


def test_boot_comes_first_on_the_disk_and_after_root_when_mounting() -> None:
    plan = layout.of(machine(FileSystem("/", 0, "ext4"), SWAP, FileSystem("/boot", 128, "ext4")))
    assert plan.partitions[0].filesystem == FileSystem("/boot", 128, "ext4")
    assert [item.filesystem.mount for item in plan.mounts if item.filesystem] == ["/", "/boot", "swap"]


def test_more_than_four_file_systems_share_an_extended_partition() -> None:
    plan = layout.of(
        machine(
            FileSystem("/", 0, "ext4"),
            SWAP,
            FileSystem("/home", 100, "ext4"),
            FileSystem("/var", 100, "ext4"),
            FileSystem("/var/log", 100, "ext4"),
        )
    )
    assert [item.number for item in plan.partitions] == [1, 2, 3, 4, 5, 6]
    assert plan.partitions[3].filesystem is None
    mounts = [item.filesystem.mount for item in plan.mounts if item.filesystem]
    assert mounts.index("/var") < mounts.index("/var/log")


def test_disks_that_are_alike_are_equal_and_roles_differ() -> None:
    node = machine(FileSystem("/", 0, "ext4"), SWAP)
    assert layout.of(node) == layout.of(dataclasses.replace(node, name="node2", index=2, memory_mib=999))
    head = dataclasses.replace(node, membership="head")
    assert layout.of(node).label_id != layout.of(head).label_id
    assert layout.of(node).uuid_of("/") != layout.of(head).uuid_of("/")


@pytest.mark.parametrize(
    ("filesystems", "words"),
    [
        ((FileSystem("/", 3000, "ext4"),), ["node1", "3001 MiB", "2048 MiB"]),
        ((FileSystem("/", 0, "ext4"), FileSystem("/home", 0, "ext4")), ["/", "/home", "rest"]),
        ((SWAP,), ["mounted at /"]),
        ((FileSystem("/", 0, "ext4"), FileSystem("swap", 2046, "swap")), ["2048 MiB"]),
    ],
)
def test_file_systems_that_do_not_fit_are_an_error(filesystems: tuple[FileSystem, ...], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        layout.of(machine(*filesystems))
    assert all(word in error.value.message for word in words)
    assert error.value.hint


@given(st.lists(st.integers(16, 300), min_size=0, max_size=12), st.booleans())
def test_partitions_never_overlap_and_never_leave_the_disk(sizes: list[int], rest: bool) -> None:
    filesystems = [FileSystem("/", 0 if rest else 100, "ext4")]
    filesystems += [FileSystem(f"/data{number}", size, "ext4") for number, size in enumerate(sizes)]
    plan = layout.of(machine(*filesystems, disk_mib=5000))
    end = layout.MIB
    for partition in plan.partitions:
        assert partition.start % layout.MIB == 0
        if partition.filesystem:
            assert partition.start >= end
            end = partition.start + partition.sectors
            assert partition.sectors == (partition.filesystem.size_mib * layout.MIB or partition.sectors)
        assert partition.start + partition.sectors <= plan.sectors
    assert len({item.uuid for item in plan.mounts}) == len(plan.mounts)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_sfdisk_makes_what_was_planned(tmp_path: Path, count: int) -> None:
    extra = [FileSystem(f"/d{number}", 50, "ext4") for number in range(count - 1)]
    plan = layout.of(machine(FileSystem("/", 0, "ext4"), *extra))
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(plan.size)
    subprocess.run(["/usr/sbin/sfdisk", "--quiet", image], input=plan.sfdisk_script().encode(), check=True, timeout=20)
    table = json.loads(
        subprocess.run(["/usr/sbin/sfdisk", "--json", image], capture_output=True, check=True, timeout=20).stdout
    )["partitiontable"]
    assert table["id"] == plan.label_id
    assert [(item["start"], item["size"], item["type"]) for item in table["partitions"]] == [
        (item.start, item.sectors, item.type) for item in plan.partitions
    ]


def test_the_installers_table_lists_mounts_in_order() -> None:
    plan = layout.of(machine(FileSystem("/", 0, "ext4"), SWAP, FileSystem("/home", 100, "ext4")))
    rows = [line.split() for line in plan.table({"/home": 7}).splitlines()]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("1", "ext4", "/", "0"),
        ("3", "ext4", "/home", "7"),
        ("2", "swap", "swap", "0"),
    ]


def test_names_of_one_file_lie_on_one_file_system() -> None:
    node = machine(FileSystem("/", 0, "ext4"), FileSystem("/var", 100, "ext4"), FileSystem("/var/log", 50, "ext4"))
    plan = layout.of(node)
    assert [plan.home_of(path) for path in ("", "usr", "var", "var/log", "var/log/x/y", "various")] == [
        "/",
        "/",
        "/var",
        "/var/log",
        "/var/log",
        "/",
    ]
    file = inventory.Entry("f", 0o644, inode="1")
    layout.require_together(node.name, plan, {"": file, "usr/a": file, "various": file})
    with pytest.raises(BuildError) as error:
        layout.require_together(node.name, plan, {"usr/a": file, "var/log/b": file})
    assert error.value.message == (
        "node1: /usr/a and /var/log/b are one file (hard links), "
        "and would lie on different file systems (/ and /var/log)"
    )


# --- each machine's own files


def test_fstab_and_boot_menu_name_file_systems_by_uuid() -> None:
    head = machine(FileSystem("/", 0, "ext4"), SWAP, role="head")
    plan = layout.of(head)
    files = settings.of(head, plan, {"/etc/cards": "eth0"}).files
    assert files["/etc/hostname"] == "head\n"
    assert f"UUID={plan.uuid_of('/')} / ext4 defaults,noatime 0 0" in files["/etc/fstab"]
    assert f"UUID={plan.uuid_of('swap')} none swap sw 0 0" in files["/etc/fstab"]
    assert "LABEL=sis /var/lib/systemimager ext4 ro" in files["/etc/fstab"]
    assert f"linux /boot/vmlinuz root=UUID={plan.uuid_of('/')} rw" in files["/boot/grub/grub.cfg"]
    assert files["/etc/cards"] == "eth0"


def test_old_systems_find_their_root_by_its_label_and_know_no_ext4() -> None:
    head = dataclasses.replace(machine(FileSystem("/", 0, "ext3"), SWAP, role="head"), by_label=True)
    files = settings.of(head, layout.of(head), {}).files
    assert "root=LABEL=/ rw" in files["/boot/grub/grub.cfg"]
    assert " / ext3 defaults" in files["/etc/fstab"]
    assert "LABEL=sis /var/lib/systemimager ext2 ro" in files["/etc/fstab"]


def test_a_new_kernel_is_told_of_programs_that_want_the_vsyscall_page() -> None:
    node = machine(FileSystem("/", 0, "ext3"))
    told = {
        wanted: settings.boot_menu(dataclasses.replace(node, vsyscall=wanted), layout.of(node))
        for wanted in (False, True)
    }
    assert "vsyscall" not in told[False] and " vsyscall=emulate\n" in told[True]


def test_a_node_mounts_no_sis_image() -> None:
    node = machine(FileSystem("/", 0, "ext4"), SWAP)
    files = settings.of(node, layout.of(node), {}).files
    assert "sis" not in files["/etc/fstab"]


def test_a_boot_of_its_own_has_the_paths_that_boot_loaders_know(tmp_path: Path) -> None:
    node = machine(FileSystem("/", 0, "ext4"), FileSystem("/boot", 100, "ext4"))
    with RootFs(tmp_path) as root:
        settings.of(node, layout.of(node), {}).write(root)
    # as the boot loader sees it: /boot is the root of the first partition
    assert (tmp_path / "boot/boot/grub/grub.cfg").read_text().startswith("set default")


def test_settings_replace_links_and_do_not_follow_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "etc/hostname").symlink_to(tmp_path / "elsewhere")
    with RootFs(tmp_path) as root:
        settings.Settings({"/etc/hostname": "node1\n"}, {}).write(root)
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert (tmp_path / "etc/hostname").read_text() == "node1\n"


@pytest.mark.parametrize("target", ["/somewhere", "../somewhere", "/nowhere"])
def test_nothing_is_mounted_through_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "srv").symlink_to(target)
    with RootFs(tmp_path) as root, pytest.raises(BuildError, match="/srv: in the root file system a link"):
        disk._make_mount_point(root, "/srv")


# --- file systems


def test_measuring_counts_a_file_once_and_leaves_out_holes_and_what_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/c").write_bytes(b"x" * 100_000)
    with (tmp_path / "home/holes").open("wb") as file:
        file.truncate(64 << 20)
    content = inventory.of(tmp_path, sandbox.SOURCE_DATE_EPOCH)
    block = 4096
    assert ext4.measure(content, without=["/home"]) == ext4.Held(2, (2 + 1 + 1) * block)
    assert ext4.measure(content, "/home") == ext4.Held(2, (25 + 1) * block)
    assert ext4.measure(content) == ext4.Held(4, (2 + 1 + 1 + 25 + 1) * block)


def test_a_file_system_has_inodes_for_its_tree_and_for_the_room_that_is_left() -> None:
    gib = 1 << 30
    assert ext4.inodes_for(ext4.Held(12_000, 300 << 20), 2 * gib, "") == 0, "as many as mke2fs gives"
    inodes = ext4.inodes_for(ext4.Held(250_000, 10 << 20), 3 * gib, "")
    assert inodes - 250_000 > (3 * gib - (10 << 20)) // 16384
    assert ext4.inodes_for(ext4.Held(60_000, 1 << 20), 256 << 20, "") == 65_536, "one a block is the most"
    with pytest.raises(UserError) as error:
        ext4.inodes_for(ext4.Held(250_000, 10 << 20), gib // 2, "node1, /srv")
    assert error.value.message.startswith("node1, /srv: 250000 files, folders and links belong there")
    assert "512 MiB has inodes for 131072" in error.value.message


def test_an_empty_disk_is_nothing_but_its_size(tmp_path: Path) -> None:
    work = job(tmp_path, {"size_mib": 100})
    disk.empty(work)
    status = (work.out / "disk.img").stat()
    assert status.st_size == 100 << 20
    assert status.st_blocks == 0


def _toolroot() -> Input:
    return Input("toolroot", "toolroot:amd64", TOOLROOT, hashlib.sha256((TOOLROOT / LAYER).read_bytes()).hexdigest())


def fill(folder: Path, tree: Path, size: int) -> str:
    """Inner side: the digest of a file system that holds `tree`."""
    work = job(folder, None, _toolroot(), pool=ROOT / "artifacts/pool")
    with tools(work) as tool, ext4.blank(work.out / "disk.img", size + (1 << 20)) as image:
        ext4.make(tool, image, tree, uuid=str(layout.identifier("test")), size=size, offset=1 << 20, without=["/home"])
        return hashlib.sha256(image.read_bytes()).hexdigest()


def same_twice(folder: str) -> None:
    """Inner side: two trees with the same content, made in opposite order, on two kinds of file system."""
    base = Path(folder)
    memory = base / "memory"
    memory.mkdir()
    sandbox.scratch(memory, 1 << 30)
    digests = []
    for place, names in ((base / "one", range(60)), (memory / "two", range(59, -1, -1))):
        (place / "home").mkdir(parents=True)
        (place / "home/kept-out").write_bytes(b"x" * (9 << 20))
        for number in names:
            (place / f"file{number}").write_bytes(b"%d" % number * 1000)
        os.link(place / "file7", place / "link")
        (place / "tool").write_bytes(b"tool")
        if os.geteuid() == 0:
            os.setxattr(place / "tool", "security.capability", CAPABILITY)
        for path in place.rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)
        os.utime(place, (1, 1))
        digests.append(fill(base / f"work-{place.name}", place, 16 << 20))
    assert digests[0] == digests[1]
    print(base / "work-one/out/disk.img")


@needs_toolroot
def test_a_file_system_depends_on_nothing_but_its_tree(tmp_path: Path) -> None:
    image = inside(same_twice, tmp_path).split()[-1]
    data = Path(image).read_bytes()[1 << 20 :]
    (tmp_path / "fs").write_bytes(data)
    subprocess.run(["/usr/sbin/e2fsck", "-fn", tmp_path / "fs"], check=True, capture_output=True, timeout=60)
    listing = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "ls -p /", tmp_path / "fs"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "file59" in listing and "home" in listing
    inner = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "ls -p /home", tmp_path / "fs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "kept-out" not in inner
    attributes = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "ea_list /tool", tmp_path / "fs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "security.capability" in attributes


def of_all_kinds(folder: str) -> None:
    """Inner side: a file system of a tree in which everything is odd, its top folder too."""
    base = Path(folder)
    oddfiles.make(base / "tree")
    (base / "tree").chmod(0o1777)
    os.chown(base / "tree", 11, 12)
    os.setxattr(base / "tree", "user.note", b"top")
    (base / "tree/home").mkdir(0o2750)
    (base / "tree/home/kept-out").touch()
    fill(base / "work", base / "tree", 16 << 20)


def debugfs(image: Path, command: str) -> str:
    return os.fsdecode(
        subprocess.run(["/usr/sbin/debugfs", "-R", command, image], capture_output=True, check=True, timeout=60).stdout
    )


def listed(image: Path, inode: int = 2, below: str = "") -> Iterator[tuple[str, str, str]]:
    """(path, inode, mode and owner) of all that a file system holds."""
    names = re.findall(r"^/(\d+)/(\d+)/(\d+)/(\d+)/(.+?)/\d*/$", debugfs(image, f"ls -p <{inode}>"), re.M | re.S)
    for number, mode, uid, gid, name in names:
        if name not in (".", "..", "lost+found"):
            yield below + name, number, f"{int(mode, 8):o} {uid}:{gid}"
            if mode.startswith("04"):
                yield from listed(image, int(number), f"{below}{name}/")


@needs_toolroot
def test_a_file_system_holds_all_that_linux_keeps_of_a_file(tmp_path: Path) -> None:
    inside(of_all_kinds, tmp_path)
    image = tmp_path / "fs"
    image.write_bytes((tmp_path / "work/out/disk.img").read_bytes()[1 << 20 :])
    subprocess.run(["/usr/sbin/e2fsck", "-fn", image], check=True, capture_output=True, timeout=60)
    there = {}
    for folder, folders, names in os.walk(tmp_path / "tree"):
        for name in (*folders, *names):
            path, status = os.path.relpath(os.path.join(folder, name), tmp_path / "tree"), Path(folder, name).lstat()
            there[path] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
    del there["home/kept-out"]
    assert {path: access for path, _, access in listed(image)} == there
    inodes = {path: inode for path, inode, _ in listed(image)}
    assert inodes["one"] == inodes["other/third"] == inodes["another"]
    assert "Blockcount: 16\n" in debugfs(image, "stat holes")
    for path, note in (
        ("listed", "system.posix_acl_access (28)"),
        ("listed-folder", "system.posix_acl_default (28)"),
        ("capable", "security.capability (20)"),
        ("capable-in-containers", "security.capability (24)"),
        ("noted", "user.a=b % (0)"),
        ("noted-folder", "user.note (3000)"),
        ("/", "user.note (3)"),
    ):
        assert note in debugfs(image, f"ea_list {path}"), path
    assert "Mode:  01777" in debugfs(image, "stat /") and "User:    11   Group:    12" in debugfs(image, "stat /")
    assert "mtime: 0x00015180" in debugfs(image, "stat old")


def overfull(folder: str) -> None:
    """Inner side: more than there is room for."""
    base = Path(folder)
    (base / "tree/home").mkdir(parents=True)
    (base / "tree/large").write_bytes(os.urandom(12 << 20))
    try:
        fill(base / "work", base / "tree", 8 << 20)
    except CommandError as error:
        assert ext4.is_full(error), error.render()
        assert not (base / "work/out/disk.img").exists()
        print("full")


@needs_toolroot
def test_a_tree_that_does_not_fit_is_recognised(tmp_path: Path) -> None:
    assert "full" in inside(overfull, tmp_path)
