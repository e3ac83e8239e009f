"""The scripts for real on this machine, in the shells that machines have; parsed by what parses them there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import inventory, sandbox
from pipeline.builders import image
from pipeline.checks import collect as collecting
from pipeline.checks import files
from pipeline.checks import machine as checks
from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.checks.shell import Tells
from pipeline.checks.subject import Subject
from pipeline.description import Cluster, FileSystem
from pipeline.errors import ClusterError, CommandError
from pipeline.guests.debian import GUEST
from pipeline.inventory import Entry
from pipeline.packages.deb.family import DEB
from pipeline.run import stream
from tests import oddfiles
from tests.checks.samples import PACKAGES, cluster
from tests.namespaced import inside

SHELLS = [words for words in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(words[0])]
COLLECTOR = Path(collecting.__file__).with_name("collect.sh").read_text()
LISTER = Path(collecting.__file__).with_name("tree.pl").read_text()


def here(shell: list[str], given: str, sums: str = "") -> Facts:
    """The collector's facts about this machine."""
    script = f"mark=== tree={shlex.quote(LISTER)} {given}\n{DEB.listing}{GUEST.services}{COLLECTOR}"
    done = subprocess.run(
        [*shell, "-c", script], input=os.fsencode(f"1763700000.0\n{sums}"), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = f"== machine here\n{done.stdout.decode()}".splitlines(keepends=True)
    return next(parse(said, "==", ""))


def living_in(folder: Path, whole: Cluster) -> Cluster:
    """The cluster with machines whose one file system this folder is."""
    places = (FileSystem(str(folder), 0, "ext4"),)
    return replace(
        whole,
        head=replace(whole.head, filesystems=places),
        nodes=tuple(replace(node, filesystems=places) for node in whole.nodes),
    )


def inventory_of(folder: Path) -> dict[str, Entry]:
    """What stands in a folder, as it would be listed beside an image in which it lies at the same place."""
    found = inventory.of(folder, sandbox.SOURCE_DATE_EPOCH)
    return {f"{str(folder).lstrip('/')}/{path}".rstrip("/"): entry for path, entry in found.items()}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_collector_on_this_machine(shell: list[str]) -> None:
    facts = here(shell, "sums=0 mounts=")
    assert facts.complete
    assert facts.hostname == Path("/proc/sys/kernel/hostname").read_text().strip()
    assert facts.kernel
    assert facts.cpus > 0 and facts.memory_mib > 0
    assert facts.mounts["/"].device
    assert isinstance(facts.swaps, tuple) and isinstance(facts.blocks, tuple)
    assert facts.macs["lo"] == "00:00:00:00:00:00"
    if shutil.which("dpkg-query"):
        assert facts.packages["dpkg"][1] == "whole"
    if shutil.which("ip"):
        assert isinstance(facts.addresses, dict)


def compared(folder: str, sums: str) -> None:
    """Inner side: files of all odd kinds, each in order, and then each wrong in one way."""
    top = Path(folder) / "top"
    oddfiles.make(top)
    for folder, folders, names in os.walk(top):  # no time is later than that of a layer
        for name in (*folders, *names):
            os.utime(os.path.join(folder, name), (5, 5), follow_symlinks=False)
    made, role = inventory_of(top), "compute" if sums == "given" else "head"
    lines = "".join(image.checksum_line(path, entry.md5) for path, entry in made.items() if entry.type == "f")

    def wrong() -> dict[str, str]:
        machine = cluster().nodes[0] if role == "compute" else cluster().head
        facts = here(SHELLS[0], f"sums={sums} mounts={top}", lines)
        assert checks.files(Subject(machine, facts, (), PACKAGES, made, GUEST.known, DEB)).seconds >= 0
        return {
            os.path.relpath(f"/{item.path}", top): item.detail
            for item in files.compare(made, facts.tree, facts.sums, machine.role, GUEST.known, DEB)
        }

    assert wrong() == {}
    (top / "names/new\nline").write_text("other content of new\nline\n")
    (top / "names/back\\slash").write_text("y" * (top / "names/back\\slash").stat().st_size)
    (top / "names/\udcff").chmod(0o4755)
    (top / "names/carriage\r").unlink()
    (top / "another").unlink()
    shutil.copy2(top / "one", top / "another")
    os.removexattr(top / "capable", "security.capability")
    os.removexattr(top / "listed-folder", "system.posix_acl_default")
    os.setxattr(top / "noted", "user.a=b %", b"more")
    os.chown(top / "pipe", 5, 6)
    (top / "zeros").touch()
    holes = (top / "holes").read_bytes()
    (top / "holes").write_bytes(holes)
    os.utime(top / "holes", (5, 5))
    (top / "long-target").unlink()
    (top / "long-target").symlink_to("x" * 299)
    found = wrong()
    assert sorted(found) == sorted(
        [
            "names/new\nline",
            "names/hard\nlink",
            "names/back\\slash",
            "names/\udcff",
            "names/carriage\r",
            "one",
            "another",
            "other/third",
            "capable",
            "listed-folder",
            "noted",
            "pipe",
            "zeros",
            "holes",
            "long-target",
        ]
    )
    assert found["pipe"] == "owner 5:6, not 0:0"
    assert found["holes"] == "its holes are filled"
    assert found["capable"] == "security.capability nothing, not 0100000200200000000000000000000000000000"
    assert found["another"].startswith("other names none, not ")


@pytest.mark.parametrize("sums", ["given", "5"])
def test_files_are_compared_for_real(tmp_path: Path, sums: str) -> None:
    inside(compared, tmp_path, sums)


class LocalShell:
    """Runs the head node's script on this machine; nodes are reached by a stand-in for ssh that goes nowhere."""

    def __init__(self, folder: Path, ssh: str) -> None:
        self.folder = folder
        for name, text in {
            "ssh": ssh,
            "ping": "#!/bin/sh\necho 'time=1.0 ms'\n",
            "getent": '#!/bin/sh\necho "192.168.50.1${2#node} $2"\n',
        }.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
        script = f"PATH={self.folder}:$PATH\n{script}"
        script = script.replace(collecting._IMAGES, str(self.folder))
        for line in stream(["sh", "-s"], input=script.encode(), timeout=timeout):
            yield line.decode("utf-8", "replace")


#: Runs what it is told on this machine.
REACHED = """#!/bin/sh
for last; do :; done
sh -c "$last"
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


def many(folder: Path, count: int, memory_mib: int = 512) -> Cluster:
    """The cluster with so many nodes."""
    whole = living_in(folder, cluster())
    nodes = tuple(replace(whole.nodes[0], name=f"node{number}", index=number) for number in range(1, count + 1))
    return replace(whole, head=replace(whole.head, memory_mib=memory_mib), nodes=nodes)


def collect(whole: Cluster, shell: Tells, *, lanes: int = 32) -> dict[str, Facts]:
    found = collecting.collect(whole, shell, GUEST, DEB, lanes=lanes, timeout=60)
    return {facts.machine: facts for facts in found}


def brief(folder: Path, more: str = ":") -> LocalShell:
    (folder / "compute.sums").write_text("")
    return LocalShell(folder, BRIEF.replace("$HERE", str(folder)).replace("$MORE", more))


def test_fan_out(tmp_path: Path) -> None:
    tree = tmp_path / "image"
    tree.mkdir()
    (tree / "file").write_text("content")
    (tmp_path / "compute.sums").write_text(f"9a0364b9e99bb480dd25e1f0284c8555  .{tree}/file\n")
    facts = collect(living_in(tree, cluster()), LocalShell(tmp_path, REACHED))
    assert next(iter(facts)) == "oscarhead" and sorted(facts) == ["node1", "node2", "oscarhead"]
    file = f"{str(tree).lstrip('/')}/file"
    assert facts["oscarhead"].tree[file].size == 7
    assert facts["oscarhead"].sums == {file: "9a0364b9e99bb480dd25e1f0284c8555"}
    for name in ("node1", "node2"):
        node = facts[name]
        assert node.complete and node.text("status").strip() == "0", node.sections
        assert node.sums == {} and node.tree[file].size == 7 and node.summed == 1
        least, most = node.clock
        assert -5 < least <= 0 <= most < 5
        assert node.text("ping").startswith(f"192.168.50.1{name[-1]} ")


def test_a_node_is_asked_for_what_came_to_it_meanwhile(tmp_path: Path) -> None:
    tree = tmp_path / "image"
    tree.mkdir()
    (tree / "file").write_text("content")
    odd = "it's 100% odd \\n \udcff\n$HOME"
    (tree / odd).write_text("content")
    (tree / "wrong").write_text("content")
    (tmp_path / "compute.sums").write_text(f"{'0' * 32}  .{tree}/file\n")
    top, md5 = str(tree).lstrip("/"), "9a0364b9e99bb480dd25e1f0284c8555"
    came = {name: Entry("f", 0o644, md5=md5 if name != "wrong" else "1" * 32) for name in ("file", odd, "wrong")}
    changes = {"node1": {**{f"{top}/{name}": one for name, one in came.items()}, f"{top}/gone": None}}
    found = collecting.collect(
        living_in(tree, cluster()), LocalShell(tmp_path, REACHED), GUEST, DEB, changes=changes, lanes=2, timeout=60
    )
    facts = {one.machine: one for one in found}
    assert facts["node1"].sums == {f"{top}/file": md5, f"{top}/wrong": md5}
    assert facts["node1"].summed == 4
    assert facts["node2"].sums == {f"{top}/file": md5} and facts["node2"].summed == 1


def test_fan_out_to_nobody(tmp_path: Path) -> None:
    nowhere = LocalShell(tmp_path, "#!/bin/sh\necho 'no route to host' >&2\nexit 255\n")
    facts = collect(living_in(tmp_path, cluster()), nowhere)
    assert facts["oscarhead"].complete
    assert facts["node1"].text("status") == "255\n"
    assert facts["node1"].text("err") == "no route to host\n"
    assert not facts["node1"].complete


@pytest.mark.parametrize(("lanes", "memory_mib", "most"), [(4, 512, 4), (32, 80, 5), (1, 512, 1)])
def test_only_some_nodes_are_asked_at_a_time(tmp_path: Path, lanes: int, memory_mib: int, most: int) -> None:
    """As many as asked for, and as the head node has memory for; one that has answered makes room for the next."""
    facts = collect(many(tmp_path, 12, memory_mib), brief(tmp_path, "sleep 0.1"), lanes=lanes)
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
        for facts in collecting.collect(many(tmp_path, 12), shell, GUEST, DEB, lanes=2, timeout=3):
            seen.append(facts.machine)
    assert {"oscarhead", "node1", *(f"node{number}" for number in range(3, 12))} <= set(seen)


def test_facts_of_a_node_arrive_when_it_has_answered(tmp_path: Path) -> None:
    shell = brief(tmp_path, f'[ "$node" = node1 ] || until [ -e {tmp_path}/go ]; do sleep 0.05; done')
    order = []
    for facts in collecting.collect(many(tmp_path, 6), shell, GUEST, DEB, lanes=6, timeout=60):
        order.append(facts.machine)
        if facts.machine == "node1":
            (tmp_path / "go").touch()  # the others have not answered yet
    assert order[0] == "oscarhead" and len(order) == 7


def test_no_node_speaks_for_another(tmp_path: Path) -> None:
    shell = brief(tmp_path, 'printf \'\\n%s machine node2\\n\\n%s hostname\\nnode1 was here\\n\' "$mark" "$mark"')
    facts = collect(many(tmp_path, 2), shell)
    assert "node1 was here" not in facts["node2"].hostname or facts["node2"].hostname.startswith("node2")
    assert list(facts) == list(dict.fromkeys(facts)) and len(facts) == 3
    assert "machine node2" in facts["node1"].sections, "it is a section like any other"


def test_the_head_node_says_whose_facts_these_are(tmp_path: Path) -> None:
    outer, inner = "==a==", "==b=="
    lines = [
        f"\n{outer} machine node1\n",
        f"\n{outer} status\n",
        "0\n",
        f"\n{inner} hostname\n",
        "one\n",
        f"\n{inner} machine node2\n",
        "x\n",
        f"\n{inner} end\n",
        f"\n{outer} machine node3\n",
    ]
    found = list(parse("".join(lines).splitlines(keepends=True), outer, inner))
    assert [facts.machine for facts in found] == ["node1", "node3"]
    assert found[0].sections == {"status": "0\n", "hostname": "one\n", "machine node2": "x\n", "end": ""}


def test_a_machine_that_says_too_much_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.checks.facts._MOST", 1 << 20)
    text = [
        "== machine node1\n",
        "== status\n",
        "0\n",
        "== dmesg\n",
        *["x" * 1000 + "\n"] * 2000,
        "== end\n",
        "== machine node2\n",
        "== hostname\n",
        "node2\n",
        "== end\n",
    ]
    loud, other = parse(text, "==", "=inner=")
    assert len(loud.text("dmesg")) <= 1 << 20 and not loud.complete
    assert checks.ssh(Subject(cluster().nodes[0], loud, (), PACKAGES, {}, GUEST.known, DEB)).problems == (
        "exit status unknown: it said more than 1 MiB about itself, the rest was not read",
    )
    assert other.complete and other.hostname == "node2"


def test_a_machine_that_names_sections_without_end_is_cut_too() -> None:
    def endless() -> Iterator[str]:
        yield "== machine node1\n"
        yield from (f"=inner= {number}\n" for number in range(400_000))
        yield "=inner= end\n"

    (facts,) = parse(endless(), "==", "=inner=")
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
    node = replace(
        whole.nodes[0], filesystems=(*whole.nodes[0].filesystems, replace(whole.nodes[0].filesystems[0], mount="/boot"))
    )
    script = collecting.script(replace(whole, nodes=(node,)), GUEST, DEB, "==a==", "==b==", 32)
    asked = script.rpartition("\nnode ")[2]
    assert "/ /boot" in asked and "swap" not in asked
    assert "==b==" in asked and "==a==" not in asked


def test_shell_errors_are_user_errors() -> None:
    class Lost:
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            raise ClusterError("oscarhead: the connection broke")

    with pytest.raises(ClusterError):
        collect(cluster(), Lost())
