"""Debian and its kin: the archive's signed index, locks resolved by a private apt, and the packages they name.

`index` is the only step that trusts a signature; from then on everything is held by SHA-256.  `lock` is offline: the
same index, base and request give the same lock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pipeline.errors import BuildError
from pipeline.families.deb_apt import Apt, complaint, network_options, proxies
from pipeline.families.deb_index import Index, Stanza, trimmed
from pipeline.families.deb_mirrors import Mirrors, archive_of, mirrors_for
from pipeline.families.download import Advice, Wanted, into_pool, out_of_pool
from pipeline.run import run
from pipeline.step import Job

_WISH = re.compile(r"([a-z0-9][a-z0-9+.-]*)\s*(?:\(?\s*(<=|>=|<<|>>|=|<|>)\s*([^\s)]+)\s*\)?)?")
_RELATIONS = {"<": "lt", "<<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">": "gt", ">>": "gt"}


# --- index


def index(job: Job) -> None:
    """Fetch the signed metadata of every suite, and keep what resolving needs under names without a mirror in them."""
    mirrors = mirrors_for(job.params)
    keyring = job.recipes / str(job.params["keyring"])
    if not keyring.exists():
        raise BuildError(f"keyring {keyring} is missing", hint="install the package debian-archive-keyring, or name "
                                                               "another `keyring` in the recipe")
    components = [str(component) for component in job.params["components"]]
    suites = [str(suite) for suite in job.params["suites"]]
    sources = [f"deb [signed-by={keyring}] {mirrors.base(archive_of(suite))} {suite} {' '.join(components)}"
               for suite in suites]
    lists = job.work / "lists"
    apt = Apt(job.work / "apt", architecture=str(job.params["architecture"]), sources=sources, lists=lists,
              options=network_options())
    update = apt.get("update", "--error-on=any", timeout=300)
    with job.log.open("a") as log:
        log.write(update.stdout + update.stderr)
    if update.status != 0:
        raise _index_error(complaint(update.stdout + update.stderr), mirrors, job.log)
    (job.out / "lists").mkdir()
    targets = apt.get("indextargets", "--format", "$(RELEASE) $(COMPONENT) $(FILENAME)", "Created-By: Packages",
                      timeout=30).stdout
    for line in targets.splitlines():
        suite, component, name = line.split(" ", 2)
        _keep(Path(name), job.out / "lists", suite, component, str(job.params["architecture"]))
    if len(list((job.out / "lists").glob("*_Packages"))) != len(suites) * len(components):
        raise BuildError(f"{mirrors.main}: it has not all of {', '.join(components)} in {', '.join(suites)}",
                         hint="correct `suites` and `components` in the recipe", log=job.log)
    (job.out / "sources.list").write_text("".join(
        f"deb [trusted=yes] http://{archive_of(suite)} {suite} {' '.join(components)}\n" for suite in suites))


def _keep(packages: Path, folder: Path, suite: str, component: str, architecture: str) -> None:
    """Store a Packages file and its suite's release file as apt names them for a host called like the archive."""
    part = f"_{component.replace('/', '_')}_binary-{architecture}_Packages"
    prefix = f"{archive_of(suite)}_dists_{suite.replace('/', '_')}"
    if not packages.exists():  # apt keeps no empty file
        (folder / f"{prefix}{part}").write_bytes(b"")
    else:
        (folder / f"{prefix}{part}").write_bytes(trimmed(packages.read_bytes()))
    for release in ("InRelease", "Release", "Release.gpg"):
        source = packages.with_name(f"{packages.name.removesuffix(part)}_{release}")
        if source.exists():
            shutil.copyfile(source, folder / f"{prefix}_{release}")


def _index_error(tail: str, mirrors: Mirrors, log: Path) -> BuildError:
    where = f"{mirrors.main} (from {mirrors.origin})"
    if re.search(r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|KEYEXPIRED|not signed|weren't valid|invalid signature"
                 r"|couldn't be verified|no longer signed|NODATA", tail):
        return BuildError(f"the mirror's signature is not good: {where}", tail=tail, log=log,
                          hint="the recipe's `keyring` does not belong to this archive, or the mirror is not honest; "
                               "a newer debian-archive-keyring may help")
    if re.search(r"Release file .*(expired|not valid yet)", tail):
        return BuildError(f"the mirror's index is out of date: {where}", tail=tail, log=log,
                          hint="use another mirror, check this machine's clock; for a snapshot of the past allow it in "
                               "apt's configuration (Acquire::Check-Valid-Until)")
    if re.search(r"\b40[34]\b|does not have a Release file|File not found|Couldn't find|No such file", tail):
        return BuildError(f"wrong mirror: {where} does not have this release", tail=tail, log=log,
                          hint="correct `mirror` and `suites` in the recipe; a mirror is the folder that holds `dists`")
    return BuildError(f"the mirror cannot be reached: {where}", tail=tail, log=log,
                      hint="check the network and the proxy (http_proxy); what has been built keeps working without")


# --- lock


@dataclass(frozen=True)
class _Wish:
    """A package that was asked for, and which versions will do."""

    name: str
    relation: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> _Wish:
        match = _WISH.fullmatch(text.strip())
        if match is None:
            raise BuildError(f"{text!r} is no package", hint='write "name", "name=1.2" or "name>=1.2"')
        return cls(match[1], match[2] or "", match[3] or "")

    def __str__(self) -> str:
        return self.name + self.relation + self.version

    @property
    def word(self) -> str:
        """The wish as apt takes it; other relations than `=` are checked afterwards."""
        return str(self) if self.relation == "=" else self.name

    def met_by(self, version: str) -> bool:
        """Whether a version will do."""
        if not self.relation:
            return True
        return run(["dpkg", "--compare-versions", version, _RELATIONS[self.relation], self.version],
                   check=False).status == 0


