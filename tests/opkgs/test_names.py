"""What software may know of its cluster, and who asks for it while roots are built."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from pipeline.description import Cluster, Interface, Machine, Network
from pipeline.opkgs import names


def _machine(name: str, index: int, *addresses: str) -> Machine:
    networks = ("public", "private") if index == 0 else ("private",)
    cards = tuple(
        Interface(f"eth{n}", network, f"52:54:00:00:{index:02x}:{n:02x}", address, 24)
        for n, (network, address) in enumerate(zip(networks, addresses, strict=True))
    )
    return Machine(name, "compute" if index else "head", index, 384, 2, 1024, (), cards)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(
        "demo",
        "debian12",
        "amd64",
        "demo.test",
        "local",
        (Network("public", "10.9.0.0/24", "10.9.0.254"), Network("private", "10.8.0.0/24", "")),
        _machine("head", 0, "10.9.0.1", "10.8.0.1"),
        (_machine("node1", 1, "10.8.0.11"), _machine("node2", 2, "10.8.0.12")),
        ("tool",),
        "debian",
    )


def test_description_can_be_sourced_by_a_shell(tmp_path: Path, cluster: Cluster) -> None:
    found = names.files(cluster)
    (tmp_path / "cluster.sh").write_text(found["/etc/oscar/cluster.sh"])
    show = """. "$0"; echo $OSCAR_HEAD $OSCAR_HEAD_ADDRESS $OSCAR_HEAD_PUBLIC_ADDRESS $OSCAR_NODES
              echo $OSCAR_PRIVATE_CIDR $OSCAR_CLUSTER $OSCAR_DOMAIN"""
    said = subprocess.run(
        ["sh", "-euc", show, tmp_path / "cluster.sh"], check=True, capture_output=True, text=True
    ).stdout
    assert said.split() == ["head", "10.8.0.1", "10.9.0.1", "node1", "node2", "10.8.0.0/24", "demo", "demo.test"]
    assert found["/etc/oscar/nodes"].splitlines() == [
        "node1 10.8.0.11 52:54:00:00:01:00 2 384 compute",
        "node2 10.8.0.12 52:54:00:00:02:00 2 384 compute",
    ]
    assert "10.8.0.12 node2.demo.test node2\n" in found["/etc/hosts"]
    assert Cluster.from_json(json.loads(found["/etc/oscar/cluster.json"])) == cluster


def test_scripts_know_who_is_of_which_membership(tmp_path: Path, cluster: Cluster) -> None:
    login = dataclasses.replace(cluster.nodes[1], name="login1", membership="big-login", index=1)
    found = names.files(dataclasses.replace(cluster, nodes=(cluster.nodes[0], login)))
    (tmp_path / "cluster.sh").write_text(found["/etc/oscar/cluster.sh"])
    show = '. "$0"; echo $OSCAR_NODES, $OSCAR_MEMBERS_COMPUTE, $OSCAR_MEMBERS_BIG_LOGIN'
    argv: list[str | Path] = ["sh", "-euc", show, tmp_path / "cluster.sh"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert said.strip() == "node1 login1, node1, login1"
    assert [line.split()[-1] for line in found["/etc/oscar/nodes"].splitlines()] == ["compute", "big-login"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (b"#!/bin/sh\necho hello\n", "nothing"),
        (b". /etc/oscar/cluster.sh\n", "cluster"),
        (b"cat > /etc/oscar/dnsmasq.conf", "nothing"),
        (b". /etc/oscar/cluster.sh\necho > /etc/oscar/nodes.d/x", "nodes"),
        (b". /etc/oscar/cluster.sh; echo ${OSCAR_NODES}", "nodes"),
        (b". /etc/oscar/cluster.sh; echo $OSCAR_MEMBERS_LOGIN", "nodes"),
        (b"while read; do :; done < /etc/oscar/nodes", "nodes"),
        (b"json.load(open('/etc/oscar/cluster.json'))", "nodes"),
        (b"for f in /etc/oscar/*; do", "nodes"),
        (b"cd /etc/oscar\n. ./cluster.sh", "nodes"),
        (b'os.path.join("/etc/oscar", name)', "nodes"),
        (b"ls /etc/oscar", "nodes"),
    ],
)
def test_what_a_script_asks_for(text: bytes, asked: names.Asks) -> None:
    assert names.asks(text) == asked


def test_what_is_there_while_roots_are_built_changes_only_with_what_was_asked_for(cluster: Cluster) -> None:
    smaller = dataclasses.replace(cluster, nodes=cluster.nodes[:1])
    other = dataclasses.replace(cluster, head=dataclasses.replace(cluster.head, memory_mib=999))
    assert names.while_built(cluster, "nothing") == {}
    for changed in (smaller, other):
        assert names.while_built(cluster, "cluster") == names.while_built(changed, "cluster")
        assert names.while_built(cluster, "nodes") != names.while_built(changed, "nodes")
    assert set(names.while_built(cluster, "nodes")) == {
        f"/etc/oscar/{name}" for name in ("cluster.json", "cluster.sh", "nodes")
    }


def test_of_several_the_most_is_asked_for() -> None:
    assert names.most([]) == "nothing"
    assert names.most(["cluster", "nothing"]) == "cluster"
    assert names.most(["cluster", "nodes", "nothing"]) == "nodes"
