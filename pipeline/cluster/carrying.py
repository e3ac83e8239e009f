"""What `doit try` brings to machines of each membership, as one tar stream for the head node; see `onmachine.sh`."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pipeline import inventory, listing
from pipeline.cluster.differing import Target
from pipeline.errors import BuildError
from pipeline.guests.guest import Guest
from pipeline.inventory import Entry
from pipeline.layers.cache import LIST
from pipeline.layers.stacking import LAYER

#: What names of services are like.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9@_.:-]*")


@dataclass(frozen=True)
class Load:
    """Of one membership: where its machines are brought to, the paths that are brought there or go, and the services
    that are to heed it."""

    target: Target
    paths: frozenset[str]
    services: frozenset[str]

    def brought(self) -> dict[str, Entry]:
        return {path: entry for path in sorted(self.paths) if (entry := self.target.at(path)) is not None}

    def removed(self) -> list[str]:
        """Deepest first."""
        return [path for path in sorted(self.paths, reverse=True) if self.target.at(path) is None]


def services(
    opkgs: Collection[str], files: Iterable[str], paths: Iterable[str], recipes: Path, guest: Guest
) -> frozenset[str]:
    """The names of services that OPKGs name: in what their scripts tell of services, or by files that are units or
    settings of such; and of those of which `paths` are.  `files` are those of all OPKGs, below the folder of all
    recipes.  There are other words in it: only those will count that are called like a service that runs.
    """
    own = [file for file in files if file.split("/")[1] in opkgs]
    found = {match[1] for path in (*own, *paths) if (match := re.search(guest.unit, path))}
    for file in own:
        if "/scripts/" in file and (recipes / file).is_file():
            text = (recipes / file).read_text(errors="replace").replace("\\\n", " ")
            found.update(
                word for line in text.splitlines() if re.search(guest.managing, line) for word in _WORD.findall(line)
            )
    return frozenset(name.partition(".")[0].rstrip(":-") for name in found)


def archive(loads: Iterable[Load], guest: Guest) -> bytes:
    """The stream."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for load in loads:
            top, brought, removed = load.target.membership, load.brought(), load.removed()
            for folder in (top, f"{top}/root", f"{top}/gone"):
                member = tarfile.TarInfo(folder)
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            _text(tar, f"{top}/names", "".join(f"{path}\0" for path in brought))
            _text(tar, f"{top}/removed", "".join(f"{path}\0" for path in removed))
            _text(tar, f"{top}/services", "".join(f"{name}\n" for name in sorted(load.services)))
            for path in removed:
                if re.search(guest.unit, path):
                    _text(tar, f"{top}/gone/{path}", "")
            for member, data in _members(load, brought):
                member.name = f"{top}/root/{member.name}"
                if member.islnk():
                    member.linkname = f"{top}/root/{member.linkname}"
                tar.addfile(member, data)
    return stream.getvalue()


def _text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = os.fsencode(text)
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    tar.addfile(member, io.BytesIO(data))


def _members(load: Load, brought: Mapping[str, Entry]) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase | None]]:
    """What is brought, each from the topmost layer that has it; folders on the way to it are not in it."""
    left = set(brought)
    for folder in (*reversed(load.target.upper()), *reversed(load.target.lower())):
        if not left:
            break
        there = listing.load((folder / LIST).read_text())
        mine = {path for path in left if there.get(path) is not None}
        yield from _out_of(folder, mine)
        left -= mine
    if left:
        raise BuildError(f"no layer has /{inventory.shown(min(left))}")


def _out_of(folder: Path, paths: Collection[str]) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase | None]]:
    """These members of a layer; holes are filled, and made again where it is put."""
    if not paths:
        return
    with (folder / LAYER).open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        with tarfile.open(fileobj=reader, mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in paths:
                    continue
                data = io.BytesIO(tar.extractfile(member).read()) if member.isreg() else None  # type: ignore[union-attr]
                copy = tarfile.TarInfo(name)
                copy.type = tarfile.REGTYPE if member.isreg() else member.type
                copy.mode, copy.uid, copy.gid, copy.mtime = member.mode, member.uid, member.gid, member.mtime
                copy.linkname = member.linkname
                copy.size = len(data.getbuffer()) if data else 0
                copy.pax_headers = {
                    key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
                }
                yield copy, data
