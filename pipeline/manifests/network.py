"""The tables of networks in a cluster's manifest."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from pipeline.manifests.fields import Address, MacPrefix, Subnet
from pipeline.manifests.loader import Table
from pipeline.mistakes import Faults, Key, quoted


class NetworkTable(Table):
    """What both networks have in common."""

    cidr: Subnet
    """The subnet, like "10.77.1.0/24"."""
    mac_prefix: MacPrefix = "00:16:3e"
    """The first three bytes of all MAC addresses; the default is Xen's."""

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.cidr)

    def _address_faults(self, addresses: dict[str, str]) -> Iterator[tuple[Key, str]]:
        """Addresses outside the subnet or given twice."""
        users: dict[str, str] = {}
        for field, address in addresses.items():
            ends = (self.subnet.network_address, self.subnet.broadcast_address)
            if ipaddress.IPv4Address(address) not in self.subnet or ipaddress.IPv4Address(address) in ends:
                yield (
                    (field,),
                    (
                        f"{quoted(address)} is not in the subnet {self.cidr}; expected one from "
                        f"{self.subnet[1]} to {self.subnet[-2]}"
                    ),
                )
            elif address in users:
                yield (field,), f"{quoted(address)} is the address of {users[address]} too; expected a free one"
            users.setdefault(address, field)


class PublicNetwork(NetworkTable):
    """The network between the host and the head node."""

    cidr: Subnet = "10.77.0.0/24"
    host: Address | None = None
    """The address of the host's end; without it, the last one of the subnet."""
    head: Address | None = None
    """The address of the head node; without it, the first one of the subnet."""

    @property
    def host_address(self) -> str:
        return self.host or str(self.subnet[-2])

    @property
    def head_address(self) -> str:
        return self.head or str(self.subnet[1])

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._address_faults({"host": self.host_address, "head": self.head_address}))
        if faults:
            raise Faults(faults)
        return self


class PrivateNetwork(NetworkTable):
    """The network between the head node and the compute nodes."""

    cidr: Subnet = "10.77.1.0/24"
    host: Address | None = None
    """The address of the host's end; without it, the host has none there."""
    head: Address | None = None
    """The address of the head node; without it, the last one of the subnet."""
    first_node: Address | None = None
    """The address of the first compute node, the others follow; without it, the first one of the subnet."""

    @property
    def host_address(self) -> str:
        return self.host or ""

    @property
    def head_address(self) -> str:
        return self.head or str(self.subnet[-2])

    @property
    def first_node_address(self) -> str:
        return self.first_node or str(self.subnet[1])

    @property
    def room(self) -> int:
        """How many compute nodes fit: from the first one's address to the next that is taken."""
        first = ipaddress.IPv4Address(self.first_node_address)
        taken = [self.subnet.broadcast_address, ipaddress.IPv4Address(self.head_address)]
        taken += [ipaddress.IPv4Address(self.host)] if self.host else []
        return min(int(address) - int(first) for address in taken if address > first)

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = {"host": self.host_address, "head": self.head_address, "first_node": self.first_node_address}
        faults = list(self._address_faults({field: address for field, address in named.items() if address}))
        if faults:
            raise Faults(faults)
        return self


class Networks(Table):
    """The two networks of a cluster."""

    public: PublicNetwork = PublicNetwork()
    """The network between the host and the head node (its eth0)."""
    private: PrivateNetwork = PrivateNetwork()
    """The network between the head node (its eth1) and the compute nodes (their eth0)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.public.subnet.overlaps(self.private.subnet):
            text = f"{quoted(self.private.cidr)} overlaps the public {self.public.cidr}; expected another subnet"
            raise Faults([(("private", "cidr"), text)])
        return self
