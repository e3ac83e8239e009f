"""Debian and its kin: the archive's signed index, locks resolved by a private apt, and the packages they name.

`index` is the only step that trusts a signature; from then on everything is held by SHA-256.  `lock` is offline: the
same index, base and request give the same lock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pipeline.errors import BuildError, CommandError
from pipeline.families.deb_apt import Apt, complaint, network_options, proxies
from pipeline.families.deb_index import Index, Stanza, trimmed
from pipeline.families.deb_mirrors import Mirrors, archive_of, mirrors_for
from pipeline.families.deb_refusals import refused
from pipeline.families.deb_relations import Relation
from pipeline.families.deb_release import NAMES, Release, components_of
from pipeline.families.deb_wishes import Choice, Chooser, Wish
from pipeline.families.download import Advice, Wanted, into_pool, out_of_pool
from pipeline.run import Completed
from pipeline.step import Job

#: Seconds in which a mirror must have given out its index.
_UPDATE = 300

# --- index


def index(job: Job) -> None:
    """Fetch the signed metadata of every suite, and keep what resolving needs under names without a mirror in them."""
    mirrors = mirrors_for(job.params)
    components = [str(component) for component in job.params["components"]]
    architecture = str(job.params["architecture"])
    suites = [str(suite) for suite in job.params["suites"]]
    sources = [f"deb {mirrors.base(archive_of(suite))} {suite} {' '.join(components)}" for suite in suites]
    lists = job.work / "lists"
    apt = Apt(job.work / "apt", architecture=architecture, sources=sources, lists=lists, keyring=_keys(job),
              options=network_options())
    _update(apt, mirrors, job.log)
    fetched = _fetched(apt)
    releases = [Release.read(lists, suite) for suite in suites]
    found = components_of(releases, components, architecture, fetched, f"{mirrors.main} (from {mirrors.origin})")
    (job.out / "lists").mkdir()
    for release in releases:
        # as apt names them for a host called like the archive
        prefix = job.out / "lists" / f"{archive_of(release.suite)}_dists_{release.suite.replace('/', '_')}_"
        for name in NAMES:
            if (file := Path(f"{release.stem}{name}")).exists():
                shutil.copyfile(file, f"{prefix}{name}")
        for component in found[release.suite]:
            kept = [file.read_bytes() for file in fetched.get((release.suite, component), ()) if file.exists()]
            Path(f"{prefix}{component.replace('/', '_')}_binary-{architecture}_Packages").write_bytes(
                b"\n".join(map(trimmed, kept)))
    (job.out / "sources.list").write_text("".join(
        f"deb [trusted=yes] http://{archive_of(suite)} {suite} {' '.join(has)}\n" for suite, has in found.items()))


def _fetched(apt: Apt) -> dict[tuple[str, str], list[Path]]:
    """The Packages files of each suite and component: archives may have one of their own for "all" architectures."""
    targets = apt.get("indextargets", "--format", "$(RELEASE) $(COMPONENT) $(FILENAME)", "Created-By: Packages",
                      timeout=30).stdout
    found: dict[tuple[str, str], list[Path]] = {}
    for suite, component, file in (line.split(" ", 2) for line in targets.splitlines()):
        found.setdefault((suite, component), []).append(Path(file))
    return found


def _keys(job: Job) -> bytes:
    """The keys that may sign the archive."""
    keyring = job.recipes / str(job.params["keyring"])
    try:
        keys = keyring.read_bytes()
    except OSError as error:
        raise BuildError(f"keyring {keyring} is missing: {error.strerror}",
                         hint="install the package debian-archive-keyring, or name another `keyring` in the recipe"
                         ) from None
    if keys.startswith(b"-----BEGIN PGP PUBLIC KEY"):
        return keys.replace(b"\r\n", b"\n")  # apt reads no other ends of lines
    if keys[:1] < b"\x80":  # an OpenPGP packet begins so
        raise BuildError(f"{keyring} is no keyring: it holds no OpenPGP keys",
                         hint="name the file of the archive's keys in the recipe: `keyring`")
    return keys


def _update(apt: Apt, mirrors: Mirrors, log: Path) -> None:
    """Have apt fetch all indexes and check their signatures."""
    try:
        update = apt.get("update", "--error-on=any", timeout=_UPDATE)
    except CommandError:
        raise BuildError(f"the mirror has not given out its index after {_UPDATE} s: {mirrors.main} (from "
                         f"{mirrors.origin})", hint="check the network and the proxy (http_proxy), or use another "
                                                    "mirror") from None
    said = update.stdout + update.stderr
    with log.open("a") as file:
        file.write(said)
    if update.status != 0:
        raise refused(complaint(said), mirrors, log)


# --- lock


def lock(job: Job) -> None:
    """Resolve the requested packages, on top of the `base` lock if there is one, into `lock.json`."""
    index = Index(job.input("index").path)
    base = _base(job)
    asked: Mapping[str, str] = job.params["packages"]
    wishes = [Wish.parse(text, asker, str(job.params["architecture"])) for text, asker in asked.items()]
    if base is None:
        wishes += [Wish(Relation(name)) for name in index.minimal()]
    packages = _resolve(job, index, wishes, base or []) if wishes else []
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


def _resolve(job: Job, index: Index, wishes: Sequence[Wish], base: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    chooser = Chooser(index, {package["name"]: package["version"] for package in base})
    choice = chooser.choose(wishes)
    plan = _planned(job, choice, base, 1)
    if (plan.status != 0 or _changed(plan, chooser.base)) and (wider := chooser.widened(choice)).pins != choice.pins:
        plan = _planned(job, wider, base, 2)
    if plan.status != 0:
        raise _together(complaint(plan.stdout + plan.stderr), wishes, index)
    if changed := _changed(plan, chooser.base):
        names = ", ".join(f"{name} {chooser.base[name]}" for name in changed)
        raise BuildError(f"{names} of the base root would have to be replaced for {_listed(wishes)}",
                         hint="change what is asked for, or give your own .deb to the cluster")
    packages = [_entry(index.at(name, path), archive) for archive, path, name in _brought(plan)]
    return sorted(packages, key=lambda package: (package["name"], package["architecture"]))


def _brought(plan: Completed) -> list[tuple[str, str, str]]:
    """What apt would fetch: archive, path there, and the package's name."""
    return [(match[1], unquote(match[2]), unquote(match[3]).partition("_")[0])
            for match in re.finditer(r"^'http://([^/']+)/([^']+)' (\S+) (\d+)", plan.stdout, re.MULTILINE)]


