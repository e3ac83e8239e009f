"""Names, MACs and addresses: unique, in their subnets, and kept when the cluster grows."""

from __future__ import annotations

import ipaddress
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline import description
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.describing import describe
from pipeline.manifests.distro import DebDistro
from pipeline.manifests.machine import MOST_NODES
from tests.manifests.conftest import DISTRO

distro = DebDistro.model_validate({"name": "debian12", **tomllib.loads(DISTRO)})


def described(count: int, private: dict[str, Any]) -> description.Cluster:
    data = {
        "name": "c",
        "distro": "debian12",
        "compute": {"count": count},
        "networks": {"public": {"cidr": "192.168.7.0/24"}, "private": private},
    }
    return describe(Cluster.model_validate(data), distro)


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """A private network, and how many nodes fit into it."""
    length = draw(st.integers(18, 30))
    start = draw(st.integers(0, (1 << (length - 8)) - 1)) << (32 - length)
    subnet = ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.0.0.0")) + start, length))
    hosts = subnet.num_addresses - 2
    places = draw(st.lists(st.integers(1, hosts), min_size=2, max_size=3, unique=True))
    private: dict[str, Any] = {"cidr": str(subnet)}
    if draw(st.booleans()):
        names = ("head", "first_node", "host")
        private.update({name: str(subnet[place]) for name, place in zip(names, places, strict=False)})
    manifest = Cluster.model_validate(
        {
            "name": "c",
            "distro": "debian12",
            "compute": {"count": 1},
            "networks": {"public": {"cidr": "192.168.7.0/24"}, "private": private},
        }
    )
    return manifest.networks.private.room, private


@given(networks(), st.data())
def test_everything_is_unique_in_its_subnet_and_stays_when_nodes_are_added(
    network: tuple[int, dict[str, Any]], data: st.DataObject
) -> None:
    room, private = network
    more = data.draw(st.integers(1, min(room, 600)))
    fewer = data.draw(st.integers(1, more))
    large, small = described(more, private), described(fewer, private)
    assert large.nodes[:fewer] == small.nodes
    assert (large.head, large.networks) == (small.head, small.networks)
    cards = [card for machine in large.machines for card in machine.interfaces]
    assert len({card.mac for card in cards}) == len({card.address for card in cards}) == len(cards) == more + 2
    assert len({machine.name for machine in large.machines}) == more + 1
    for card in cards:
        subnet = ipaddress.IPv4Network(large.network(card.network).cidr)
        assert ipaddress.IPv4Address(card.address) in set(subnet.hosts()) if subnet.prefixlen > 24 else True
        assert ipaddress.IPv4Address(card.address) in subnet
        assert card.prefix == subnet.prefixlen
        assert card.address != large.network(card.network).host_address
    assert description.Cluster.from_json(large.to_json()) == large


@given(networks())
def test_room_is_exact(network: tuple[int, dict[str, Any]]) -> None:
    room, private = network
    try:
        described(room + 1, private)
    except ValueError as error:
        assert f"has room for {room} from" in str(error) or room + 1 > MOST_NODES
    else:
        raise AssertionError("one node too many was accepted")


def test_a_usual_cluster() -> None:
    found = described(300, {"cidr": "10.77.0.0/16"})
    head, last = found.head, found.nodes[-1]
    assert [(card.name, card.network, card.mac, card.address) for card in head.interfaces] == [
        ("eth0", "public", "00:16:3e:00:00:00", "192.168.7.1"),
        ("eth1", "private", "00:16:3e:01:00:00", "10.77.255.254"),
    ]
    assert (last.name, last.index, last.role) == ("node300", 300, "compute")
    assert last.interfaces == (description.Interface("eth0", "private", "00:16:3e:01:01:2c", "10.77.1.44", 16),)
    assert found.networks == (
        description.Network("public", "192.168.7.0/24", "192.168.7.254"),
        description.Network("private", "10.77.0.0/16", ""),
    )
    assert last.filesystems == (description.FileSystem("/", 2048, "ext4"), description.FileSystem("swap", 256, "swap"))
    assert (last.disk_mib, found.distro, found.architecture) == (2305, "debian12", "amd64")