def lock(job: Job) -> None:
    """Resolve the requested packages, on top of the `base` lock if there is one, into `lock.json`."""
    folder = job.input("index").path
    index = Index(folder / "lists")
    base = _base(job)
    wishes = sorted({_Wish.parse(str(text)) for text in job.params["packages"]}, key=str)
    if base is None:
        wishes += [_Wish(name) for name in index.minimal()]
    _check_names(wishes, index, folder)
    packages = _resolve(job, index, wishes, base or []) if wishes else []
    _check_versions(wishes, [*packages, *(base or [])], index, folder)
    text = json.dumps({"packages": packages}, indent=1, sort_keys=True) + "\n"
    (job.out / "lock.json").write_text(text)


def locked(lock: Path) -> list[dict[str, Any]]:
    """The packages of a lock file: name, version, architecture, archive, path, size, sha256, stanza."""
    packages: list[dict[str, Any]] = json.loads(lock.read_bytes())["packages"]
    return packages


def _base(job: Job) -> list[dict[str, Any]] | None:
    try:
        return locked(job.input("base").file("lock.json"))
    except KeyError:
        return None


def _searched(folder: Path) -> str:
    """The suites that were searched, as a person knows them."""
    return ", ".join(f"{words[3]} ({' '.join(words[4:])})" for words in
                     (line.split() for line in (folder / "sources.list").read_text().splitlines()))


def _check_names(wishes: Sequence[_Wish], index: Index, folder: Path) -> None:
    unknown = [wish.name for wish in wishes if wish.name not in index]
    if unknown:
        said = []
        for name in unknown:
            closest = index.closest(name)
            said.append(f"{name} (did you mean {' or '.join(closest)}?)" if closest else name)
        raise BuildError(f"unknown package: {', '.join(said)}",
                         hint=f"searched {_searched(folder)}; `doit update` brings the archive's newest index")


def _check_versions(wishes: Sequence[_Wish], packages: Sequence[dict[str, Any]], index: Index, folder: Path) -> None:
    versions = {package["name"]: package["version"] for package in packages}
    for wish in wishes:
        if wish.relation and not wish.met_by(versions.get(wish.name, "0~")):
            there = ", ".join(index.versions(wish.name)) or "only packages that provide it"
            raise BuildError(f"no {wish.name} that is {wish.relation} {wish.version}: {_searched(folder)} has {there}",
                             hint="change the version that is asked for, or give your own .deb to the cluster")


def _resolve(job: Job, index: Index, wishes: Sequence[_Wish], base: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    folder = job.input("index").path
    for wish in wishes:
        if wish.relation == "=" and wish.version not in index.versions(wish.name):
            _check_versions([wish], [], index, folder)
    lists = job.work / "lists"
    lists.mkdir()
    for file in (folder / "lists").iterdir():
        (lists / file.name).symlink_to(file)
    status = "\n".join(package["stanza"].replace("\n", "\nStatus: install ok installed\n", 1) for package in base)
    apt = Apt(job.work / "apt", architecture=str(job.params["architecture"]), lists=lists, status=status,
              sources=(folder / "sources.list").read_text().splitlines())
    plan = apt.get("install", "--print-uris", *(wish.word for wish in wishes), timeout=120)
    if plan.status != 0:
        raise BuildError(f"these packages do not go together: {', '.join(str(wish) for wish in wishes)}"
                         if len(wishes) < 12 else "the packages that are asked for do not go together",
                         tail=complaint(plan.stdout + plan.stderr),
                         hint=f"searched {_searched(folder)}; the packages are those of the distribution's recipe and "
                              "of the OPKGs")
    installed = {package["name"] for package in base}
    packages = []
    for match in re.finditer(r"^'http://([^/']+)/([^']+)' (\S+) (\d+)", plan.stdout, re.MULTILINE):
        archive, path, name = match[1], unquote(match[2]), match[3].partition("_")[0]
        packages.append(_entry(index.find(name, path), archive))
        if name in installed:
            raise BuildError(f"{name} is part of the base root in another version than the archive has now",
                             hint="the base's lock and the index differ: lock the distribution anew")
    return sorted(packages, key=lambda package: (package["name"], package["architecture"]))


def _entry(stanza: Stanza, archive: str) -> dict[str, Any]:
    return {"name": stanza.name, "version": stanza.version, "architecture": stanza.get("Architecture"),
            "archive": archive, "path": stanza.get("Filename"), "size": int(stanza.get("Size")),
            "sha256": stanza.get("SHA256"), "stanza": stanza.text}


# --- fetch


def fetch(job: Job) -> None:
    """Bring every package of the lock into the pool, and show them in `packages/`."""
    packages = locked(job.input("lock").file("lock.json"))
    mirrors = mirrors_for(job.params)
    wanted = [Wanted(url=f"{mirrors.base(package['archive'])}/{quote(package['path'], safe='/+~')}",
                     name=Path(package["path"]).name, size=package["size"], sha256=package["sha256"])
              for package in packages]
    job.pool.mkdir(parents=True, exist_ok=True)
    for name, value in proxies().items():
        os.environ.setdefault(name, value)
    into_pool(wanted, job.pool, Advice(
        gone=f"the archive has moved on since this was locked: `doit update` refreshes the index (of {job.step.name})",
        unreachable=f"check the network and the mirror {mirrors.main} (from {mirrors.origin}); "
                    "what was fetched is kept, the next run goes on"), job.progress)
    out_of_pool(wanted, job.pool, job.out / "packages")
    # as `sha256sum -c` takes it; and where nothing is wanted there is still an artifact that says so
    (job.out / "SHA256SUMS").write_text("".join(f"{item.sha256}  packages/{item.name}\n" for item in wanted))
