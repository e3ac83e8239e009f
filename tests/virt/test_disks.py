"""Disks of a machine that starts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import qcow2
from pipeline.errors import ClusterError
from pipeline.virt import disks


def test_an_overlay_is_small_and_knows_what_lies_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks.blank(tmp_path / "base.img", 64)
    assert (tmp_path / "base.img").stat().st_blocks == 0
    (tmp_path / "link").symlink_to("base.img")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        disks.overlay(Path("link"), tmp_path / "top.qcow2")
    told = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", tmp_path / "top.qcow2"], capture_output=True, check=True
        ).stdout
    )
    assert told["virtual-size"] == 64 << 20
    assert told["backing-filename"] == str(tmp_path / "base.img")
    assert told["backing-filename-format"] == "raw"
    assert told["actual-size"] < 1 << 20


def test_a_disk_over_another_is_as_large_as_both_and_tells_what_differs(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    disks.blank(artifact / "base.img", 64)
    with (artifact / "base.img").open("r+b") as file:
        file.write(b"x" * (1 << 20))
    qcow2.write(artifact / "disk.qcow2", 64 << 20, {20: b"y" * qcow2.CLUSTER})
    made = disks.of(artifact, "disk")
    disks.overlay(made, tmp_path / "top.qcow2")
    given = disks.Given("head", tmp_path / "top.qcow2", made, "sha256:1", format="qcow2")
    assert given.size == 64 << 20
    assert given.stored > 1 << 20
    assert not given.is_blank
    assert given.below == artifact / "base.img"
    assert [piece[1:] for piece in given.changes] == [(20, 1)]
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "top.qcow2", tmp_path / "raw"], check=True)
    data = (tmp_path / "raw").read_bytes()
    assert (len(data), data[:1], data[20 * qcow2.CLUSTER :][:1]) == (64 << 20, b"x", b"y")


def test_attach_replaces(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        disks.attach(tmp_path / name, tmp_path / "disk")
    assert (tmp_path / "disk").read_text() == "b"
    with pytest.raises(FileNotFoundError):
        disks.attach(tmp_path / "missing", tmp_path / "disk")


def test_what_machines_will_write_must_fit_and_what_they_may_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head node with a disk of 2 GiB, two nodes with blank ones of 1 GiB, and an image that holds 20 MiB."""
    for name, size in (("head", 2048), ("node1", 1024), ("node2", 1024), ("sis", 1)):
        disks.blank(tmp_path / name, size)
    (tmp_path / "sis").write_bytes(b"x" * (20 << 20))
    with (tmp_path / "head").open("r+b") as file:
        file.write(b"x")
    given = [
        disks.Given(name, tmp_path / f"{name}.qcow2", tmp_path / name, "sha256:1", readonly=name == "sis")
        for name in ("head", "node1", "node2", "sis")
    ]

    def with_free(mib: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=mib << 20))
        return disks.require_fit(tmp_path, given)

    assert with_free(4096) == ""
    assert "4095 MiB are free, and the machines' disks may grow to 4096 MiB together" in with_free(4095)
    assert with_free(512 + 40)
    with pytest.raises(ClusterError, match="551 MiB free on this file system, at least 552 MiB are needed"):
        with_free(512 + 39)


def test_a_full_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100 << 20))
    disks.blank(tmp_path / "base.img", 1)
    with pytest.raises(ClusterError, match="100 MiB free") as caught:
        disks.overlay(tmp_path / "base.img", tmp_path / "top.qcow2")
    assert "doit gc" in caught.value.hint
    assert not (tmp_path / "top.qcow2").exists()
