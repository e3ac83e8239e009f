"""The domain model as a configuration for xl, Xen's own tool: for hosts without libvirt, and to be checked by libxl.

Settings are written in one fixed order, one a line.  `expected` and `understood` are the same domain as plain values by
setting, from the model and from what libxl made of the text: equal, or one of the two is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.drivers.domain import Disk, Domain

#: What a domain is by the settings that make it so.
Values = dict[str, object]


def render(domain: Domain) -> str:
    """The configuration of `domain`.  Raises ValueError for text that xl has no notation for."""
    settings: list[tuple[str, str | int | list[str]]] = [
        ("name", domain.name),
        ("uuid", domain.uuid),
        ("memory", domain.memory_mib),
        ("vcpus", domain.vcpus),
        ("type", domain.virtualization),
    ]
    if domain.kernel is not None:
        settings += [
            ("kernel", domain.kernel.image),
            ("ramdisk", domain.kernel.ramdisk),
            ("cmdline", domain.kernel.arguments),
        ]
    if domain.bootloader:
        settings.append(("bootloader", domain.bootloader))
    settings += [
        ("disk", [_disk(disk) for disk in domain.disks]),
        ("vif", [f"mac={card.mac},bridge={card.bridge}" for card in domain.interfaces]),
    ]
    if domain.pci:
        settings.append(("pci", list(domain.pci)))
    if domain.virtualization == "hvm":
        settings += [("serial", "pty"), ("vnc", 0)]
    settings += [("on_poweroff", "destroy"), ("on_reboot", domain.on_reboot), ("on_crash", "destroy")]
    return "".join(f"{key} = {_value(value)}\n" for key, value in settings)


def expected(domain: Domain) -> Values:
    """The domain's values by setting."""
    kernel = domain.kernel
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "memory": (domain.memory_mib * 1024, domain.memory_mib * 1024),
        "vcpus": (domain.vcpus, list(range(domain.vcpus))),
        "type": domain.virtualization,
        "kernel": kernel.image if kernel else "",
        "ramdisk": kernel.ramdisk if kernel else "",
        "cmdline": kernel.arguments if kernel else "",
        "bootloader": domain.bootloader,
        "disk": [(disk.path, disk.target, disk.format, _backend(disk), not disk.readonly) for disk in domain.disks],
        "vif": [(card.mac, card.bridge) for card in domain.interfaces],
        "pci": list(domain.pci),
        "serial": "pty" if domain.virtualization == "hvm" else "",
        "on_poweroff": "destroy",
        "on_reboot": domain.on_reboot,
        "on_crash": "destroy",
    }


def understood(data: dict[str, Any]) -> Values:
    """The values in libxl's JSON, which leaves out what has its default."""
    general, build = data["c_info"], data["b_info"]
    kind = general.get("type", "")
    return {
        "name": general.get("name", ""),
        "uuid": general.get("uuid", ""),
        "memory": (build.get("max_memkb"), build.get("target_memkb")),
        "vcpus": (build.get("max_vcpus", 1), build.get("avail_vcpus", [])),
        "type": kind,
        "kernel": build.get("kernel", ""),
        "ramdisk": build.get("ramdisk", ""),
        "cmdline": build.get("cmdline", ""),
        "bootloader": build.get("bootloader", ""),
        "disk": [
            (
                disk.get("pdev_path", ""),
                disk.get("vdev", ""),
                disk.get("format", ""),
                disk.get("backend", ""),
                bool(disk.get("readwrite", 0)),
            )
            for disk in data.get("disks", ())
        ],
        "vif": [(card.get("mac", ""), card.get("bridge", "")) for card in data.get("nics", ())],
        "pci": [_address(device) for device in data.get("pcidevs", ())],
        "serial": build.get(f"type.{kind}", {}).get("serial", ""),
        **{name: data.get(name, "destroy") for name in ("on_poweroff", "on_reboot", "on_crash")},
    }


def differences(domain: Domain, data: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Where libxl understood something else than `domain`: setting and explanation."""
    found = understood(data)
    for key, wanted in expected(domain).items():
        if found[key] != wanted:
            yield key, f"libxl understood {found[key]!r}, expected {wanted!r}"


def _disk(disk: Disk) -> str:
    words = [f"format={disk.format}", f"vdev={disk.target}", f"access={'ro' if disk.readonly else 'rw'}"]
    if _backend(disk):
        words.append(f"backendtype={_backend(disk)}")
    # last: whatever follows belongs to the path, commas too
    return ",".join([*words, f"target={disk.path}"])


def _backend(disk: Disk) -> str:
    """blkback takes block devices, and raw files through loop devices; what it can't read is left to libxl."""
    return "phy" if disk.format == "raw" else ""


def _address(device: dict[str, int]) -> str:
    domain, bus, slot, function = (device.get(key, 0) for key in ("domain", "bus", "dev", "func"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _value(value: str | int | list[str]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # libxl's reader knows escapes by number as well, but gets them wrong: what one kind of quotes can't hold, the
    # other must
    quote = "'" if '"' in value else '"'
    if quote in value or not value.isprintable():
        raise ValueError(f"xl has no notation for {value!r}: it holds both kinds of quotes, or control characters")
    return quote + value.replace("\\", "\\\\") + quote
