"""Which RPM packages there will be: solved by libsolv, without network, in the index of the distribution.

The same index, base and request give the same lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.mistakes import did_you_mean
from pipeline.packages import lock
from pipeline.packages.rpm import comps, metadata
from pipeline.packages.rpm.comps import Group, Member
from pipeline.packages.rpm.index import LIST
from pipeline.packages.rpm.solving import Repositories, Wish
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: resolve the requested packages and groups, on top of the `base` locks if there are any."""
    index = job.input("index").path
    folders = {name: index / name for name in json.loads((index / LIST).read_bytes())}
    base = [item for item in job.inputs if item.role == "base"]
    there = [package for item in base for package in lock.read(item.file(lock.NAME))]
    architecture = str(job.params["architecture"])
    digests = ("sha256", "sha1") if job.params.get("sha1") else ("sha256",)
    repositories = Repositories(folders, architecture, there, job.params.get("excluded", ()), digests)
    asked: Mapping[str, str] = job.params["packages"]
    groups = _groups(folders, architecture) if any(text.startswith("@") for text in asked) else {}
    wishes, conditional = _wishes(asked, groups, repositories, job)
    weak = bool(job.params.get("weak"))
    found = repositories.solve(wishes, weak=weak) if wishes else []
    names = {one.name for one in found} | {package.name for package in there}
    if more := [wish for member, wish in conditional if member.requires in names]:
        found = repositories.solve([*wishes, *more], weak=weak)
    lock.write(job.out / lock.NAME, repositories.locked(found))


def _groups(folders: Mapping[str, Path], architecture: str) -> dict[str, Group]:
    """The groups of all repositories; of one id the members of all."""
    found: dict[str, Group] = {}
    for name, folder in folders.items():
        if (folder / "comps").exists():
            with (folder / "comps").open("rb") as stream:
                content = b"".join(metadata.decompressed(stream))
            for id, group in comps.read(content, architecture, name).items():
                before = found[id].members if id in found else ()
                found[id] = Group(id, group.name, tuple(dict.fromkeys((*before, *group.members))))
    return found


def _wishes(
    asked: Mapping[str, str], groups: Mapping[str, Group], repositories: Repositories, job: Job
) -> tuple[list[Wish], list[tuple[Member, Wish]]]:
    """All that is wished for, and what of groups depends on what else there is."""
    wishes: list[Wish] = []
    conditional: list[tuple[Member, Wish]] = []
    for text, asker in asked.items():
        if not text.startswith("@"):
            wishes.append(Wish(text, asker))
            continue
        group = groups.get(text[1:])
        if group is None:
            raise BuildError(
                f"there is no group {text} ({asker}){did_you_mean(text[1:], groups)}",
                hint=f"the groups of the repositories {', '.join(repositories.names)}: {', '.join(sorted(groups))}",
            )
        for member in group.members:
            if not repositories.has(member.name):
                job.note(f"{job.step.task}: {member.name} of the group {text} is in no repository; passed over")
            elif member.kind == "conditional":
                conditional.append((member, Wish(member.name, f"group {text}")))
            else:
                wishes.append(Wish(member.name, f"group {text}"))
    return list(_once(wishes)), conditional


def _once(wishes: Sequence[Wish]) -> list[Wish]:
    return list({wish.text: wish for wish in wishes}.values())
