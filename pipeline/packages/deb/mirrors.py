"""Which mirrors of the Debian archive to use: the recipe's, the environment's, or those this host uses itself.

An archive is one of two trees: `main` (the releases and their updates) and `security`.  Locks and indexes name the
archive and never the mirror, so they are the same wherever they were made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.packages.given import SCHEMES, NoSource, places_of, scheme_of, variable_of

VARIABLE = "XEN_OSCAR_MIRROR"
_HINT = (
    f"set `mirror` in the recipe of the distribution, or {VARIABLE}=URL in the environment "
    "(a second URL, after a space, for the security archive; a space in a URL is %20)"
)
_ONE_LINE = re.compile(r"deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s*(.*)")


@dataclass(frozen=True)
class Mirrors:
    """Base URLs of the two archives, without a slash at the end, and where they were read."""

    main: str
    security: str
    origin: str

    def base(self, archive: str) -> str:
        """The base URL of an archive by its name."""
        return self.security if archive == "security" else self.main


@dataclass(frozen=True)
class _Source:
    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    file: Path


def archive_of(suite: str) -> str:
    """The archive that a suite lies in."""
    return "security" if suite.endswith(("-security", "/updates")) else "main"


def mirrors_for(params: Mapping[str, Any], etc: Path = Path("/etc/apt")) -> Mirrors:
    """The mirrors for the distribution `distro` with these `suites` and this `mirror` ("" = not given).

    The host's own mirror serves other releases as well, so a Debian host of any release will do.
    """
    distro = str(params["distro"])
    for origin, text in (
        (variable_of(distro), " ".join(places_of(distro))),
        ("the recipe", str(params.get("mirror", ""))),
        (VARIABLE, os.environ.get(VARIABLE, "")),
    ):
        if text.strip():
            return _given(text, origin)
    suites = [str(suite) for suite in params["suites"]]
    sources = list(_host_sources(etc))
    main = _best([source for source in sources if not _is_security(source)], suites)
    if main is None:
        raise NoSource(f"no mirror of Debian is known: {etc} names none", hint=_HINT)
    security = _best([source for source in sources if _is_security(source)], suites)
    return Mirrors(main.uri, security.uri if security else _security_beside(main.uri), str(main.file))


def bases(params: Mapping[str, Any]) -> list[str]:
    """The base URLs of the mirrors for a distribution, of which only `mirror` need be known."""
    mirrors = mirrors_for({"suites": [], **params})
    return [mirrors.main, mirrors.security]


def releases(recipe: Mapping[str, Any]) -> list[str]:
    """The URL of the signed release that a distribution begins with, none where its recipe names no suite."""
    suites = recipe.get("suites")
    return [f"{mirrors_for(recipe).main}/dists/{suites[0]}/InRelease"] if suites else []


def _given(text: str, origin: str) -> Mirrors:
    words = [word.rstrip("/") for word in text.split()]
    for word in words:
        if scheme_of(word) not in SCHEMES:
            raise UserError(f"{origin}: mirror {word!r} is no URL of {', '.join(SCHEMES)}", hint=_HINT)
    return Mirrors(words[0], words[1] if len(words) > 1 else _security_beside(words[0]), origin)


def _security_beside(main: str) -> str:
    """Where mirrors keep the security archive: a folder beside the main one."""
    return f"{main}-security"


def _is_security(source: _Source) -> bool:
    return any(archive_of(suite) == "security" for suite in source.suites) or source.uri.endswith("-security")


def _best(sources: Sequence[_Source], suites: Sequence[str]) -> _Source | None:
    """The source that is most surely Debian's archive: one for these very suites, else one that lies in `debian`."""
    for source in sources:
        if set(source.suites) & set(suites):
            return source
    for source in sources:
        if source.uri.rpartition("/")[2] in ("debian", "debian-security"):
            return source
    return None


def _host_sources(etc: Path) -> Iterator[_Source]:
    """Where this host's apt gets binary packages of the component `main`, in its order."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix not in (".list", ".sources"):
            continue
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for source in _deb822(text, file) if file.suffix == ".sources" else _one_line(text, file):
            if "main" in source.components and scheme_of(source.uri) in SCHEMES:
                yield source


def _one_line(text: str, file: Path) -> Iterator[_Source]:
    for line in text.splitlines():
        if match := _ONE_LINE.fullmatch(line.partition("#")[0].strip()):
            yield _Source(match[1].rstrip("/"), (match[2].rstrip("/"),), tuple(match[3].split()), file)


def _deb822(text: str, file: Path) -> Iterator[_Source]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if not line[:1].isspace():
                name, _, line = line.partition(":")
            fields.setdefault(name.strip().lower(), []).extend(line.split())
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"]) == ["no"]:
            continue
        for uri in fields.get("uris", []):
            suites = tuple(suite.rstrip("/") for suite in fields.get("suites", []))
            yield _Source(uri.rstrip("/"), suites, tuple(fields.get("components", [])), file)
