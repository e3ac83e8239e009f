"""A described cluster as the manifest that makes it: the other way round of `describing`.

Everything stands there, defaults and addresses as well, so that it stays what it is whatever defaults become.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomlkit

from pipeline.description import Cluster, DataDisk, FileSystem, Machine

#: What [xen] says where it says nothing: type and boot.
_DEFAULTS = ("pv", "pygrub")


@dataclass(frozen=True)
class Software:
    """What a manifest says of the software that machines do not show: the distribution whose kernel they boot, package
    files under test, and distribution packages by membership."""

    kernel_from: str = ""
    under_test: Mapping[str, Sequence[str]] = field(default_factory=dict)
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)


def dump(cluster: Cluster, software: Software, remarks: Sequence[str] = ()) -> str:
    """The manifest of a cluster; `remarks` are its first lines."""
    lines = ["#:schema ../schema/cluster.json", *(f"# {remark}" for remark in remarks)]
    lines += _pairs(
        {
            "distro": cluster.distro,
            "kernel_from": software.kernel_from,
            "host": cluster.host,
            "domain": cluster.domain,
            "opkgs": list(cluster.opkgs),
        }
    )
    lines += ["", "[head]", *_pairs({"name": cluster.head.name}), *_group((cluster.head,))]
    singles: dict[str, dict[str, Any]] = {}
    for membership, machines in cluster.members.items():
        first = machines[0]
        lines += ["", f"[{'compute' if membership == 'compute' else f'memberships.{membership}'}]"]
        lines += _pairs({"prefix": first.name.removesuffix(str(first.index)), "count": len(machines)})
        if membership != "compute":
            lines += _pairs({"first_node": first.address_on("private")})
            lines += _pairs({"packages": list(software.packages.get(membership, ()))})
        lines += _group(machines)
        prefix = _mac_prefix(cluster.head, "private")
        singles |= {machine.name: _special(machine, machines) | _mac(machine, prefix) for machine in machines}
    lines += [line for name, own in singles.items() for line in _table(f"machines.{_key(name)}", own)]
    lines += _networks(cluster)
    for side, files in software.under_test.items():
        lines += ["", "[packages]"] if "[packages]" not in lines else []
        lines += _pairs({side: list(files)})
    return "\n".join([*lines, *_xen(cluster.machines), ""])


def dump_machines(cluster: Cluster, names: Sequence[str], *, on_xen: bool) -> str:
    """The tables of single machines of a cluster, for the manifest of one that has machines of these names."""
    prefix = _mac_prefix(cluster.head, "private")
    lines: list[str] = []
    for name in names:
        machine = cluster.machine(name)
        own = {"memory": _size(machine.memory_mib), "cpus": machine.cpus, "disks": _data(machine.disks)}
        lines += _table(f"machines.{_key(name)}", own | (_mac(machine, prefix) if machine != cluster.head else {}))
        if on_xen:
            kind = {"type": machine.virtualization, "boot": machine.boot, **_devices(machine)}
            lines += _table(f"xen.machines.{_key(machine.name)}", kind)
    return "\n".join([*lines[1:], ""])


def _group(machines: Sequence[Machine]) -> Iterator[str]:
    """What machines of a membership have in common, or most of them have."""
    first = machines[0]
    yield from _pairs(
        {
            "memory": _size(_usual(machine.memory_mib for machine in machines)),
            "cpus": _usual(machine.cpus for machine in machines),
            "disk": _size(first.disk_mib),
        }
    )
    yield "filesystems = ["
    for item in first.filesystems:
        yield f"    {_value(_file_system(item))},"
    yield "]"
    yield from _pairs({"disks": _data(_common_disks(machines))})


def _special(machine: Machine, group: Sequence[Machine]) -> dict[str, Any]:
    """What one has that the others of its membership have not."""
    own: dict[str, Any] = {}
    if machine.memory_mib != _usual(one.memory_mib for one in group):
        own["memory"] = _size(machine.memory_mib)
    if machine.cpus != _usual(one.cpus for one in group):
        own["cpus"] = machine.cpus
    common = _common_disks(group)
    own["disks"] = _data([disk for disk in machine.disks if disk not in common])
    return own


def _mac(machine: Machine, prefix: str) -> dict[str, Any]:
    """The MAC of a node, where it does not count from its number."""
    mac = machine.interfaces[0].mac
    return {} if mac.startswith(prefix) else {"mac": mac}


def _mac_prefix(head: Machine, network: str) -> str:
    return next(card.mac for card in head.interfaces if card.network == network)[:8]


def _common_disks(machines: Sequence[Machine]) -> tuple[DataDisk, ...]:
    """The disks that most of these machines have, if they can stand in their membership's table: a machine has those
    first, by their order there, which says what they are called inside."""
    usual: tuple[DataDisk, ...] = _usual(machine.disks for machine in machines)
    names = [disk.name for disk in usual]
    fits = all([disk.name for disk in machine.disks[: len(names)]] == names for machine in machines)
    return usual if fits else ()


def _networks(cluster: Cluster) -> Iterator[str]:
    head, first = cluster.head, cluster.nodes[0]
    for network in cluster.networks:
        yield from ("", f"[networks.{network.name}]")
        node = first.address_on(network.name) if network.name == "private" else ""
        yield from _pairs(
            {
                "cidr": network.cidr,
                "mac_prefix": _mac_prefix(head, network.name),
                "host": network.host_address,
                "head": head.address_on(network.name),
                "first_node": node,
            }
        )


def _xen(machines: Sequence[Machine]) -> Iterator[str]:
    kind, boot = (_usual(getattr(one, what) for one in machines) for what in ("virtualization", "boot"))
    if (kind, boot) != _DEFAULTS:
        yield from ("", "[xen]", *_pairs({"type": kind, "boot": boot}))
    for machine in machines:
        own: dict[str, Any] = {}
        if machine.virtualization != kind:
            own["type"] = machine.virtualization
        if machine.boot != boot:
            own["boot"] = machine.boot
        yield from _table(f"xen.machines.{_key(machine.name)}", {**own, **_devices(machine)})


def _devices(machine: Machine) -> dict[str, Any]:
    return {"device": machine.device, "pci": list(machine.pci)}


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    pairs = list(_pairs(values))
    if pairs:
        yield from ("", f"[{name}]", *pairs)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    """What is empty is left out."""
    for name, value in values.items():
        if value not in ("", [], {}):
            yield f"{name} = {_value(value)}"


def _data(disks: Sequence[DataDisk]) -> dict[str, Any]:
    return {disk.name: {"size": _size(disk.size_mib), "kind": disk.kind} for disk in disks}


def _file_system(item: FileSystem) -> dict[str, Any]:
    return {"mount": item.mount, "size": _size(item.size_mib) if item.size_mib else "fill"}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(name)} = {_value(one)}' for name, one in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(tomlkit.item(value).as_string())


def _size(mib: int) -> str:
    return f"{mib // 1024}G" if mib % 1024 == 0 else f"{mib}M"


def _usual(values: Iterator[Any]) -> Any:
    """The most frequent one, the first of those."""
    return Counter(values).most_common(1)[0][0]


def _key(name: str) -> str:
    return name if name.replace("-", "").isalnum() else _value(name)
