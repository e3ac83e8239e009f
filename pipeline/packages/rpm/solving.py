"""libsolv, as dnf sets it: which packages go together, and in words why not.

Source: libdnf's goal.cpp and sack.cpp for the flags; libsolv's bindings (bindings/README).
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import solv

from pipeline.errors import BuildError
from pipeline.packages import lock
from pipeline.packages.lock import LockedPackage
from pipeline.packages.rpm import architectures, metadata

_NAMESPACES = 'xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"'
_COMMON = "{http://linux.duke.edu/metadata/common}"
#: A path of names that are no more than names, and how large a package can be, in bytes.
_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+~^-]{0,250}/)*[A-Za-z0-9][A-Za-z0-9._+~^-]{0,250}")
_LARGEST = 1 << 34
#: As OSCAR's lists may name an architecture; no name of a package has a colon in it.
_COLON = re.compile(r"^([^:(/<>=]+):([a-z0-9_]+)(?=[<>=]|$)")
#: With the prefixes that libsolv looks for.
ET.register_namespace("", _COMMON.strip("{}"))
ET.register_namespace("rpm", "http://linux.duke.edu/metadata/rpm")


@dataclass(frozen=True)
class Wish:
    """What is asked for, as "name", "name.arch" or "name>=1.2", and by whom."""

    text: str
    asker: str

    def __str__(self) -> str:
        return f"{self.text} ({self.asker})" if self.asker else self.text


class Repositories:
    """All repositories of an index; `base` are packages that are there already, which stay as they are."""

    def __init__(
        self, folders: Mapping[str, Path], architecture: str, base: Iterable[LockedPackage] = (),
        excluded: Sequence[str] = (), digests: Sequence[str] = ("sha256",),
    ) -> None:  # fmt: skip
        """`digests` are the checksums of packages that are good enough, by hashlib's names."""
        self._digests = digests
        self.names = list(folders)
        self._own = architectures.OWN[architecture]
        self._folders = folders
        self._pool = solv.Pool()
        self._pool.setdisttype(solv.Pool.DISTTYPE_RPM)
        self._pool.setarch(self._own[0])
        # packages of two architectures are no rivals: what one obsoletes is of its own colour
        self._pool.set_flag(solv.Pool.POOL_FLAG_IMPLICITOBSOLETEUSESCOLORS, 1)
        for name, folder in folders.items():
            repository = self._pool.add_repo(name)
            self._add(repository, folder / "primary", 0)
            self._add(repository, folder / "filelists", solv.Repo.REPO_EXTEND_SOLVABLES)
        self._base = [package.name for package in base]
        if self._base:
            installed = self._pool.add_repo("@base")
            with tempfile.NamedTemporaryFile(suffix=".xml") as file:
                texts = "".join(package.text for package in base)
                file.write(f"<metadata {_NAMESPACES}>{texts}</metadata>".encode())
                file.flush()
                self._load(installed, Path(file.name), 0)
            for folder in folders.values():  # which files they have, of those that a repository still has
                self._add(installed, folder / "filelists", solv.Repo.REPO_EXTEND_SOLVABLES)
            self._pool.installed = installed
        self._pool.addfileprovides()
        self._pool.createwhatprovides()
        self._leave_out(excluded)

    def has(self, name: str) -> bool:
        """Whether there is a package of that name."""
        return not self._pool.select(name, solv.Selection.SELECTION_NAME).isempty()

    def closest(self, name: str) -> list[str]:
        """Names of packages that are there, to find one that is meant."""
        return sorted({one.name for one in self._pool.solvables})

    def solve(self, wishes: Sequence[Wish], *, weak: bool) -> list[Any]:
        """The packages to install for them; `weak`: with what they recommend, too."""
        jobs = [job for wish in wishes for job in self._jobs(wish)]
        solver = self._pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 0 if weak else 1)
        solver.set_flag(solv.Solver.SOLVER_FLAG_ALLOW_VENDORCHANGE, 1)
        solver.set_flag(solv.Solver.SOLVER_FLAG_BEST_OBEY_POLICY, 1)
        problems = solver.solve(jobs)
        if problems:
            raise _together(problems, wishes)
        transaction = solver.transaction()
        gone = [one for one in transaction.steps() if one.isinstalled()] if self._base else []
        if gone:
            raise BuildError(
                f"{', '.join(sorted(str(one) for one in gone))} of the base root would have to be replaced for "
                f"{', '.join(map(str, wishes))}",
                hint="change what is asked for, or give your own package to the cluster",
            )
        return list(transaction.newsolvables())

    def locked(self, solvables: Sequence[Any]) -> Iterator[LockedPackage]:
        """These packages as a lock has them."""
        texts = {name: self._texts(name, [one for one in solvables if one.repo.name == name]) for name in self.names}
        called: dict[str, str] = {}
        for one in solvables:
            location = _location(one)
            file = posixpath.basename(location)
            if file in called:
                raise _odd(one, f"its file is called {file}, as that of {called[file]} is")
            called[file] = str(one)
            size = one.lookup_num(solv.SOLVABLE_DOWNLOADSIZE)
            if not 0 < size < _LARGEST or location not in texts[one.repo.name]:
                raise _odd(one, f"it says {size} bytes of {location}")
            checksum = one.lookup_checksum(solv.SOLVABLE_CHECKSUM)
            if checksum is None or checksum.typestr() not in self._digests:
                raise BuildError(
                    f"{one}: no SHA-256 in the metadata of {one.repo.name}",
                    hint="nobody can tell whether its file is right: another mirror, or newer metadata"
                    + ("; sha1 = true in the recipe takes SHA-1" if checksum and checksum.typestr() == "sha1" else ""),
                )
            known = {"sha256": "", checksum.typestr(): checksum.hex()}
            epoch, version, release = lock.parts(one.evr)
            yield LockedPackage(
                one.name,
                epoch,
                version,
                release,
                architecture=one.arch,
                archive=one.repo.name,
                path=location,
                size=size,
                text=texts[one.repo.name][location],
                **known,
            )

    def _jobs(self, wish: Wish) -> list[Any]:
        flags = solv.Selection.SELECTION_NAME | solv.Selection.SELECTION_DOTARCH | solv.Selection.SELECTION_REL
        selection = self._pool.select(_spaced(wish.text), flags)
        if selection.isempty():  # with its version and perhaps its architecture, as `dnf install` takes it too
            selection = self._pool.select(wish.text, solv.Selection.SELECTION_CANON)
        if selection.isempty():  # a capability or a file, as `Requires` may name as well
            flags = solv.Selection.SELECTION_PROVIDES | solv.Selection.SELECTION_REL
            selection = self._pool.select(_spaced(wish.text), flags)
        if selection.isempty():
            raise BuildError(
                f"there is no package {wish}",
                hint=f"searched the repositories {', '.join(self.names)}; `doit update` brings their newest metadata",
            )
        # a name means the machines' own architecture, where there is such a package; as dnf has it (multilib_policy)
        own = [one.id for one in selection.solvables() if one.arch in (*self._own, "noarch")]
        if not own or any(f".{name}" in wish.text for name in self._own):
            return list(selection.jobs(solv.Job.SOLVER_INSTALL))
        how = solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE_ONE_OF
        return [self._pool.Job(how, self._pool.towhatprovides(own))]

    def _leave_out(self, excluded: Sequence[str]) -> None:
        considered = self._pool.Selection_all()
        for name in excluded:
            considered.subtract(self._pool.select(name, solv.Selection.SELECTION_NAME | solv.Selection.SELECTION_GLOB))
        left = considered.solvables()
        superseded = self._superseded(left) if len(self._own) > 1 else set()
        if excluded or superseded:
            self._pool.set_considered_list([one.id for one in left if one.id not in superseded])
            self._pool.createwhatprovides()

    def _superseded(self, packages: Sequence[Any]) -> set[int]:
        """Those that are older than one of another of the machines' own architectures: libsolv would keep to the better
        architecture (i686) before the newer version, and call the other one inferior."""
        newest: dict[str, Any] = {}
        there = [one for one in packages if one.arch in self._own and not one.isinstalled()]
        for one in sorted(there, key=lambda one: self._own.index(one.arch)):
            if one.name not in newest or one.evrcmp(newest[one.name]) > 0:
                newest[one.name] = one
        return {one.id for one in there if self._own.index(one.arch) < self._own.index(newest[one.name].arch)}

    def _add(self, repository: Any, file: Path, flags: int) -> None:
        with _plain(file) as plain:
            self._load(repository, plain, flags)

    @staticmethod
    def _load(repository: Any, file: Path, flags: int) -> None:
        stream = solv.xfopen(str(file))
        if stream is None or not repository.add_rpmmd(stream, None, flags):
            raise BuildError(
                f"the metadata of {repository.name} cannot be read",
                hint="the repository must be mended, or another one used",
            )
        stream.close()

    def _texts(self, name: str, wanted: Sequence[Any]) -> dict[str, str]:
        """What the metadata of a repository say of these packages, by location, in their own form."""
        places = {_location(one) for one in wanted}
        found: dict[str, str] = {}
        if not places:
            return found
        with _plain(self._folders[name] / "primary") as file:
            for _, element in ET.iterparse(file):
                if element.tag == f"{_COMMON}package":
                    location = element.find(f"{_COMMON}location")
                    place = posixpath.normpath(location.get("href", "") if location is not None else "")
                    if place in places:
                        found[place] = ET.tostring(element, encoding="unicode").strip()
                    element.clear()
        return found


