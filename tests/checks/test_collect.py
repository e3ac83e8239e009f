"""The scripts for real on this machine, in the shells that machines have; parsed by what parses them there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.checks import collect as collecting
from pipeline.checks import machine as checks
from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.checks.machine import Subject, image_files
from pipeline.checks.shell import Tells
from pipeline.description import Cluster
from pipeline.errors import ClusterError, CommandError
from pipeline.run import stream
from tests.checks.samples import PACKAGES, cluster

SHELLS = [words for words in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(words[0])]
COLLECTOR = Path(collecting.__file__).with_name("collect.sh").read_text()


def here(shell: list[str], mounts: str, sums: str, prologue: str = "") -> Facts:
    """The collector's facts about this machine, with `mounts` as the tree to compare."""
    script = f"{prologue}\nmark=== mounts={mounts!r}\n{COLLECTOR}"
    done = subprocess.run([*shell, "-c", script], input=f"1763700000.0\n{sums}", capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = f"== machine here\n{done.stdout}".splitlines(keepends=True)
    return next(parse(said, "==", ""))


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

    def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
        script = f"PATH={self.folder}:$PATH\n{script}"
        script = script.replace(collecting._IMAGES, str(self.folder))
        for line in stream(["sh", "-s"], input=script.encode(), timeout=timeout):
            yield line.decode("utf-8", "replace")


#: Runs what it is told on this machine, but lists and compares one small folder.
REACHED = """#!/bin/sh
for last; do :; done
sh -c "cd() { command cd '$HERE'; }; $(printf '%s' "$last" | sed "s/mounts=\\(.*\\)$/mounts=./")"
"""
#: Says what a machine with nothing to tell says, and keeps a record of when it is there.
BRIEF = """#!/bin/sh
for last; do shift; node=$last; [ $# -gt 1 ] || break; done
eval "$(printf '%s' "$1" | head -n 1)"
echo "+ $node" >> $HERE/log
echo 0.0
read -r clock || :
cat > /dev/null
printf '\\n%s hostname\\n%s\\n\\n%s end\\n' "$mark" "$node" "$mark"
$MORE
echo "- $node" >> $HERE/log
"""


def many(count: int, memory_mib: int = 512) -> Cluster:
    """The cluster with so many nodes."""
    whole = cluster()
    nodes = tuple(replace(whole.nodes[0], name=f"node{number}", index=number) for number in range(1, count + 1))
    return replace(whole, head=replace(whole.head, memory_mib=memory_mib), nodes=nodes)


def collect(whole: Cluster, shell: Tells, *, lanes: int = 32) -> dict[str, Facts]:
    return {facts.machine: facts for facts in collecting.collect(whole, shell, "compute", lanes=lanes, timeout=60)}


def brief(folder: Path, more: str = ":") -> LocalShell:
    for name in ("compute.tree", "compute.sums"):
        (folder / name).write_text("")
    return LocalShell(folder, BRIEF.replace("$HERE", str(folder)).replace("$MORE", more))


def test_fan_out(tmp_path: Path) -> None:
    tree = tmp_path / "image"
    tree.mkdir()
    (tree / "file").write_text("content")
    (tmp_path / "compute.tree").write_text("f 0644 0 0 7 ./file\n")
    (tmp_path / "compute.sums").write_text("9a0364b9e99bb480dd25e1f0284c8555  ./file\n")
    facts = collect(cluster(), LocalShell(tmp_path, REACHED.replace("$HERE", str(tree))))
    assert next(iter(facts)) == "oscarhead" and sorted(facts) == ["node1", "node2", "oscarhead"]
    assert facts["oscarhead"].tree["file"].detail == "7"
    for name in ("node1", "node2"):
        node = facts[name]
        assert node.complete and node.text("status").strip() == "0", node.sections
        assert node.sums == {} and node.tree["file"].detail == "7"
        least, most = node.clock
        assert -5 < least <= 0 <= most < 5
        assert node.text("ping").startswith(f"192.168.50.1{name[-1]} ")


def test_fan_out_to_nobody(tmp_path: Path) -> None:
    facts = collect(cluster(), LocalShell(tmp_path, "#!/bin/sh\necho 'no route to host' >&2\nexit 255\n"))
    assert facts["oscarhead"].complete
    assert facts["node1"].text("status") == "255\n"
    assert facts["node1"].text("err") == "no route to host\n"
    assert not facts["node1"].complete


@pytest.mark.parametrize(("lanes", "memory_mib", "most"), [(4, 512, 4), (32, 80, 5), (1, 512, 1)])
def test_only_some_nodes_are_asked_at_a_time(tmp_path: Path, lanes: int, memory_mib: int, most: int) -> None:
    """As many as asked for, and as the head node has memory for; one that has answered makes room for the next."""
    facts = collect(many(12, memory_mib), brief(tmp_path, "sleep 0.1"), lanes=lanes)
    assert sorted(facts) == sorted(["oscarhead", *(f"node{number}" for number in range(1, 13))])
    assert all(node.complete and node.hostname == name for name, node in facts.items() if name != "oscarhead")
    there, seen = 0, []
    for line in (tmp_path / "log").read_text().splitlines():
        there += 1 if line.startswith("+") else -1
        seen.append(there)
    assert max(seen) == most


def test_a_node_that_hangs_holds_up_no_other_and_is_told_of_alone(tmp_path: Path) -> None:
    """What came before the end of all patience counts."""
    shell = brief(tmp_path, 'if [ "$node" = node2 ]; then exec sleep 60; fi')
    seen = []
    with pytest.raises(CommandError, match="no end after 3 s"):
        for facts in collecting.collect(many(12), shell, "compute", lanes=2, timeout=3):
            seen.append(facts.machine)
    assert {"oscarhead", "node1", *(f"node{number}" for number in range(3, 12))} <= set(seen)


def test_facts_of_a_node_arrive_when_it_has_answered(tmp_path: Path) -> None:
    shell = brief(tmp_path, f'[ "$node" = node1 ] || until [ -e {tmp_path}/go ]; do sleep 0.05; done')
    order = []
    for facts in collecting.collect(many(6), shell, "compute", lanes=6, timeout=60):
        order.append(facts.machine)
        if facts.machine == "node1":
            (tmp_path / "go").touch()       # the others have not answered yet
    assert order[0] == "oscarhead" and len(order) == 7


def test_no_node_speaks_for_another(tmp_path: Path) -> None:
    shell = brief(tmp_path, "printf '\\n%s machine node2\\n\\n%s hostname\\nnode1 was here\\n' \"$mark\" \"$mark\"")
    facts = collect(many(2), shell)
    assert "node1 was here" not in facts["node2"].hostname or facts["node2"].hostname.startswith("node2")
    assert list(facts) == list(dict.fromkeys(facts)) and len(facts) == 3
    assert "machine node2" in facts["node1"].sections, "it is a section like any other"


def test_the_head_node_says_whose_facts_these_are(tmp_path: Path) -> None:
    outer, inner = "==a==", "==b=="
    lines = [f"\n{outer} machine node1\n", f"\n{outer} status\n", "0\n", f"\n{inner} hostname\n", "one\n",
             f"\n{inner} machine node2\n", "x\n", f"\n{inner} end\n", f"\n{outer} machine node3\n"]
    found = list(parse("".join(lines).splitlines(keepends=True), outer, inner))
    assert [facts.machine for facts in found] == ["node1", "node3"]
    assert found[0].sections == {"status": "0\n", "hostname": "one\n", "machine node2": "x\n", "end": ""}


def test_a_machine_that_says_too_much_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.checks.facts._MOST", 1 << 20)
    text = ["== machine node1\n", "== status\n", "0\n", "== dmesg\n", *["x" * 1000 + "\n"] * 2000, "== end\n",
            "== machine node2\n", "== hostname\n", "node2\n", "== end\n"]
    loud, other = parse(text, "==", "=inner=")
    assert len(loud.text("dmesg")) <= 1 << 20 and not loud.complete
    assert checks.ssh(Subject(cluster().nodes[0], loud, PACKAGES, loud)).problems == (
        "exit status unknown: it said more than 1 MiB about itself, the rest was not read",)
    assert other.complete and other.hostname == "node2"


def test_a_machine_that_names_sections_without_end_is_cut_too() -> None:
    def endless() -> Iterator[str]:
        yield "== machine node1\n"
        yield from (f"=inner= {number}\n" for number in range(400_000))
        yield "=inner= end\n"

    facts, = parse(endless(), "==", "=inner=")
    assert not facts.complete and len(facts.sections) < 300_000


def test_a_head_node_without_an_answer() -> None:
    class Dead:
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            yield "sh: something else\n"

    with pytest.raises(FactsError, match="did not come to the end"):
        collect(cluster(), Dead())


def test_marks_differ() -> None:
    assert collecting.new_mark() != collecting.new_mark()


def test_mount_points_reach_the_nodes_and_the_head_nodes_mark_does_not() -> None:
    whole = cluster()
    node = replace(whole.nodes[0], filesystems=(*whole.nodes[0].filesystems,
                                                replace(whole.nodes[0].filesystems[0], mount="/boot")))
    script = collecting.script(replace(whole, nodes=(node,)), "compute", "==a==", "==b==", 32)
    asked = script.rpartition("\nnode ")[2]
    assert "/ /boot" in asked and "swap" not in asked
    assert "==b==" in asked and "==a==" not in asked


def test_shell_errors_are_user_errors() -> None:
    class Lost:
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            raise ClusterError("oscarhead: the connection broke")

    with pytest.raises(ClusterError):
        collect(cluster(), Lost())
