"""Ramdisks and what goes into them: the archive format, kernel modules in order, programs with their libraries."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from pipeline.builders import initrd, netboot
from pipeline.cpio import Ramdisk
from pipeline.errors import BuildError
from pipeline.guests import kernel
from pipeline.rootfs import RootFs


def listing(archive: bytes, *words: str) -> list[str]:
    done = subprocess.run(["busybox", "cpio", "-t", *words], input=archive, check=True, capture_output=True, timeout=20)
    return done.stdout.decode().splitlines()


def test_a_ramdisk_is_read_back_as_it_was_put_in(tmp_path: Path) -> None:
    ramdisk = Ramdisk()
    ramdisk.file("/usr/bin/tool", b"#!/bin/sh\n", 0o755)
    ramdisk.file("etc/a", b"x" * 4099)
    ramdisk.link("bin", "usr/bin")
    subprocess.run(
        ["busybox", "cpio", "-id"], input=ramdisk.archive(), cwd=tmp_path, check=True, capture_output=True, timeout=20
    )
    assert (tmp_path / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "etc/a").read_bytes() == b"x" * 4099


def test_a_ramdisk_lists_folders_before_what_they_hold_and_needs_no_privilege_for_devices() -> None:
    ramdisk = Ramdisk()
    ramdisk.file("usr/lib/x/y", b"")
    ramdisk.device("dev/console", 5, 1)
    names = listing(ramdisk.archive())
    assert names == ["dev", "dev/console", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]
    assert "usr/lib" in ramdisk


def test_the_order_in_which_a_ramdisk_is_filled_does_not_show() -> None:
    one, other = Ramdisk(), Ramdisk()
    one.file("b/c", b"1")
    one.file("a", b"2")
    other.file("a", b"2")
    other.file("b/c", b"1")
    assert one.archive() == other.archive()
    assert one.compressed() == other.compressed()


def module(depends: str = "", softdep: str = "") -> bytes:
    fields = [b"license=GPL", f"depends={depends}".encode()]
    if softdep:
        fields.append(f"softdep={softdep}".encode())
    return b"\x7fELF" + b"".join(b"\0" + field for field in fields) + b"\0"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[RootFs]:
    """A root with two kernels; the newer one's modules are packed in all ways."""
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64", "9.0-without-modules"):
        (tmp_path / "boot").mkdir(exist_ok=True)
        (tmp_path / f"boot/vmlinuz-{version}").write_bytes(b"kernel")
    (tmp_path / "usr/lib/modules/6.1.0-9-amd64").mkdir(parents=True)
    drivers = tmp_path / "usr/lib/modules/6.1.0-10-amd64/kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio_net.ko.xz").write_bytes(lzma.compress(module("net_failover")))
    (drivers / "net_failover.ko.zst").write_bytes(zstandard.compress(module("failover")))
    (drivers / "failover.ko.gz").write_bytes(gzip.compress(module()))
    (drivers / "xen-blkfront.ko").write_bytes(module())
    (drivers / "ext4.ko").write_bytes(module("xen-blkfront", "pre: failover post: virtio_net"))
    with RootFs(tmp_path) as opened:
        yield opened


def test_the_newest_kernel_with_modules_is_taken(root: RootFs) -> None:
    assert kernel.find(root).version == "6.1.0-10-amd64"


def test_a_root_without_a_kernel_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with RootFs(tmp_path) as root, pytest.raises(BuildError) as error:
        kernel.find(root)
    assert "kernel" in error.value.hint


def test_modules_come_after_what_they_need(root: RootFs) -> None:
    modules = kernel.find(root).modules(["virtio_net", "built_in", "xen_blkfront"])
    assert [item.name for item in modules] == ["failover", "net_failover", "virtio_net", "xen_blkfront"]
    assert all(item.data.startswith(b"\x7fELF") for item in modules)


def test_soft_dependencies_to_load_before_count_and_those_after_do_not(root: RootFs) -> None:
    modules = kernel.find(root).modules(["ext4"])
    assert [item.name for item in modules] == ["xen_blkfront", "failover", "ext4"]


def test_a_program_brings_its_loader_and_libraries(tmp_path: Path) -> None:
    program = shutil.which("mke2fs", path="/usr/sbin:/sbin")
    assert program
    needed = subprocess.run(["ldd", program], check=True, text=True, capture_output=True, timeout=20).stdout
    ramdisk = Ramdisk()
    with RootFs(Path("/")) as root:
        netboot._add_program(ramdisk, root, "usr/sbin/mke2fs")
    for line in needed.splitlines():
        if "=>" in line:
            assert any(line.split()[0] in name for name in ramdisk._entries), line
    assert any("ld-linux" in name for name in ramdisk._entries)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    program = shutil.which("mke2fs", path="/usr/sbin:/sbin")
    assert program
    shutil.copy(program, tmp_path / "usr/sbin/mke2fs")
    with RootFs(tmp_path) as root, pytest.raises(BuildError, match=r"lib\w+\.so"):
        netboot._add_program(Ramdisk(), root, "usr/sbin/mke2fs")


def test_the_small_ramdisk_needs_a_busybox(root: RootFs) -> None:
    with pytest.raises(BuildError, match="busybox"):
        initrd.ramdisk(kernel.find(root))
    root.write("bin/busybox", b"busybox")
    names = listing(zstandard.decompress(initrd.ramdisk(kernel.find(root)).compressed()))
    assert {"init", "usr/bin/sh", "modules/00-xen_blkfront.ko"} <= set(names)