def _location(package: Any) -> str:
    """Where its file is, below its repository; raises BuildError for what could lead elsewhere, or be taken for another
    word by a program that gets it."""
    path = posixpath.normpath(package.lookup_location()[0] or "")
    if package.lookup_str(solv.SOLVABLE_MEDIABASE) or not path.endswith(".rpm") or not _PATH.fullmatch(path):
        raise _odd(package, f"its file is said to be {path!r}")
    return path


def _odd(package: Any, why: str) -> BuildError:
    return BuildError(
        f"{package}: {why}, in the metadata of {package.repo.name}",
        hint="the repository must be mended, or another one used",
    )


@contextlib.contextmanager
def _plain(file: Path) -> Iterator[Path]:
    """A file of metadata decompressed: libsolv's bindings read no zstd."""
    with file.open("rb") as stream, tempfile.NamedTemporaryFile(suffix=".xml") as plain:
        for piece in metadata.decompressed(stream):
            plain.write(piece)
        plain.flush()
        yield Path(plain.name)


def _spaced(text: str) -> str:
    """ "name>=1.2" and "name:arch" as libsolv wants them: with spaces, and a dot."""
    text = _COLON.sub(r"\1.\2", text)
    for operator in (">=", "<=", ">", "<", "="):
        name, sign, version = text.partition(operator)
        if sign and version:
            return f"{name.strip()} {operator} {version.strip()}"
    return text


def _together(problems: Iterable[Any], wishes: Sequence[Wish]) -> BuildError:
    """Why they do not go together, in libsolv's words, each once."""
    reasons: dict[str, None] = {}
    for problem in problems:
        for rule in problem.findallproblemrules():
            reasons.update(dict.fromkeys(info.problemstr() for info in rule.allinfos()))
    text = "\n".join(reasons)
    asked = [wish for wish in wishes if wish.text.partition(">")[0].partition("=")[0] in text] or list(wishes)
    named = ", ".join(map(str, asked)) if len(asked) < 12 else "those that are asked for"
    return BuildError(
        f"these packages do not go together: {named}",
        tail=text,
        hint="the packages are those of the distribution's recipe and of the OPKGs",
    )
