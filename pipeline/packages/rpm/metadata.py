"""A repository's metadata: `repodata/repomd.xml`, and the files that it names, in whichever way they are compressed.

Source: createrepo(8), and librpm's and libsolv's readers: `repomd` > `data type=...` > `location`, `checksum`.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from pipeline.errors import BuildError

REPOMD = "repodata/repomd.xml"

#: Bytes: no repository's list of metadata is that long, and no file of it when it is decompressed.
LONGEST_REPOMD, _LONGEST = 1 << 20, 2 << 30
_NAMESPACE = "{http://linux.duke.edu/metadata/repo}"
_BASE = "{http://www.w3.org/XML/1998/namespace}base"
#: What is wanted of a repository, by the names that it may have there, the best first.
KINDS: dict[str, tuple[str, ...]] = {
    "primary": ("primary",),
    "filelists": ("filelists",),
    "comps": ("group", "group_gz", "group_xz", "group_zst"),
    "modules": ("modules",),
}
#: What must be there.
REQUIRED = ("primary", "filelists")
#: Old repositories say "sha" and mean SHA-1.
_DIGESTS = {"sha": "sha1", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "md5": "md5"}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


@dataclass(frozen=True)
class File:
    """One file of metadata: where it is below the repository, and the checksum that it must have."""

    path: str
    algorithm: str
    digest: str

    def fits(self, content: bytes) -> bool:
        return hashlib.new(self.algorithm, content).hexdigest() == self.digest


def files(repomd: bytes, where: str) -> dict[str, File]:
    """What a `repomd.xml` names of what is wanted; raises BuildError for one that is none.  `where` is for messages."""
    try:
        root = parsed(repomd)
    except ValueError as error:
        raise _no_repository(where, f"its {REPOMD} is no XML: {error}") from None
    named: dict[str, File] = {}
    for data in root.iter(f"{_NAMESPACE}data"):
        location, checksum = data.find(f"{_NAMESPACE}location"), data.find(f"{_NAMESPACE}checksum")
        if location is None or checksum is None:
            continue
        path, algorithm = location.get("href", ""), _DIGESTS.get(checksum.get("type", ""), "")
        if not algorithm or location.get(_BASE) or path.startswith("/") or ".." in path.split("/") or "://" in path:
            raise _no_repository(where, f"its {REPOMD} names {data.get('type')} in a way that is not known")
        named[data.get("type", "")] = File(path, algorithm, (checksum.text or "").strip().lower())
    found = {kind: named[name] for kind, names in KINDS.items() if (name := next(filter(named.get, names), ""))}
    missing = [kind for kind in REQUIRED if kind not in found]
    if missing:
        raise _no_repository(where, f"its {REPOMD} names no {' and no '.join(missing)}")
    return found


class _Elements(ET.TreeBuilder):
    """No text that stands for other text: a few lines of it can stand for more than memory holds."""

    def doctype(self, *_: object) -> None:
        raise ValueError("it declares a type of its own")


def parsed(content: bytes) -> ET.Element:
    """A small XML document that somebody else wrote; raises ValueError for what is none."""
    parser = ET.XMLParser(target=_Elements())
    try:
        parser.feed(content)
        root: ET.Element = parser.close()
        return root
    except (ET.ParseError, LookupError) as error:
        raise ValueError(str(error)) from None


def decompressed(stream: IO[bytes]) -> Iterator[bytes]:
    """The content of a file of metadata in pieces, whichever way it is compressed; raises ValueError where it is
    damaged, or larger than any metadata."""
    first = stream.read(8)
    stream.seek(0)
    kind = next((name for magic, name in _MAGIC if first.startswith(magic)), "")
    readers: dict[str, Callable[[IO[bytes]], Any]] = {
        "zstd": lambda raw: zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True),
        "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
        "xz": lzma.LZMAFile,
        "bzip2": bz2.BZ2File,
    }
    reader = readers[kind](stream) if kind else stream
    whole = 0
    try:
        while piece := reader.read(1 << 20):
            whole += len(piece)
            if whole > _LONGEST:
                raise ValueError("larger than any metadata")
            yield piece
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise ValueError(f"damaged: {error}") from None


def _no_repository(where: str, why: str) -> BuildError:
    return BuildError(
        f"{where} is no repository of RPM packages: {why}",
        hint="a repository is the folder that holds `repodata`: correct the mirror, or the repository's path",
    )
