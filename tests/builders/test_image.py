"""The SIS image: what installers, head nodes and checks expect to find in it, the same bytes every time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from pathlib import Path

from pipeline import sandbox
from pipeline.builders import image
from pipeline.description import FileSystem
from pipeline.layers import stacking
from pipeline.plan.machine import partitions
from pipeline.step import Input
from tests import oddfiles
from tests.builders.test_disk import ROOT, TOOLROOT, _toolroot, debugfs, machine, needs_toolroot
from tests.namespaced import inside, job


def _input(folder: Path, role: str, files: dict[str, bytes]) -> Input:
    folder.mkdir(parents=True)
    digest = hashlib.sha256()
    for name, data in files.items():
        (folder / name).write_bytes(data)
        digest.update(data)
    return Input(role, role, folder, digest.hexdigest())


def _compute_layer(folder: Path) -> Input:
    work = job(folder)
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("welcome\n")
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/tool").write_bytes(b"x" * 10_000)
    (tree / "usr/bin/tool").chmod(0o4755)
    os.link(tree / "usr/bin/tool", tree / "usr/bin/again")
    (tree / "a name with spaces").write_text("")
    (tree / "root").mkdir(mode=0o700)
    oddfiles.make(tree / "odd")
    stacking.write(work, tree, None)
    return Input(
        "image/compute", "layer:test", work.out, hashlib.sha256((work.out / stacking.LAYER).read_bytes()).hexdigest()
    )


def _opkgs_layer(folder: Path, below: Input, name: str) -> Input:
    """What an OPKG changes of it."""
    work = job(folder, None, below, pool=ROOT / "artifacts/pool")
    with stacking.changed(work, [below]) as tree:
        (tree / "etc/motd").write_text("welcome to the cluster\n")
        (tree / "etc" / name).write_text("new")
    return Input(
        "image/compute", "layer:over", work.out, hashlib.sha256((work.out / stacking.LAYER).read_bytes()).hexdigest()
    )


def make(folder: str, name: str = "oscar") -> None:
    """Inner side: build the image of a cluster with two nodes."""
    base = Path(folder)
    node = machine(FileSystem("/", 0, "ext4"), FileSystem("/home", 512, "ext4"), disk_mib=4096)
    inputs = [
        _compute_layer(base / "layer"),
        _toolroot(),
        _input(base / "netboot", "netboot", {"kernel": b"kernel", "initrd.img": b"ramdisk"}),
        _input(base / "bootloader", "bootloader", {"boot.img": b"boot", "core.img": b"core"}),
    ]
    login = dataclasses.replace(node, filesystems=node.filesystems[:1])
    inputs.insert(1, dataclasses.replace(inputs[0], role="image/login"))
    params = {"images": {"compute": partitions(node), "login": partitions(login)}}
    os.environ.update(sandbox.environment())
    below = job(base / "below", params, *inputs, pool=ROOT / "artifacts/pool")
    sandbox.scratch(below.work, 1 << 30)
    image.base(below)
    given = Input("base", "imagebase:test", below.out, "")
    over = [dataclasses.replace(_opkgs_layer(base / "over", inputs[0], name), role=item.role) for item in inputs[:2]]
    work = job(base / "image", params, given, *inputs, *over, pool=ROOT / "artifacts/pool")
    sandbox.scratch(work.work, 1 << 30)
    image.build(work)
    for file in (below.out / "base.img", work.out / "sis.qcow2"):
        print(hashlib.sha256(file.read_bytes()).hexdigest(), end=" ")


@needs_toolroot
def test_what_cannot_be_changed_in_place_is_made_anew(tmp_path: Path) -> None:
    inside(make, tmp_path, "new\nline")
    made = tmp_path / "image/out/sis.qcow2"
    assert not (tmp_path / "image/out/base.img").is_symlink()
    disk = tmp_path / "sis.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", made, disk], check=True, timeout=60)
    tree = _dump(disk, tmp_path / "dump")
    assert (tree / "images/compute/etc/new\nline").read_text() == "new"
    assert (tree / "images/compute/etc/motd").read_text() == "welcome to the cluster\n"


def _dump(disk: Path, target: Path) -> Path:
    target.mkdir()
    subprocess.run(["/usr/sbin/debugfs", "-R", f"rdump / {target}", disk], check=True, capture_output=True, timeout=60)
    return target


@needs_toolroot
def test_image(tmp_path: Path) -> None:
    assert TOOLROOT.exists()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    digests = {inside(make, tmp_path / name) for name in ("one", "two")}
    assert len(digests) == 1, "an image depends on something besides its inputs"
    made = tmp_path / "one/image/out/sis.qcow2"
    assert made.stat().st_size < 3 << 20
    disk = tmp_path / "sis.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", made, disk], check=True, timeout=60)
    subprocess.run(["/usr/sbin/e2fsck", "-fn", disk], check=True, capture_output=True, timeout=60)
    tree = _dump(disk, tmp_path / "dump")

    # what an installed node is held against
    subprocess.run(
        ["md5sum", "--quiet", "--strict", "-c", tree / "images/compute.sums"],
        cwd=tree / "images/compute",
        check=True,
        timeout=20,
    )
    sums = (tree / "images/compute.sums").read_bytes()
    assert len(sums.splitlines()) > 340
    assert b"  ./a name with spaces\n" in sums and b"  ./odd/names/new\\nline\n" in sums
    tool = debugfs(disk, "stat /images/compute/usr/bin/tool")
    assert "Mode:  04755" in tool and "Size: 10000" in tool and "Links: 2" in tool
    assert (tree / "images/compute/etc/motd").read_text() == "welcome to the cluster\n"
    assert (tree / "images/compute/etc/oscar").read_text() == "new"
    assert (tree / "images/compute/usr/bin/again").read_bytes() == b"x" * 10_000
    assert (tree / "images/compute/bin").readlink() == Path("usr/bin")

    # what the installer asks for
    root, home = (line.split() for line in (tree / "scripts/compute.filesystems").read_text().splitlines())
    assert root[:3] == ["1", "ext4", "/"] and home[:3] == ["2", "ext4", "/home"]
    assert int(root[4]) > 3584 * 64, "small files take more inodes than one for 16 KiB"
    assert (tree / "scripts/compute.holes").read_bytes() == b"./odd/holes\0"
    assert int((tree / "scripts/compute.sectors").read_text()) == 4096 * 2048
    assert int((tree / "scripts/compute.bytes").read_text()) >= 20_008
    assert (tree / "overrides").readlink() == Path("/var/lib/xen-oscar/overrides")

    # each membership has its own
    assert [line.split()[2] for line in (tree / "scripts/login.filesystems").read_text().splitlines()] == ["/"]
    assert (tree / "images/login.sums").read_bytes() == sums
    assert (tmp_path / "one/image/out" / image.listed("login")).exists()

    # what the head node serves
    for name in ("compute", "login"):
        assert f"path = /var/lib/systemimager/images/{name}\n" in (tree / f"rsyncd.d/40{name}.conf").read_text()
    assert (tree / "boot/kernel").read_bytes() == b"kernel"
    assert (tree / "boot/boot.ipxe").read_text().startswith("#!ipxe\n")
    assert (tree / "boot/core.img").read_bytes() == b"core"
