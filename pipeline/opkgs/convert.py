"""An OPKG's `config.xml` of generation 1 or 2 written as one of generation 3, with nothing lost.

What generation 3 has no word for (a title for people, vendor, services, switcher tags, relations that are not between
packages, declarations, what nobody knows) stands in elements of a namespace of its own, as it was; comments and
processing instructions stay.
Source: OSCAR's converter of these generations, opkg-convert of opkgc, which leaves such things out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from pipeline.opkgs import generation3
from pipeline.opkgs.about import AUTHOR, Author
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
_PEOPLE = ("maintainer", "packager")
_VERSION = ("major", "minor", "subversion", "release", "epoch")


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
    parts += [_text("uri", element.text) for tag in ("uri", "url") for element in old.all(tag) if element.text]
    if opkg.about.authors:
        parts.append(_element("authors", map(_author, opkg.about.authors)))
    parts += [_filters(each) for each in opkg.filters]
    for relation in _RELATIONS:
        names: tuple[Versioned, ...] = getattr(opkg, relation)
        parts += [_element(relation, [_package(name)]) for name in names]
    for sides, part in _PARTS.items():
        inside = [one for each in opkg.dependencies if each.sides == sides for one in _dependency(each)]
        parts += [_element(part, inside)] if inside else []
    parts.append(_element("changelog", [Element("versionEntry", attributes={"version": opkg.version})]))
    carried = _carried(old)
    parts += [Element(f"{OLDER}{one.tag}", attributes=one.attributes, content=one.content) for one in carried]
    if "[" in document.doctype:  # declarations of its own; what only points to a DTD means one of older generations
        parts.append(_text(f"{OLDER}doctype", document.doctype))
    used = any(part.tag.startswith(OLDER) for part in parts)
    own = {"xmlns:older": _NAMESPACE} if used else {}
    root = Element("oscar", attributes={**old.attributes, **own}, content=[*_asides(old, carried), *parts])
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


def _carried(old: Element) -> list[Element]:
    """What has no place in generation 3, or not all of it."""
    found = []
    once: set[str] = set()
    for element in old.children:
        again = element.tag in _ONCE and element.tag in once
        once.add(element.tag)
        if again or _has_no_place(element):
            found.append(element)
    return found


def _has_no_place(element: Element) -> bool:
    tag = element.tag
    if tag in _RELATIONS:
        names = [child for child in element.children if child.tag == "name"]
        rest = Element(tag, attributes=element.attributes, content=[one for one in element.content if one not in names])
        return (
            rest.value("type") not in ("", "package") or not _is_plain(rest, ("type",)) or not all(map(_is_name, names))
        )
    if tag in _LISTS:
        packages = [child for child in element.children if child.tag in ("rpm", "pkg")]
        known = all(map(_is_known, element.children)) and not element.attributes and not element.text
        return not packages or not known
    if tag == "filter":
        return not _is_known(element) or bool(element.value("group") or element.attributes.get("group"))
    if tag == "version":
        return not _is_plain(element, _VERSION)
    if tag in _PEOPLE:
        return bool(element.children or element.attributes) and not _is_plain(element, AUTHOR)
    if tag in _TEXTS:
        too_long = tag == "summary" and len(element.text) > generation3.SUMMARY
        return bool(element.attributes or element.children) or too_long
    return True


def _is_known(element: Element) -> bool:
    """Whether all that an element of a list says, or a filter, has been understood."""
    if element.tag in ("rpm", "pkg"):
        return _is_name(element)
    of_distribution = [child for child in element.children if child.tag == "distribution"]
    rest = Element("", content=[one for one in element.content if one not in of_distribution])
    named = any(one.value("name") for one in of_distribution) or element.attributes.get("distribution")
    versions = [one.value("version") for one in of_distribution] + [element.attributes.get("distribution_version")]
    return (
        element.tag == "filter"
        and element.attributes.keys() <= {*_FILTER, "distribution_version"}
        and not (element.attributes and element.children)
        and _is_plain(rest, ("group", "architecture"))
        and len(of_distribution) <= 1
        and all(_is_plain(one, ("name", "version")) for one in of_distribution)
        and bool(named or not any(versions))
    )


def _is_name(element: Element) -> bool:
    return not element.children and element.attributes.keys() <= {"rel", "version"}


def _is_plain(element: Element, tags: Collection[str]) -> bool:
    """Whether it says nothing but texts with these names, each once."""
    found = [child.tag for child in element.children]
    bare = not any(child.children or child.attributes for child in element.children)
    return bare and not element.attributes and not element.text and {*found} <= {*tags} and len({*found}) == len(found)


def _asides(element: Element, carried: Sequence[Element]) -> Iterator[Aside]:
    """Those in it, but for those that are carried with what has no place."""
    for piece in element.content:
        if isinstance(piece, Aside):
            yield piece
        elif isinstance(piece, Element) and not any(piece is one for one in carried):
            yield from _asides(piece, carried)


def _author(author: Author) -> Element:
    return Element("author", attributes={"cat": author.part}, content=[_text(*fact) for fact in author.facts])


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
