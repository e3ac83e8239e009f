"""Lists of OSCAR's in a manifest: `{ list = "FILE" }` among the entries of a list stands for what the file lists.

- Package lists of OSCAR and SystemInstaller (.rpmlist, .pkglist): a name a line, # begins a comment, each counts once.
- Package sets of OSCAR (XML): the OPKGs in it.
- Disk files of SystemInstaller (.disk): `device size fstype mount options [bootable]`, sizes in MB, `*` = what is left.

Which it is, is told by where it stands: `opkgs`, `filesystems`, or any other list, which is one of packages.  A mistake
is told with the line of the file in which it is.  Lines may end as on any system; text is UTF-8, or has a mark at its
beginning, or an encoding that XML declares; in comments, of which nobody takes anything, any letters may stand.
Sources: SystemInstaller's Package.pm and mksidisk(1); OSCAR's share/package_sets.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from pipeline.manifests import loader
from pipeline.manifests.loader import Document
from pipeline.mistakes import Key, Mistake, fail, quoted, shown
from pipeline.opkgs import document as xml

#: A line's number, and what it lists: text, or a table.
Entry = tuple[int, Any]

_PARTITION = re.compile(r"/dev/((?:h|s|v|xv)d[a-z]+)([1-9][0-9]{0,2})")
#: What is on no partition: SystemInstaller's own list (Partition.pm, get_id).
_ELSEWHERE = frozenset(
    (
        "auto", "bdev", "debugfs", "devpts", "eventpollfs", "futexfs", "hugetlbfs", "inotifyfs", "mqueue", "nfs",
        "nfs4", "pipefs", "proc", "ramfs", "rootfs", "rpc_pipefs", "securityfs", "sockfs", "subdomainfs", "sysfs",
        "tmpfs", "usbfs",
    )
)  # fmt: skip
#: What is made here, or stands for that.
_MADE = frozenset(("ext2", "ext3", "ext4", "swap", "_bootfs_", "_rootfs_"))
#: How XML begins, whatever its encoding is.
_XML = re.compile(rb"[\xef\xbb\xbf\xff\xfe\0\s]*<")


def expand(document: Document) -> tuple[list[Path], list[Mistake]]:
    """Put the entries of lists in their places: the files that were read, and warnings of what was passed over."""
    files: list[Path] = []
    warnings: list[Mistake] = []

    def walk(value: Any, key: Key) -> None:
        if isinstance(value, dict):
            for name, below in value.items():
                walk(below, (*key, name))
        elif isinstance(value, list):
            if any(_is_list(entry) for entry in value):
                files.extend(_expand(document, value, key, warnings))
            else:
                for index, entry in enumerate(value):
                    walk(entry, (*key, index))

    walk(document.data, ())
    return files, warnings


def _is_list(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() == {"list"} and isinstance(entry["list"], str)


def _expand(document: Document, value: list[Any], key: Key, warnings: list[Mistake]) -> Iterator[Path]:
    read = _READERS.get(str(key[-1]), packages)
    result: list[Any] = []
    known: set[str] = set()
    old: dict[int, list[Key]] = {}
    for path in [path for path in document.places if len(path) > len(key) and path[: len(key)] == key]:
        old.setdefault(int(path[len(key)]), []).append(path)
    places: dict[Key, tuple[Path, int]] = {}
    for index, entry in enumerate(value):
        if not _is_list(entry):
            for path in old.get(index, []):
                places[(*key, len(result), *path[len(key) + 1 :])] = document.places[path]
            known.add(_same(entry))
            result.append(entry)
            continue
        file = Path(loader.relative_to_file(document, entry["list"]))
        yield file
        for line, item in read(file, warnings):
            if _same(item) not in known:  # each counts once
                known.add(_same(item))
                places[(*key, len(result))] = (file, line)
                result.append(item)
    for paths in old.values():
        for path in paths:
            del document.places[path]
    document.places.update(places)
    value[:] = result


def _same(entry: Any) -> str:
    """What is alike for entries that are the same."""
    return entry if isinstance(entry, str) else repr(entry)


def packages(file: Path, warnings: list[Mistake]) -> Iterator[Entry]:
    """The names in a package list, as they stand."""
    for number, name in _lines(file):
        if name.startswith("/"):  # OSCAR's own lists have one, and its installer passes it over
            warnings.append(Mistake(shown(file), number, "", f"{quoted(name)} is a path and no package; passed over"))
        else:
            yield number, name


def opkgs(file: Path, warnings: list[Mistake]) -> Iterator[Entry]:
    """The OPKGs of a package set; one that is no XML is a list of names."""
    if not _XML.match(loader.content_of(file)):
        yield from packages(file, warnings)
        return
    root = xml.parse(file).root
    if root.tag != "package_set":
        text = f"{quoted(root.tag)} is no package set; expected the root element package_set"
        fail([Mistake(shown(file), root.line, "", text)])
    for part in root.all("packages"):
        for child in part.children:
            if child.tag == "opkg":
                if not child.text:
                    fail([Mistake(shown(file), child.line, child.tag, "no name; expected the name of an OPKG")])
                yield child.line, child.text
            else:
                warnings.append(Mistake(shown(file), child.line, child.tag, "not known here; passed over"))


def filesystems(file: Path, warnings: list[Mistake]) -> Iterator[Entry]:
    """The partitions of a disk file, in the order of their numbers."""
    found: list[tuple[int, int, dict[str, str]]] = []
    disks: set[str] = set()
    for number, line in _lines(file):
        words = line.partition("#")[0].split()
        refuse: Callable[[str], NoReturn] = _refusing(file, number)
        if re.fullmatch(r"\w+=.*", words[0]) or re.fullmatch(r"raid\d+", words[0]):
            refuse(f"{quoted(words[0])} cannot be made here yet; expected partitions of one disk alone")
        device, size, kind, *more = [*words, "", "", ""][: max(len(words), 3)]
        kind = kind.lower()
        match = _PARTITION.fullmatch(device)
        if kind in _ELSEWHERE:
            warnings.append(Mistake(shown(file), number, "", f"{kind} is no partition; passed over"))
            continue
        if kind == "extended":
            warnings.append(
                Mistake(shown(file), number, "", "an extended partition is made where one is needed; passed over")
            )
            continue
        if match is None:
            refuse(f"{quoted(device)} is no partition of a disk; expected one like /dev/sda1")
        disks.add(match[1])
        if len(disks) > 1:
            refuse(f"{quoted(device)} is on another disk; expected one disk alone")
        if any(int(match[2]) == other for other, _, _ in found):
            refuse(f"{quoted(device)} is there twice; expected each once")
        if not re.fullmatch(r"[1-9]\d{0,8}|\*", size):
            refuse(f"{quoted(size)} is no size; expected a number of MB, or * for what is left")
        mount = "swap" if kind == "swap" else more[0] if more else ""
        if not mount:
            refuse("no mount point; expected: device size fstype mount options")
        if kind not in _MADE:
            text = f"{quoted(kind)} is not made here; it becomes a file system like the others of the distribution"
            warnings.append(Mistake(shown(file), number, "", text))
        if kind != "swap" and more[1:] and more[1] not in ("defaults", "-"):
            warnings.append(Mistake(shown(file), number, "", f"options {quoted(more[1])} are not acted upon"))
        found.append((int(match[2]), number, {"mount": mount, "size": "fill" if size == "*" else f"{size}M"}))
    for _, number, table in sorted(found, key=lambda one: one[0]):
        yield number, table


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that say something, without blanks around it, each with its number."""
    raw = loader.content_of(file).removeprefix(codecs.BOM_UTF8)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            raw = raw.decode("utf-16").encode()
        except UnicodeDecodeError:
            _refusing(file, 1)("it begins as UTF-16 text, and is none; expected the encoding UTF-8")
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", raw), 1):
        if line.lstrip().startswith(b"#"):
            continue
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            _refusing(file, number)("not UTF-8 text; expected the encoding UTF-8")
        if text:
            yield number, text


def _refusing(file: Path, number: int) -> Callable[[str], NoReturn]:
    def refuse(text: str) -> NoReturn:
        fail([Mistake(shown(file), number, "", text)])

    return refuse


_READERS: dict[str, Callable[[Path, list[Mistake]], Iterator[Entry]]] = {
    "opkgs": opkgs,
    "filesystems": filesystems,
}
