"""`doit export`: one file that needs no other, whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import qcow2
from pipeline.commands.export import Export
from pipeline.errors import BuildError

#: What is built: an artifact's folder by task.
MADE = {"disk:mine/head": "disk", "image:mine": "sis", "headnode:mine": ""}


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A head node's disk and an image, each over a base beside it, and a tarball."""
    folder = tmp_path / "artifacts"
    for task, disk in MADE.items():
        (folder / task).mkdir(parents=True)
        if disk:
            (folder / task / "base.img").write_bytes(b"b" * qcow2.CLUSTER + bytes(qcow2.CLUSTER * 15))
            qcow2.write(folder / task / f"{disk}.qcow2", qcow2.CLUSTER * 16, {3: b"c" * qcow2.CLUSTER})
    (folder / "headnode:mine" / "head.tar.zst").write_bytes(b"tarball")

    def entry(task: str) -> SimpleNamespace:
        if not (folder / task).exists():
            raise BuildError(f"{task} is not built", hint=f"doit {task}")
        return SimpleNamespace(path=folder / task)

    cluster = SimpleNamespace(name="mine", head=SimpleNamespace(name="head"))
    graph = SimpleNamespace(
        lifecycle=lambda _name: SimpleNamespace(cluster=cluster),
        plan=SimpleNamespace(made={"mine": SimpleNamespace(disks={"head": "disk:mine/head"}, image="image:mine")}),
        engine=SimpleNamespace(entry=entry),
    )
    monkeypatch.setattr("pipeline.tasks.Graph", lambda _folder: graph)
    monkeypatch.setattr(sys, "argv", ["doit", "export"])
    return folder


@pytest.mark.parametrize("part", ["head", "image"])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_disk_is_one_file(artifacts: Path, tmp_path: Path, part: str, format: str) -> None:
    target = tmp_path / "new" / "folder" / f"mine-{part}.{format}"
    for _ in range(2):  # another one takes the place of the first
        assert Export().parse_execute(["mine", part, "--format", format, str(target.parent)]) == 0
    assert list(target.parent.iterdir()) == [target]
    shutil.rmtree(artifacts)  # it needs none of it
    told = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", target], capture_output=True, check=True).stdout
    )
    assert (told["format"], told["virtual-size"]) == (format, qcow2.CLUSTER * 16)
    assert "backing-filename" not in told
    subprocess.run(["qemu-img", "convert", "-O", "raw", target, tmp_path / "raw"], check=True)
    data = (tmp_path / "raw").read_bytes()
    assert [data[number * qcow2.CLUSTER] for number in range(4)] == [ord("b"), 0, 0, ord("c")]


def test_the_tarball_is_the_artifact(artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Export().parse_execute(["mine", "head", "--format=tar.zst", str(tmp_path)]) == 0
    assert (tmp_path / "mine-head.tar.zst").read_bytes() == b"tarball"
    assert capsys.readouterr().out.startswith(f"{tmp_path}/mine-head.tar.zst: ")


def test_what_there_is_not_is_told(artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(artifacts / "disk:mine/head")
    assert Export().parse_execute(["mine", "image", "--format", "tar.zst", str(tmp_path)]) == 3
    assert Export().parse_execute(["mine", "head", str(tmp_path)]) == 1
    assert Export().parse_execute(["mine", "node1", str(tmp_path)]) == 2
    assert Export().parse_execute(["mine", "image", str(artifacts / "headnode:mine" / "head.tar.zst")]) == 1
    said = capsys.readouterr().err
    for words in (
        "no tarball of the SIS image",
        "hint: doit disk:mine/head",
        "invalid choice: 'node1'",
        "is no folder",
    ):
        assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


def test_a_disk_without_room_is_told_and_keeps_what_was_there(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine-image.raw"
    target.write_text("older")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1))
    assert Export().parse_execute(["mine", "image", "--format=raw", str(tmp_path)]) == 1
    assert "are needed on this file system, 1 B are free" in capsys.readouterr().err
    monkeypatch.undo()
    assert target.read_text() == "older"


def test_what_fails_half_way_leaves_nothing(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (artifacts / "image:mine" / "base.img").unlink()
    (artifacts / "image:mine" / "base.img").symlink_to(os.devnull)
    (artifacts / "image:mine" / "sis.qcow2").write_bytes(b"no disk")
    assert Export().parse_execute(["mine", "image", "--format=raw", str(tmp_path)]) == 1
    assert "qemu-img" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
