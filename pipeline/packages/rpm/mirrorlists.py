"""Lists of a repository's mirrors as distributions publish them: plain text, and metalinks.

A metalink says what the mirrors' `repomd.xml` must be, now or lately, so that a mirror is believed as far as whoever
made the metalink is.  Nothing that such a list says is taken but addresses on the web and checksums.
Source: dnf.conf(5), `mirrorlist` and `metalink`; librepo's metalink.c; Fedora's MirrorManager, which makes them.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import BuildError
from pipeline.packages.given import SCHEMES, scheme_of
from pipeline.packages.rpm import metadata
from pipeline.packages.rpm.metadata import File

#: Bytes of the longest list, and the mirrors of it that are asked: some dozens in all Fedora has for one country.
LONGEST, _MOST = 1 << 20, 8

_METALINK = "{http://www.metalinker.org/}"
_ALTERNATE = "{http://fedorahosted.org/mirrormanager}alternate"
#: The checksums that nobody can forge, the strongest first, and their digits.
_STRONG = {"sha512": 128, "sha256": 64}
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[\w.~%+-]*)*", re.ASCII)


@dataclass(frozen=True)
class Listed:
    """The mirrors, the best first, and what their `repomd.xml` may be (none = anything)."""

    mirrors: tuple[str, ...]
    repomd: tuple[File, ...] = ()


def plain(content: bytes, where: str) -> Listed:
    """A mirror list: one address a line; raises BuildError where it has none.  `where` is for messages."""
    lines = (line.strip() for line in content.decode("utf-8-sig", "replace").splitlines())
    return Listed(_some((line for line in lines if not line.startswith("#")), where))


def metalink(content: bytes, where: str) -> Listed:
    """A metalink of a `repomd.xml`; raises BuildError for what is none, or has no strong checksums."""
    try:
        root = metadata.parsed(content)
    except ValueError as error:
        raise _unfit(where, f"it is no metalink: {error}") from None
    file = next((one for one in root.iter(f"{_METALINK}file") if one.get("name") == "repomd.xml"), None)
    if file is None:
        raise _unfit(where, "it is no metalink of a repomd.xml")
    known = [_strongest(one) for one in (file, *file.iter(_ALTERNATE))]
    if known[0] is None:
        raise _unfit(where, "it has neither a SHA-256 nor a SHA-512 of repomd.xml")
    found = file.iterfind(f"{_METALINK}resources/{_METALINK}url")
    ordered = sorted(found, key=lambda one: -int(_digits(one.get("preference"))))
    ending = f"/{metadata.REPOMD}"
    texts = ((one.text or "").strip() for one in ordered)
    mirrors = _some((text.removesuffix(ending) for text in texts if text.endswith(ending)), where)
    return Listed(mirrors, tuple(one for one in known if one))


def _strongest(element: ET.Element) -> File | None:
    """The checksum that is said of a file, or of what it was before."""
    said = {
        one.get("type", ""): (one.text or "").strip().lower()
        for one in element.iterfind(f"{_METALINK}verification/{_METALINK}hash")
    }
    for algorithm, digits in _STRONG.items():
        if re.fullmatch(f"[0-9a-f]{{{digits}}}", said.get(algorithm, "")):
            return File(metadata.REPOMD, algorithm, said[algorithm])
    return None


def _digits(text: str | None) -> str:
    return text if text and re.fullmatch("[0-9]{1,9}", text) else "0"


def _some(texts: Iterator[str], where: str) -> tuple[str, ...]:
    """The first that are addresses of web servers; rsync and ftp stand in such lists as well."""
    found: dict[str, None] = {}
    for text in texts:
        if _URL.fullmatch(text) and scheme_of(text) in SCHEMES:
            found[text.rstrip("/")] = None
        if len(found) == _MOST:
            break
    if not found:
        raise _unfit(where, "it names no mirror on the web")
    return tuple(found)


def _unfit(where: str, why: str) -> BuildError:
    return BuildError(
        f"{where}: {why}",
        hint="correct the address in the distribution's recipe; a login page of the network also answers so",
    )
