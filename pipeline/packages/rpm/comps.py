"""Groups of packages, as a repository's comps file has them: `@core` stands for what such a group installs.

Mandatory and default members are installed, conditional ones where the package is that they require; members for
another architecture only are left out.  A member that no repository has is passed over, as installers and dnf do.
Source: comps(5) of yum; dnf's `group install`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from pipeline.errors import BuildError

_INSTALLED = ("mandatory", "default", "conditional")


@dataclass(frozen=True)
class Member:
    """`requires` is the package with which a conditional member comes, "" for others."""

    name: str
    kind: str
    requires: str = ""


@dataclass(frozen=True)
class Group:
    """`id` is its name for programs, `name` that for people."""

    id: str
    name: str
    members: tuple[Member, ...]


def read(content: bytes, architecture: str, where: str) -> dict[str, Group]:
    """The groups of a comps file by id; `architecture` is that of the machines."""
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise BuildError(
            f"the groups of {where} cannot be read: {error}", hint="the repository must be mended, or another one used"
        ) from None
    found = {}
    for element in root.iter("group"):
        group = Group(
            _text(element, "id"),
            _text(element, "name"),
            tuple(
                Member(name, kind, item.get("requires", "") if kind == "conditional" else "")
                for item in element.iterfind("packagelist/packagereq")
                if (name := (item.text or "").strip()) and _fits(item, architecture)
                if (kind := item.get("type", "mandatory")) in _INSTALLED
            ),
        )
        found[group.id] = group
    return found


def _fits(item: ET.Element, architecture: str) -> bool:
    """comps says for which architectures a member is: `basearchonly` or `arch`, with commas between them."""
    wanted = [word.strip() for word in item.get("arch", "").split(",") if word.strip()]
    return not wanted or architecture in wanted


def _text(element: ET.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()
