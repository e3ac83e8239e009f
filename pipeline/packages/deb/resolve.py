"""Which packages of Debian there will be: resolved by a private apt, without network, in its own index.

The same index, base and request give the same lock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from pipeline.errors import BuildError
from pipeline.packages import lock
from pipeline.packages.deb.apt import Apt, complaint
from pipeline.packages.deb.relations import Relation
from pipeline.packages.deb.stanzas import Index, Stanza
from pipeline.packages.deb.wishes import Choice, Chooser, Wish
from pipeline.packages.lock import LockedPackage
from pipeline.run import Completed
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: resolve the requested packages, on top of the `base` locks if there are any, into `lock.json`."""
    index = Index(job.input("index").path)
    base = _base(job)
    asked: Mapping[str, str] = job.params["packages"]
    wishes = [Wish.parse(text, asker, str(job.params["architecture"])) for text, asker in asked.items()]
    if base is None:
        wishes += [Wish(Relation(name)) for name in index.minimal()]
    lock.write(job.out / lock.NAME, _resolve(job, index, wishes, base or []) if wishes else [])


def _base(job: Job) -> list[LockedPackage] | None:
    locks = [lock.read(item.file(lock.NAME)) for item in job.inputs if item.role == "base"]
    return [package for packages in locks for package in packages] if locks else None


def _resolve(job: Job, index: Index, wishes: Sequence[Wish], base: Sequence[LockedPackage]) -> list[LockedPackage]:
    chooser = Chooser(index, {package.name: package.evr for package in base})
    choice = chooser.choose(wishes)
    plan = _planned(job, choice, base, 1)
    if (plan.status != 0 or _changed(plan, chooser.base)) and (wider := chooser.widened(choice)).pins != choice.pins:
        plan = _planned(job, wider, base, 2)
    if plan.status != 0:
        raise _together(complaint(plan.stdout + plan.stderr), wishes, index)
    if changed := _changed(plan, chooser.base):
        names = ", ".join(f"{name} {chooser.base[name]}" for name in changed)
        raise BuildError(
            f"{names} of the base root would have to be replaced for {_listed(wishes)}",
            hint="change what is asked for, or give your own .deb to the cluster",
        )
    return [_entry(index.at(name, path), archive) for archive, path, name in _brought(plan)]


def _brought(plan: Completed) -> list[tuple[str, str, str]]:
    """What apt would fetch: archive, path there, and the package's name."""
    return [
        (match[1], unquote(match[2]), unquote(match[3]).partition("_")[0])
        for match in re.finditer(r"^'http://([^/']+)/([^']+)' (\S+) (\d+)", plan.stdout, re.MULTILINE)
    ]


def _changed(plan: Completed, base: Mapping[str, str]) -> list[str]:
    """The packages of the base that apt would replace: what lies on top of a root changes nothing below."""
    return [name for _, _, name in _brought(plan) if name in base]


def _planned(job: Job, choice: Choice, base: Sequence[LockedPackage], number: int) -> Completed:
    """What apt would fetch; its exit status says whether all goes together."""
    folder = job.input("index").path
    lists = job.work / f"lists-{number}"
    lists.mkdir()
    for file in (folder / "lists").iterdir():
        (lists / file.name).symlink_to(file)
    status = "\n".join(package.text.replace("\n", "\nStatus: install ok installed\n", 1) for package in base)
    apt = Apt(
        job.work / f"apt-{number}",
        architecture=str(job.params["architecture"]),
        lists=lists,
        status=status,
        sources=(folder / "sources.list").read_text().splitlines(),
        preferences=choice.preferences,
    )
    return apt.get("install", "--print-uris", *choice.words, timeout=120)


def _together(reasons: str, wishes: Sequence[Wish], index: Index) -> BuildError:
    """apt's reasons, and who asked for the packages that they begin with."""
    if broken := re.match(r"E: (?:Repository is broken: \S+ \S+ \S+ )?(.*)", reasons):
        return BuildError(
            f"the archive's index is not good: {broken[1]}",
            tail=reasons,
            hint=f"whoever makes the archive must mend it; searched {index.searched}",
        )
    named = set(re.findall(r"^ (\S+) : ", reasons, re.MULTILINE))
    asked = [wish for wish in wishes if wish.name in named and wish.asker] or wishes
    return BuildError(
        f"these packages do not go together: {_listed(asked)}",
        tail=reasons,
        hint=f"searched {index.searched}; the packages are those of the distribution's recipe and of the OPKGs",
    )


def _listed(wishes: Sequence[Wish]) -> str:
    return ", ".join(map(str, wishes)) if len(wishes) < 12 else "those that are asked for"


def _entry(stanzas: Sequence[Stanza], archive: str) -> LockedPackage:
    """A package of the lock, from the one stanza that the index has for it."""
    stanza, digest = stanzas[0], stanzas[0].get("SHA256").lower()
    what = f"{stanza.name} {stanza.version}"
    if len({one.get("SHA256") for one in stanzas}) > 1:
        raise BuildError(
            f"the archive contradicts itself: its index has different files as {what}, with the same name",
            hint="nobody can tell which is meant: the archive must be mended, or another one used",
            tail="\n".join(f"{one.get('Filename')} SHA-256 {one.get('SHA256')}" for one in stanzas),
        )
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise BuildError(
            f"{what}: no SHA256 in the archive's index, so nobody can tell whether its file is right",
            hint="whoever makes the archive must list it (dpkg-scanpackages and apt-ftparchive do)",
        )
    return LockedPackage(
        stanza.name,
        *lock.parts(stanza.version),
        architecture=stanza.get("Architecture"),
        archive=archive,
        path=stanza.get("Filename"),
        size=int(stanza.get("Size")),
        sha256=digest,
        text=stanza.text,
    )
