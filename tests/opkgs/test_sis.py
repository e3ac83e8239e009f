"""The OPKG sis on the head node: who the nodes are, told to the provisioning services whenever that changes."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[2] / "recipes/opkgs/sis/files/server/usr/lib/xen-oscar"


class Head:
    """A head node's folders, in which its programs run with other paths."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.state = folder / "var/lib/xen-oscar"
        for place in (
            "etc/oscar",
            "var/lib/xen-oscar/clients",
            "var/lib/xen-oscar/identity",
            "var/lib/xen-oscar/installed",
            "var/lib/xen-oscar/overrides/compute",
            "var/lib/xen-oscar/common/etc/oscar",
            "var/lib/systemimager/images/compute",
        ):
            (folder / place).mkdir(parents=True)

    def define(self, *nodes: str) -> None:
        (self.root / "etc/oscar/cluster.sh").write_text("OSCAR_PRIVATE_CIDR=10.8.0.0/24\n")
        (self.root / "etc/oscar/nodes").write_text(
            "".join(
                f"{name} 10.8.0.{name[-1]} 52:54:00:00:00:A{name[-1]} 1 384 "
                f"{'login' if name.startswith('login') else 'compute'}\n"
                for name in nodes
            )
        )
        for name in nodes:
            (self.state / "identity" / name).mkdir(exist_ok=True)
        self.run("define-clients")

    def run(self, program: str, *words: str) -> None:
        text = (PROGRAMS / program).read_text()
        for place in ("/etc/oscar", "/var/lib/xen-oscar", "/var/lib/systemimager"):
            text = text.replace(place, f"{self.root}{place}")
        text = text.replace("-C / etc", f"-C {self.root} etc")
        subprocess.run(["sh", "-c", text, program, *words], check=True, timeout=30)

    def holds(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.state / folder).iterdir())


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path)


def test_clients_are_those_that_the_cluster_has(head: Head) -> None:
    head.define("node1", "node2")
    assert (head.state / "clients/clients").read_text().splitlines() == [
        "52:54:00:00:00:a1 node1 10.8.0.1 24 compute",
        "52:54:00:00:00:a2 node2 10.8.0.2 24 compute",
    ]
    assert (head.root / "etc/oscar/dhcp-hosts").read_text().splitlines() == [
        "52:54:00:00:00:a1,10.8.0.1,node1",
        "52:54:00:00:00:a2,10.8.0.2,node2",
    ]
    assert (head.state / "by-address/10.8.0.2").resolve() == head.state / "identity/node2"
    assert head.holds("overrides") == ["compute", "node1", "node2"]
    head.define("node1", "login7")
    assert (head.state / "clients/clients").read_text().splitlines()[1].endswith(" login7 10.8.0.7 24 login")
    assert head.holds("overrides") == ["compute", "login", "login7", "node1"]


def test_of_a_node_that_is_gone_nothing_stays_and_the_others_stay_installed(head: Head) -> None:
    head.define("node1", "node2", "node3")
    for number in (1, 2, 3):
        (head.state / f"installed/10.8.0.{number}").touch()
    head.define("node1", "node3")
    assert head.holds("installed") == ["10.8.0.1", "10.8.0.3"]
    assert head.holds("by-address") == ["10.8.0.1", "10.8.0.3"]
    assert head.holds("identity") == ["node1", "node3"]
    assert head.holds("overrides") == ["compute", "node1", "node3"]
    head.define("node1", "node2", "node3")
    assert head.holds("installed") == ["10.8.0.1", "10.8.0.3"], "whoever comes back is installed anew"


def test_who_has_the_address_of_another_is_to_be_installed(head: Head) -> None:
    head.define("node1", "node2")
    for number in (1, 2):
        (head.state / f"installed/10.8.0.{number}").touch()
    head.define("other1", "node2")
    assert head.holds("installed") == ["10.8.0.2"]
    head.run("forget-node", "10.8.0.2")
    assert head.holds("installed") == []


