"""What is done on a machine while an OPKG comes and goes, in namespaces in which /etc and the like are a test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipeline.checks import facts
from pipeline.checks.collect import FOLDER
from pipeline.cluster.onmachine import as_found
from tests.namespaced import inside

SCRIPT = Path(__file__).parents[2] / "pipeline/cluster/onmachine.sh"
#: Its family and flavour do nothing.
NONE = """
take_packages() { echo "taken $*"; }
list_started() { :; }
services_in() { :; }
stop_services() { :; }
heed_services() { :; }
opkg=tool mark=M mounts=/etc limit=10
export OSCAR_PACKAGE_HOME=/opt/tool
"""


def call(text: str) -> str:
    """Call functions; what they print."""
    script = f"tree=$(cat {FOLDER}/tree.pl)\n{NONE}{SCRIPT.read_text()}\n{text}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree() -> dict[str, str]:
    """The files below /etc, and what they hold or link to."""
    files = [path for path in Path("/etc").rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to("/etc")): os.readlink(path) if path.is_symlink() else path.read_text() for path in files
    }


def come_and_go() -> None:
    """Inner side."""
    for place in ("/etc", "/opt", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    for path, text in {"was": "was\n", "kept": "kept\n", "real/was": "was\n"}.items():
        Path("/etc", path).parent.mkdir(exist_ok=True)
        Path("/etc", path).write_text(text)
    Path("/etc/linked").symlink_to("real")
    Path("/etc/real").chmod(0o750)
    before = tree()
    call("begin; mkdir -p $own")
    root = Path("/var/lib/xen-oscar/opkgs/tool/root/etc")
    for path in ("was", "linked/was", "new/deep/file", "edited", "shared"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("ours\n")
    (root / "new/link").symlink_to("deep/file")
    for _ in range(2):  # it can be repeated
        call("furnish")
    now = tree()
    assert now["was"] == now["real/was"] == now["new/deep/file"] == "ours\n"
    assert now["linked"] == "real", "a link to a folder stays one"
    assert Path("/etc/real").stat().st_mode & 0o777 == 0o750, "a folder that is there keeps its mode"
    Path("/etc/kept").unlink()
    (found,) = facts.parse(["M machine x\n", *call("finish").splitlines(True), "M over\n"], "M", "M")
    changed = as_found(found)
    assert changed["etc/kept"] is None
    assert changed["etc/was"] is not None and changed["etc/was"].size == 5 and changed["etc/was"].md5
    for number in range(2000):
        Path("/etc", f"{'long' * 40}{number}").touch()
    said = [line for line in call("finish").splitlines(True) if line.strip()]
    (found,) = facts.parse(["M machine x\n", *said, "M over\n"], "M", "M")
    assert len([one for one in as_found(found).values() if one and one.type == "f"]) == 2005, "in several pieces"
    for file in Path("/etc").glob("long*"):
        file.unlink()
    assert call("last_phase never-came") == ""
    call("settle")
    Path("/etc/kept").write_text("kept\n")
    Path("/etc/edited").write_text("somebody's\n")
    said = call("kept=/etc/shared; unfurnish && take a b").splitlines()
    assert sorted(said) == ["M changed /etc/edited", "M kept /etc/shared", "taken a b"], said
    call("forget")
    assert tree() == {**before, "edited": "somebody's\n", "shared": "ours\n"}
    assert not Path("/etc/new").exists()
    assert call("unfurnish") == "", "what is not there is no matter"


def test_files_come_and_go() -> None:
    inside(come_and_go)
