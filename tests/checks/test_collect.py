"""The scripts for real on this machine, in the shells that machines have; parsed by what parses them there."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.checks import collect as collecting
from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.checks.machine import Subject, image_files
from pipeline.errors import ClusterError
from tests.checks.samples import PACKAGES, cluster

SHELLS = [words for words in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(words[0])]
COLLECTOR = Path(collecting.__file__).with_name("collect.sh").read_text()


def here(shell: list[str], mounts: str, sums: str, prologue: str = "") -> Facts:
    """The collector's facts about this machine, with `mounts` as the tree to compare."""
    script = f"{prologue}\nmark=== mounts={mounts!r}\n{COLLECTOR}"
    done = subprocess.run([*shell, "-c", script], input=f"1763700000.0\n{sums}", capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return parse(f"\n== machine here\n{done.stdout}", "==")["here"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_collector_on_this_machine(shell: list[str]) -> None:
    facts = here(shell, "", "")
    assert facts.complete
    assert facts.hostname == Path("/proc/sys/kernel/hostname").read_text().strip()
    assert facts.kernel
    assert facts.cpus > 0 and facts.memory_mib > 0
    assert facts.mounts["/"].device
    assert isinstance(facts.swaps, tuple) and isinstance(facts.blocks, tuple)
    assert facts.macs["lo"] == "00:00:00:00:00:00"
    if shutil.which("dpkg-query"):
        assert facts.packages["dpkg"][1] == "ii"
    if shutil.which("ip"):
        assert isinstance(facts.addresses, dict)


@pytest.mark.parametrize("shell", [words for words in SHELLS if words[0] != "busybox"], ids=lambda words: words[0])
def test_files_are_compared_for_real(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name, text in {"same": "x", "other": "x", "back\\slash": "x", "a space": "x", "gone": "x"}.items():
        (tmp_path / "etc" / name).write_text(text)
    (tmp_path / "etc" / "link").symlink_to("a space")
    script = "find . -type f -exec md5sum {} + | sed 's/^\\\\//; s/\\\\\\\\/\\\\/'"
    sums = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    listed = subprocess.run(["find", ".", "-printf", "%y %04m %U %G %s %p\n"], cwd=tmp_path, capture_output=True,
                            text=True, check=True).stdout.replace(" 7 ./etc/link", " a space\t./etc/link")
    (tmp_path / "etc" / "other").write_text("y")
    (tmp_path / "etc" / "gone").unlink()
    (tmp_path / "etc" / "new").write_text("")

    moved = f"cd() {{ command cd {str(tmp_path)!r}; }}"
    node = here(shell, ".", sums, moved)
    assert node.sums == {"etc/other": "FAILED", "etc/gone": "FAILED open or read"}
    head = Facts("head", {"tree": listed})
    finding = image_files(Subject(cluster().nodes[0], node, PACKAGES, head))
    assert finding.problems == ("1 added: etc/new", "1 content: etc/other", "1 missing: etc/gone")
    assert finding.seconds >= 0


class LocalShell:
    """Runs the head node's script on this machine; nodes are reached by a stand-in for ssh that goes nowhere."""

    def __init__(self, folder: Path, ssh: str) -> None:
        self.folder = folder
        for name, text in {"ssh": ssh, "ping": "#!/bin/sh\necho 'time=1.0 ms'\n",
                           "getent": "#!/bin/sh\necho \"192.168.50.1${2#node} $2\"\n"}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
        script = f"PATH={self.folder}:$PATH\n{script}"
        script = script.replace(collecting._IMAGES, str(self.folder))
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr


#: Runs what it is told on this machine, but lists and compares one small folder.
REACHED = """#!/bin/sh
for last; do :; done
sh -c "cd() { command cd '$HERE'; }; $(printf '%s' "$last" | sed "s/mounts=\\(.*\\)$/mounts=./")"
"""


def test_fan_out(tmp_path: Path) -> None:
    tree = tmp_path / "image"
    tree.mkdir()
    (tree / "file").write_text("content")
    (tmp_path / "compute.tree").write_text("f 0644 0 0 7 ./file\n")
    (tmp_path / "compute.sums").write_text("9a0364b9e99bb480dd25e1f0284c8555  ./file\n")
    shell = LocalShell(tmp_path, REACHED.replace("$HERE", str(tree)))
    facts = collecting.collect(cluster(), shell, "compute", timeout=60)
    assert list(facts) == ["oscarhead", "node1", "node2"]
    assert facts["oscarhead"].tree["file"].detail == "7"
    for name in ("node1", "node2"):
        node = facts[name]
        assert node.complete and node.text("status").strip() == "0", node.sections
        assert node.sums == {} and node.tree["file"].detail == "7"
        least, most = node.clock
        assert -5 < least <= 0 <= most < 5
        assert node.text("ping").startswith(f"192.168.50.1{name[-1]} ")


def test_fan_out_to_nobody(tmp_path: Path) -> None:
    shell = LocalShell(tmp_path, "#!/bin/sh\necho 'no route to host' >&2\nexit 255\n")
    facts = collecting.collect(cluster(), shell, "compute", timeout=60)
    assert facts["oscarhead"].complete
    assert facts["node1"].text("status") == "255\n"
    assert facts["node1"].text("err") == "no route to host\n"
    assert not facts["node1"].complete


def test_a_head_node_without_an_answer() -> None:
    class Dead:
        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            return 127, "", "sh: not found\n"

    with pytest.raises(FactsError, match="sh: not found"):
        collecting.collect(cluster(), Dead(), "compute", timeout=1)


def test_marks_differ() -> None:
    assert collecting.new_mark() != collecting.new_mark()


def test_mount_points_reach_the_nodes() -> None:
    whole = cluster()
    node = replace(whole.nodes[0], filesystems=(*whole.nodes[0].filesystems,
                                                replace(whole.nodes[0].filesystems[0], mount="/boot")))
    script = collecting.script(replace(whole, nodes=(node,)), "compute", "==")
    assert "/ /boot" in script and "swap" not in script.rpartition("gather")[2]


def test_shell_errors_are_user_errors() -> None:
    class Lost:
        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            raise ClusterError("oscarhead: the connection broke")

    with pytest.raises(ClusterError):
        collecting.collect(cluster(), Lost(), "compute", timeout=1)