def test_what_all_nodes_are_given_is_there_once_and_goes_over_what_was(head: Head) -> None:
    names = head.state / "common/etc/oscar/nodes"
    names.write_text("first")
    head.define("node1", "node2")
    names.unlink()
    names.write_text("second")
    head.define("node1", "node2")
    given = [head.state / f"identity/{node}/etc/oscar/nodes" for node in ("node1", "node2")]
    assert {path.read_text() for path in given} == {"second"}
    assert {path.stat().st_ino for path in given} == {names.stat().st_ino}


def test_folders_of_overrides_are_as_the_image_has_them(head: Head) -> None:
    head.define("login1")
    images, over = head.root / "var/lib/systemimager/images", head.state / "overrides"
    image = images / "compute"
    (images / "login/etc").mkdir(parents=True)
    (images / "login/etc").chmod(0o700)
    for path, mode in {"": 0o555, "etc": 0o750, "etc/a folder": 0o2775}.items():
        (image / path).mkdir(exist_ok=True)
        (image / path).chmod(mode)
    for path in ("compute/etc/a folder/own", "node1", "login/etc", "login1/etc"):
        (over / path).mkdir(parents=True)
    (over / "compute/etc/a folder/own").chmod(0o711)
    head.run("like-image")
    modes = {str(path.relative_to(over)): path.stat().st_mode & 0o7777 for path in over.rglob("*")}
    assert modes == {
        "compute": 0o555,
        "node1": 0o555,
        "compute/etc": 0o750,
        "compute/etc/a folder": 0o2775,
        "compute/etc/a folder/own": 0o711,
        "login": (images / "login").stat().st_mode & 0o7777,
        "login1": (images / "login").stat().st_mode & 0o7777,
        "login/etc": 0o700,
        "login1/etc": 0o700,
    }


def test_nodes_that_run_get_what_has_changed_and_their_folders_stay_as_they_are(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head.define("node1", "node2")
    for path in ("etc/hosts", "etc/oscar/cluster.json", "etc/ssh/ssh_known_hosts"):
        (head.root / path).parent.mkdir(exist_ok=True)
        (head.root / path).write_text("new")
    for path in ("compute/etc/tool/all.conf", "compute/etc/which.conf", "node2/etc/which.conf"):
        (head.state / "overrides" / path).parent.mkdir(parents=True, exist_ok=True)
        (head.state / "overrides" / path).write_text(path)
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nnode=$3\nshift 3\nexec sh -c "$(echo "$*" | sed "s|-C /|-C {tmp_path}/$node|")"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for node in ("node1", "node2"):
        (tmp_path / node / "etc").mkdir(parents=True)
        (tmp_path / node / "etc").chmod(0o2751)
        (tmp_path / node).chmod(0o555)
    head.run("update-nodes", "node1", "node2")
    for node, which in (("node1", "compute"), ("node2", "node2")):
        root = tmp_path / node
        assert [path.stat().st_mode & 0o7777 for path in (root, root / "etc")] == [0o555, 0o2751]
        assert (root / "etc/hosts").read_text() == "new"
        assert (root / "etc/tool/all.conf").read_text() == "compute/etc/tool/all.conf"
        assert (root / "etc/which.conf").read_text() == f"{which}/etc/which.conf"
        root.chmod(0o755)
    program.write_text("#!/bin/sh\nexit 255\n")
    with pytest.raises(subprocess.CalledProcessError):
        head.run("update-nodes", "node1")


def test_what_is_no_identity_of_a_cluster_is_unpacked_nowhere(head: Head, tmp_path: Path) -> None:
    """What is no identity of a cluster is not unpacked over a root file system."""
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as archive:
        archive.add(PROGRAMS, "etc")
    with pytest.raises(subprocess.CalledProcessError):
        head.run("unpack-identity", str(other))
