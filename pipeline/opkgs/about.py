"""What an OPKG says of itself for people, and what OSCAR made of it that nothing is made of here: kept and shown."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.opkgs.document import Element

#: Of an author: what OPKGs of generation 3 have, in its order.
AUTHOR = ("name", "nickname", "email", "institution", "beginYear", "endYear")


@dataclass(frozen=True)
class Author:
    """`part` is what they are: "upstream", "maintainer" (of the OPKG) or "uploader"; `facts` are name, email, ..."""

    part: str
    facts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        facts = dict(self.facts)
        name = facts.pop("name", "")
        return f"{name} ({', '.join(facts.values())})" if facts else name


@dataclass(frozen=True)
class Change:
    """One entry of a version's change log: who, when (as it is written), what; `closes` are numbers of faults."""

    author: str
    date: str
    closes: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """A version of the OPKG, and what changed in it."""

    version: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class About:
    """All of it; what a file has nothing of is empty.

    `services` and `switcher` are OSCAR 5's: (name of a service, who has it: "oscar_server", "" = all), and (tag, name)
    of what its switcher chooses between.
    """

    description: str = ""
    licence: str = ""
    copyright: str = ""
    groups: tuple[str, ...] = ()
    uri: str = ""
    vendor: str = ""
    authors: tuple[Author, ...] = ()
    releases: tuple[Release, ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    switcher: tuple[tuple[str, str], ...] = ()


def of(root: Element, version: str) -> About:
    """What a document of any generation says; generation 3 has words of its own for some of it.  `version` is all that
    older ones have instead of a change log."""
    releases = tuple(_release(entry) for log in root.all("changelog") for entry in log.all("versionEntry"))
    return About(
        description=root.value("description"),
        licence=root.value("license"),
        copyright=root.value("copyright") or root.value("older:copyright"),
        groups=tuple(group.text for group in root.all("group")),
        uri=root.value("uri") or root.value("url"),
        vendor=root.value("vendor") or root.value("older:vendor"),
        authors=tuple(_authors(root)),
        releases=releases or (Release(version),),
        services=tuple(_services(root)),
        switcher=tuple(
            (one.value("tag"), one.value("name"))
            for part in _specific(root)
            for one in part.all("switcher", "older:switcher")
        ),
    )


def _authors(root: Element) -> list[Author]:
    found = [
        Author(author.attributes.get("cat", ""), _facts(author))
        for authors in root.all("authors")
        for author in authors.all("author")
    ]
    # who made the software, and who the OPKG of it, as generations 1 and 2 have it
    parts = {"maintainer": "upstream", "packager": "maintainer"}
    return [*found, *(Author(parts[author.tag], _facts(author)) for author in root.all(*parts))]


def _facts(author: Element) -> tuple[tuple[str, str], ...]:
    if author.text and not author.children:  # old files have a mere name
        return (("name", author.text),)
    return tuple((tag, author.value(tag)) for tag in AUTHOR if author.value(tag))


def _release(entry: Element) -> Release:
    changes = tuple(
        Change(
            one.attributes.get("authorName", ""),
            one.attributes.get("date", ""),
            one.attributes.get("closes", ""),
            tuple(item.text for item in one.all("item")),
        )
        for one in entry.all("changelogEntry")
    )
    return Release(entry.attributes.get("version", ""), changes)


def _services(root: Element) -> list[tuple[str, str]]:
    found = []
    for part in root.all("servicelist", "older:servicelist"):
        groups = [one.value("group") or one.attributes.get("group", "") for one in part.all("filter")] or [""]
        found += [(service.text, group) for service in part.all("service") for group in groups]
    return found


def _specific(root: Element) -> list[Element]:
    tags = ("package-specific-attributes", "package", "older:package-specific-attributes", "older:package")
    return [root, *root.all(*tags)]
