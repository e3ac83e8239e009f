"""An OPKG's `config.xml` of generation 1 or 2 written as one of generation 3, with nothing lost.

What generation 3 has no word for (a title for people, vendor, services, switcher tags, relations that are not between
packages, declarations, what nobody knows) stands in elements of a namespace of its own, as it was; comments and
processing instructions stay.
Source: OSCAR's converter of these generations, opkg-convert of opkgc, which leaves such things out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.opkgs import generation3
from pipeline.opkgs.document import Aside, Document, Element
from pipeline.opkgs.filters import Filter, Versioned
from pipeline.opkgs.model import Dependency, Opkg
from pipeline.opkgs.phases import Side

#: What stands in front of names of elements that generation 3 does not have.
OLDER = "older:"
_NAMESPACE = "urn:xen-oscar:opkg:older"
_PARTS: dict[tuple[Side, ...], str] = {
    ("server",): "serverDeps",
    ("client",): "clientDeps",
    ("server", "client"): "commonDeps",
}
_RELATIONS = ("provides", "conflicts", "requires")
_ONCE = frozenset(("name", "version", "class", "summary"))
_LISTS = ("rpmlist", "binary-package-list")
_TEXTS = frozenset(("name", "class", "summary", "description", "license", "group", "uri", "url"))
_FILTER = ("group", "distribution", "architecture")
#: What stands in an element of a list, and its attributes.
_KNOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("rpm", "pkg"), ((), ("rel", "version"))),
    "filter": (_FILTER, (*_FILTER, "distribution_version")),
    "distribution": (("name", "version"), ()),
    **dict.fromkeys(("group", "architecture", "name", "version"), ((), ())),
}
#: Elements that are written from what they mean.
_READ = frozenset(
    (
        "name", "version", "class", "summary", "description", "license", "group", "uri", "url", "maintainer",
        "packager", "rpmlist", "binary-package-list", "filter",
    )
)  # fmt: skip


def to_generation3(document: Document, opkg: Opkg) -> Document:
    """The same OPKG in generation 3; one that is of it already stays as it is."""
    if opkg.generation == 3:
        return document
    old = document.root
    parts: list[Element] = [_text("name", opkg.name)]
    if opkg.title != opkg.name:
        parts.append(_text(f"{OLDER}name", opkg.title))
    parts += [_text("class", opkg.class_), _text("summary", opkg.summary[: generation3.SUMMARY].rstrip())]
    parts += [_text(tag, element.text) for tag in ("description", "license", "group") for element in old.all(tag)]
    parts += [_text("uri", element.text) for element in old.all("uri", "url")]
    if opkg.about.authors:
        parts.append(_element("authors", [_author(element) for element in old.all("maintainer", "packager")]))
    parts += [_filters(each) for each in opkg.filters]
    for relation in _RELATIONS:
        names: tuple[Versioned, ...] = getattr(opkg, relation)
        parts += [_element(relation, [_package(name)]) for name in names]
    for sides, part in _PARTS.items():
        inside = [one for each in opkg.dependencies if each.sides == sides for one in _dependency(each)]
        parts += [_element(part, inside)] if inside else []
    parts.append(_element("changelog", [Element("versionEntry", attributes={"version": opkg.version})]))
    parts += _carried(old)
    if "[" in document.doctype:  # declarations of its own; what only points to a DTD means one of older generations
        parts.append(_text(f"{OLDER}doctype", document.doctype))
    used = any(part.tag.startswith(OLDER) for part in parts)
    own = {"xmlns:older": _NAMESPACE} if used else {}
    root = Element("oscar", attributes={**old.attributes, **own}, content=[*_asides(old), *parts])
    return Document(_laid_out(root, 0), document.before, document.after)


def _laid_out(element: Element, depth: int) -> Element:
    """With a line for each element in it, but where text stands among them that was laid out already."""
    if not element.content or any(isinstance(piece, str) for piece in element.content):
        return element
    inner = "\n" + "  " * (depth + 1)
    content: list[Element | Aside | str] = []
    for piece in element.content:
        content += [inner, _laid_out(piece, depth + 1) if isinstance(piece, Element) else piece]
    return Element(element.tag, attributes=element.attributes, content=[*content, "\n" + "  " * depth])


def _carried(old: Element) -> Iterator[Element]:
    """What has no place in generation 3, or not all of it, as it was."""
    once: set[str] = set()
    for element in old.children:
        again = element.tag in _ONCE and element.tag in once
        once.add(element.tag)
        if not again and not _has_no_place(element):
            continue
        yield Element(f"{OLDER}{element.tag}", attributes=element.attributes, content=element.content)


def _has_no_place(element: Element) -> bool:
    if element.tag in _RELATIONS:
        return element.value("type") not in ("", "package")
    if element.tag in _LISTS:
        packages = [child for child in element.children if child.tag in ("rpm", "pkg")]
        return not packages or bool(element.attributes) or not all(map(_is_known, element.children))
    if element.tag == "filter":
        return not _is_known(element) or bool(element.value("group") or element.attributes.get("group"))
    if element.tag in _TEXTS:
        too_long = element.tag == "summary" and len(element.text) > generation3.SUMMARY
        return bool(element.attributes or element.children) or too_long
    return element.tag not in _READ


def _is_known(element: Element) -> bool:
    """Whether all that an element of a list says, or a filter, has been understood."""
    if element.tag not in _KNOWN:
        return False
    within, attributes = _KNOWN[element.tag]
    return element.attributes.keys() <= {*attributes} and all(
        child.tag in within and _is_known(child) for child in element.children
    )


def _asides(element: Element) -> Iterator[Aside]:
    """Those in it, but for those that are carried with what has no place, or stay with an author."""
    for piece in element.content:
        if isinstance(piece, Aside):
            yield piece
        elif (
            isinstance(piece, Element)
            and piece.tag not in ("maintainer", "packager")
            and (element.tag != "oscar" or not _has_no_place(piece))
        ):
            yield from _asides(piece)


def _author(element: Element) -> Element:
    part = "upstream" if element.tag == "maintainer" else "maintainer"
    return Element("author", attributes={"cat": part}, content=list(element.content))


def _dependency(item: Dependency) -> Iterator[Element]:
    """Of several filters one must fit, which are as many elements here: a filter's words must all fit in one."""
    for each in (item.filters or (Filter(),)) if item.packages else ():
        filters = [_filters(each)] if each != Filter() else []
        yield _element(item.relation, [*filters, *map(_package, item.packages)])


def _filters(item: Filter) -> Element:
    distributions = [_versioned("dist", one) for one in item.distributions]
    return _element("filters", [*distributions, *(_text("arch", one) for one in item.architectures)])


def _package(name: Versioned) -> Element:
    return _versioned("pkg", name)


def _versioned(tag: str, item: Versioned) -> Element:
    relation = {"rel": item.rel} if item.rel not in ("", "=") else {}
    version = {"version": item.version} if item.version else {}
    return Element(tag, attributes={**relation, **version}, content=[item.name])


def _text(tag: str, text: str) -> Element:
    return Element(tag, content=[text] if text else [])


def _element(tag: str, inside: Iterable[Element]) -> Element:
    return Element(tag, content=[*inside])
