"""Distributions: which suites of which mirror, and what a bootable machine of that distribution is made of."""

from __future__ import annotations

import abc
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.guests.flavours import Flavour
from pipeline.manifests.fields import DebName, FilePath, Items, PackageName, RootPath, SomeItems, SuiteName
from pipeline.manifests.loader import Manifest, Table
from pipeline.mistakes import Faults, Key, listing, quoted
from pipeline.opkgs import filters
from pipeline.packages import given
from pipeline.packages.rpm import addresses


def _is_one(form: str, address: str) -> bool:
    """Whether it is an address of that form that leads somewhere."""
    return bool(re.fullmatch(form, address, re.ASCII)) and given.scheme_of(address) in given.SCHEMES


def _mirror(value: str) -> str:
    if value == "" or _is_one(r"(?:https?://[A-Za-z0-9.:\[\]-]+|file://)(?:/[\w.~%+-]*)*", value):
        return value
    raise ValueError(
        f'{quoted(value)} is not a mirror; expected an address like "http://HOST/debian" or '
        '"file:///srv/debian", with %20 for a space'
    )


def _rpm_mirror(value: str) -> str:
    if value == "" or value.startswith("/"):
        return value
    return _mirror(value)


#: Addresses of a repository, or of a list of its mirrors, which may ask for one by its name.
_ADDRESS = r"https?://[A-Za-z0-9.:\[\]-]+(?:/(?:[\w.~%+-]|\$basearch(?![a-z]))*)*"
_QUESTION = r"(?:\?(?:[\w.~%+&=;,:/-]|\$basearch(?![a-z]))*)?"


def _repository_url(value: str) -> str:
    if value == "" or _is_one(_ADDRESS, value) or (value.startswith("file://") and _mirror(value)):
        return value
    raise ValueError(_no_address(value, "https://HOST/9/BaseOS/$basearch/os"))


def _list_url(value: str) -> str:
    if value == "" or _is_one(_ADDRESS + _QUESTION, value):
        return value
    raise ValueError(_no_address(value, "https://HOST/mirrorlist?repo=BaseOS-9&arch=$basearch"))


def _no_address(value: str, example: str) -> str:
    return f'{quoted(value)} is no address; expected one like "{example}"; of dnf\'s variables there is $basearch'


def _word(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+~-]{0,99}", value):
        return value
    raise ValueError(f'{quoted(value)} does not fit; expected letters, digits and . + - like "debian" or "12"')


#: Systems that run on machines which can do more.
_HARDWARE = {"i386": "amd64"}


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


class DebPackages(DistroPackages):
    """The same, by the names that Debian has for packages."""

    base: SomeItems[DebName]
    head: Items[DebName] = ()
    compute: Items[DebName] = ()
    dom0: Items[DebName] = ()
    xl: Items[DebName] = ()


class Distro(Manifest, abc.ABC):
    """What distributions of every package family have: `recipes/distros/NAME.toml`.

    The plan asks a distribution for the parameters of the steps that its family makes.
    """

    family: str
    guest: Flavour = "debian"
    """The kind of system that it is, which says how its files are written and its services are asked: "debian"."""
    architecture: str
    mirror: str
    kernel: PackageName
    """The package of the kernel that machines boot."""
    compat: Compat
    """How OPKG filters name this distribution."""
    packages: DistroPackages
    """The packages of each kind of machine."""
    vsyscall: bool = False
    """Whether its programs want the vsyscall page, as those of x86_64 with a glibc older than 2.14 do; where this
    machine's kernel does not map it, they are run in a small virtual machine while roots are made."""

    @property
    def hardware(self) -> str:
        """The architecture of the machines that it runs on, by the name that recipes and tasks have for it: their build
        tools, boot loader and installer are made for that.  Its packages are for `architecture`."""
        own = filters.architecture(self.architecture)
        return _HARDWARE.get(own, own)

    @property
    def codename(self) -> str:
        """Another name for its version, "" = none."""
        return ""

    @property
    @abc.abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The files with the keys that sign its packages or their index."""

    @abc.abstractmethod
    def source(self) -> dict[str, Any]:
        """Of a step that takes a snapshot of its metadata."""

    @abc.abstractmethod
    def place(self) -> dict[str, Any]:
        """Of a step that fetches its packages."""

    def choice(self) -> dict[str, Any]:
        """Of a step that chooses packages."""
        return {"architecture": self.architecture}

    @abc.abstractmethod
    def base(self) -> dict[str, Any]:
        """Of the step that makes its base root."""

    def installed(self) -> dict[str, Any]:
        """Of a step that adds packages to a root."""
        return {}


class DebDistro(Distro):
    """A distribution of Debian packages."""

    family: Literal["deb"]
    """The package family: "deb"."""
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
    """The address of the mirror; without it, the one that the host's own apt uses; `--mirror` names another."""
    kernel: DebName
    """The package of the kernel that machines boot."""
    packages: DebPackages
    """The packages of each kind of machine."""

    @property
    def codename(self) -> str:
        return self.suite

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.keyring,)

    def source(self) -> dict[str, Any]:
        return {
            "distro": self.name,
            "suites": list(self.suites),
            "components": list(self.components),
            "architecture": self.architecture,
            "keyring": self.keyring,
            "mirror": self.mirror,
        }

    def place(self) -> dict[str, Any]:
        return {"distro": self.name, "mirror": self.mirror, "suites": list(self.suites)}

    def base(self) -> dict[str, Any]:
        return {"suite": self.suite, "architecture": self.architecture}


