"""`doit opkg`: an OPKG of ours, or of a folder anywhere, as people and programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.opkgs import config
from tests.boot import checkout, latecomers

OLD = """<oscar><name>Old Tool</name><version><major>2</major></version><summary>A tool</summary>
<binary-package-list><pkg>tool</pkg></binary-package-list>
<binary-package-list><filter><group>oscar_server</group><distribution><name>fc</name></distribution></filter>
<pkg>tool-server</pkg></binary-package-list>
<servicelist><service>toold</service></servicelist></oscar>
"""


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opkg") / "project"
    made = checkout.copy(folder, folder / "artifacts")
    (folder / "old").mkdir()
    (folder / "old/config.xml").write_text(OLD)
    return made.folder


def doit(top: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "doit", "opkg", *words]
    return subprocess.run(argv, cwd=top, capture_output=True, text=True, check=False, timeout=120)


def test_one_of_ours(top: Path) -> None:
    said = doit(top, "slurm", "--distro", "debian12").stdout
    assert "package      slurmd, on compute nodes, for debian>=12\n" in said
    assert "script       scripts/api-post-clientdef, on head node, api-post-clientdef: when the head node is up" in said
    assert "requires     OPKG munge\n" in said


def test_what_counts_for_a_distribution(top: Path) -> None:
    rows = json.loads(doit(top, "./old", "--distro", "debian12", "--json").stdout)
    packages = [(row["what"], row["where"], row["counts"]) for row in rows if row["kind"] == "package"]
    assert packages == [
        ("tool", "head node", True),
        ("tool", "compute nodes", True),
        ("tool-server", "head node", False),
    ]
    assert [row["what"] for row in rows if row["kind"] == "service"] == ["toold"]


def test_one_is_written_in_generation_3(top: Path, tmp_path: Path) -> None:
    done = doit(top, "./old", "--convert")
    file = tmp_path / "old/config.xml"
    file.parent.mkdir()
    file.write_text(done.stdout)
    found = config.read(file)
    assert (found.generation, found.title, found.version) == (3, "Old Tool", "2")
    assert found.about.services == (("toold", ""),)


def test_what_is_not_there(top: Path) -> None:
    for words, status, told in (
        (("slurn",), 3, "did you mean slurm"),
        (("./recipes",), 1, "there is no config.xml; expected the folder of an OPKG"),
        (("slurm", "--distro", "debian11"), 3, "debian12"),
    ):
        done = doit(top, *words)
        assert done.returncode == status and told in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_what_makes_no_sense_on_a_cluster(top: Path) -> None:
    for words, status, told in (
        (("install", "debian12"), 2, "doit opkg install CLUSTER NAME ..."),
        (("slurm", "debian12"), 2, "one OPKG at a time is shown"),
        (("install", "debian13x", "slurm"), 3, "debian13"),
        (("install", "debian13", "slurn"), 3, "did you mean slurm"),
        (("install", "debian13", "ganglia"), 1, 'OPKG "ganglia" is not for debian 13'),
        (("remove", "debian12", "slurm"), 4, "OPKG slurm is in the recipe of debian12"),
    ):
        done = doit(top, *words)
        assert done.returncode == status and told in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = doit(top, "install", "debian12", "slurm", "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["what"]) == (
        0,
        "OPKG slurm is in the recipe: every machine has it",
    )
    latecomers.write(top / "recipes/opkgs")
    done = doit(top, "install", "debian12", "late")
    assert (done.returncode, done.stderr.partition(":")[0]) == (4, "debian12 is not up as its recipe has it")
