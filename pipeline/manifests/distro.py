"""Distributions: which suites of which mirror, and what a bootable machine of that distribution is made of."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from pipeline.guests.flavours import Flavour
from pipeline.manifests.fields import FilePath, Items, PackageName, SomeItems, SuiteName
from pipeline.manifests.loader import Manifest, Table
from pipeline.mistakes import quoted


def _mirror(value: str) -> str:
    if value == "" or re.fullmatch(r"(?:https?://[A-Za-z0-9.:\[\]-]+|file://)(?:/[\w.~%+-]*)*", value, re.ASCII):
        return value
    raise ValueError(
        f'{quoted(value)} is not a mirror; expected an address like "http://HOST/debian" or '
        '"file:///srv/debian", with %20 for a space'
    )


def _word(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+~-]{0,99}", value):
        return value
    raise ValueError(f'{quoted(value)} does not fit; expected letters, digits and . + - like "debian" or "12"')


class Compat(Table):
    """How OPKG filters name this distribution."""

    name: Annotated[str, AfterValidator(_word)]
    """The name that `<dist>` has in an OPKG's config.xml, like "debian"."""
    version: Annotated[str, AfterValidator(_word)]
    """The version that `<dist version="...">` is compared with, like "12"."""


class DistroPackages(Table):
    """The packages of each kind of machine; what they depend on is added, what they recommend is not."""

    base: SomeItems[PackageName]
    """The packages that every machine has."""
    head: Items[PackageName] = ()
    """The packages that only the head node has."""
    compute: Items[PackageName] = ()
    """The packages that only compute nodes have."""
    dom0: Items[PackageName] = ()
    """The packages that make a Xen host of it: hypervisor, dom0 kernel, tools, libvirt; none = it is no testbed."""
    xl: Items[PackageName] = ()
    """The packages with which Xen configurations are checked: Xen's xl and the C compiler tcc; none = others' are."""


class Distro(Manifest):
    """A Linux distribution that machines can run: `recipes/distros/NAME.toml`."""

    family: Literal["deb"]
    """The package family: "deb"."""
    guest: Flavour = "debian"
    """The kind of system that it is, which says how its files are written and its services are asked: "debian"."""
    suite: SuiteName
    """The suite that the base system comes from, like "bookworm"."""
    suites: SomeItems[SuiteName]
    """All suites that packages may come from, like "bookworm", "bookworm-updates", "bookworm-security"."""
    components: SomeItems[SuiteName] = ("main",)
    """The components of each suite."""
    architecture: Literal["amd64"] = "amd64"
    """The architecture in the distribution's own words."""
    keyring: FilePath
    """The file on the host with the keys that sign the suites."""
    mirror: Annotated[str, AfterValidator(_mirror)] = ""
    """The address of the mirror; without it, the one that the host's own apt uses."""
    kernel: PackageName
    """The package of the kernel that machines boot."""
    compat: Compat
    """How OPKG filters name this distribution."""
    packages: DistroPackages
    """The packages of each kind of machine."""