class Repository(Table):
    """One repository of RPM packages: below the mirror, or at an address of its own, which is one of `url`,
    `mirrorlist` and `metalink`."""

    name: Annotated[str, AfterValidator(_word)]
    """What it is called, like "baseos"."""
    path: FilePath
    """The folder that holds `repodata`, below the mirror; of one with an address of its own, below what `--mirror`
    names."""
    url: Annotated[str, AfterValidator(_repository_url)] = ""
    """The address of the folder that holds `repodata`, like "https://HOST/9/BaseOS/$basearch/os"."""
    mirrorlist: Annotated[str, AfterValidator(_list_url)] = ""
    """The address of a list of mirrors, one a line, like "https://HOST/mirrorlist?repo=BaseOS-9&arch=$basearch"."""
    metalink: Annotated[str, AfterValidator(_list_url)] = ""
    """The address of a metalink: a list of mirrors, with the checksum of the metadata that they must have."""
    signed: bool = False
    """Whether its metadata are signed (repomd.xml.asc) by the distribution's keys."""


class RpmDistro(Distro):
    """A distribution of RPM packages."""

    family: Literal["rpm"]
    """The package family: "rpm"."""
    repositories: SomeItems[Repository]
    """The repositories that packages may come from; of all of them the newest version is taken."""
    architecture: Literal["x86_64", "i386"] = "x86_64"
    """The architecture in the distribution's own words; "i386" runs on 64-bit machines, as i686."""
    keyrings: Items[FilePath] = ()
    """The files with the keys that sign packages, and metadata where a repository says so; without any, checksums in
    the metadata are all that there is."""
    mirror: Annotated[str, AfterValidator(_rpm_mirror)] = ""
    """The address or the folder of the mirror; `--mirror` names another."""
    database: RootPath = "/var/lib/rpm"
    """Where its rpm keeps what is installed."""
    assembler: Literal["target-rpm", "host-rpm", "justdb"] = "target-rpm"
    """Who installs the base packages: "target-rpm", the suite's own rpm; "host-rpm", this machine's, faster and
    right for a suite whose rpm is no newer and writes the same kind of database (sqlite, as Rocky Linux 9); "justdb",
    this machine's, and the suite's own rpm writes the database then."""
    weak: bool = False
    """Whether what packages recommend is installed as well."""
    sha1: bool = False
    """Whether SHA-1 is good enough as a checksum of packages: archives of before 2009 have nothing better."""
    files: dict[RootPath, str] = Field(default_factory=dict)
    """Texts by path that stand in the root before the first package: what an installer writes, and scripts expect."""
    excluded: Items[str] = ()
    """Packages that are as if they were not there: names or patterns like "kernel-debug*"."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.keyrings

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[tuple[Key, str]] = []
        names = [one.name for one in self.repositories]
        for index, name in enumerate(names):
            if name in names[:index]:
                faults.append((("repositories", index, "name"), f"{quoted(name)} is there twice; expected each once"))
            if self.repositories[index].signed and not self.keyrings:
                faults.append((("repositories", index, "signed"), "no keys to check with; expected keyrings = [...]"))
            for other in [kind for kind in addresses.KINDS if getattr(self.repositories[index], kind)][1:]:
                faults.append((("repositories", index, other), f"expected only one of {listing(addresses.KINDS)}"))
        if self.architecture == "i386":
            if self.assembler != "target-rpm":
                hint = 'expected "target-rpm": this machine\'s own is a 64-bit program, and so would scripts think'
                faults.append((("assembler",), hint))
            if self.vsyscall:
                faults.append((("vsyscall",), "programs of i386 know no vsyscall page; expected false"))
        if faults:
            raise Faults(faults)
        return self

    def _repositories(self) -> list[dict[str, Any]]:
        return [
            {
                name: addresses.expanded(value, self.architecture) if name in addresses.KINDS else value
                for name, value in one.model_dump(exclude_defaults=True).items()
            }
            for one in self.repositories
        ]

    def source(self) -> dict[str, Any]:
        return {"distro": self.name, "repositories": self._repositories(), "architecture": self.architecture,
                "keys": list(self.keyrings), "mirror": self.mirror}  # fmt: skip

    def place(self) -> dict[str, Any]:
        return {"distro": self.name, "repositories": self._repositories(), "keys": list(self.keyrings),
                "mirror": self.mirror}  # fmt: skip

    def choice(self) -> dict[str, Any]:
        weak_digests = {"sha1": True} if self.sha1 else {}
        return {"architecture": self.architecture, "weak": self.weak, "excluded": list(self.excluded), **weak_digests}

    def base(self) -> dict[str, Any]:
        before = {"files": dict(self.files)} if self.files else {}
        return {**self.installed(), "assembler": self.assembler, "architecture": self.architecture, **before}

    def installed(self) -> dict[str, Any]:
        return {"database": self.database}


#: The distributions that there can be, by family.
DISTROS: dict[str, type[Distro]] = {"deb": DebDistro, "rpm": RpmDistro}