def _changed(plan: Completed, base: Mapping[str, str]) -> list[str]:
    """The packages of the base that apt would replace: what lies on top of a root changes nothing below."""
    return [name for _, _, name in _brought(plan) if name in base]


def _planned(job: Job, choice: Choice, base: Sequence[dict[str, Any]], number: int) -> Completed:
    """What apt would fetch; its exit status says whether all goes together."""
    folder = job.input("index").path
    lists = job.work / f"lists-{number}"
    lists.mkdir()
    for file in (folder / "lists").iterdir():
        (lists / file.name).symlink_to(file)
    status = "\n".join(package["stanza"].replace("\n", "\nStatus: install ok installed\n", 1) for package in base)
    apt = Apt(job.work / f"apt-{number}", architecture=str(job.params["architecture"]), lists=lists, status=status,
              sources=(folder / "sources.list").read_text().splitlines(), preferences=choice.preferences)
    return apt.get("install", "--print-uris", *choice.words, timeout=120)


def _together(reasons: str, wishes: Sequence[Wish], index: Index) -> BuildError:
    """apt's reasons, and who asked for the packages that they begin with."""
    if broken := re.match(r"E: (?:Repository is broken: \S+ \S+ \S+ )?(.*)", reasons):
        return BuildError(f"the archive's index is not good: {broken[1]}", tail=reasons,
                          hint=f"whoever makes the archive must mend it; searched {index.searched}")
    named = set(re.findall(r"^ (\S+) : ", reasons, re.MULTILINE))
    asked = [wish for wish in wishes if wish.name in named and wish.asker] or wishes
    return BuildError(f"these packages do not go together: {_listed(asked)}", tail=reasons,
                      hint=f"searched {index.searched}; the packages are those of the distribution's recipe and of the "
                           "OPKGs")


def _listed(wishes: Sequence[Wish]) -> str:
    return ", ".join(map(str, wishes)) if len(wishes) < 12 else "those that are asked for"


def _entry(stanzas: Sequence[Stanza], archive: str) -> dict[str, Any]:
    """A package of the lock, from the one stanza that the index has for it."""
    stanza, digest = stanzas[0], stanzas[0].get("SHA256").lower()
    what = f"{stanza.name} {stanza.version}"
    if len({one.get("SHA256") for one in stanzas}) > 1:
        raise BuildError(f"the archive contradicts itself: its index has different files as {what}, with the same name",
                         hint="nobody can tell which is meant: the archive must be mended, or another one used",
                         tail="\n".join(f"{one.get('Filename')} SHA-256 {one.get('SHA256')}" for one in stanzas))
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise BuildError(f"{what}: no SHA256 in the archive's index, so nobody can tell whether its file is right",
                         hint="whoever makes the archive must list it (dpkg-scanpackages and apt-ftparchive do)")
    return {"name": stanza.name, "version": stanza.version, "architecture": stanza.get("Architecture"),
            "archive": archive, "path": stanza.get("Filename"), "size": int(stanza.get("Size")),
            "sha256": digest, "stanza": stanza.text}


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
