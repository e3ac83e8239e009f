"""What OPKGs bring to a machine that runs, as one tar stream: `NAME/home/` is an OPKG's own folder, `NAME/root/` what
it has for the machine's root, and `.packages/` are files of packages.

It holds what builders put into roots (`install`): owner root, the modes that the plan says are kept, one time for all.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipeline.guests.guest import Init
from pipeline.kept import Kept
from pipeline.opkgs import folders, phases
from pipeline.opkgs.model import Opkg
from pipeline.opkgs.phases import Side
from pipeline.opkgs.places import in_root
from pipeline.sandbox import SOURCE_DATE_EPOCH


def archive(
    opkgs: Sequence[Opkg],
    side: Side,
    init: Init,
    packages: Iterable[Path] = (),
    secrets: Mapping[str, Path] = MappingProxyType({}),
) -> bytes:
    """The stream for one side of a system with that init.  `packages` are files, of which several may have the same
    name and then are the same; `secrets` are where those lie that these OPKGs declare, by the path that they get."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for opkg in opkgs:
            for name, (source, kept) in {**_home(opkg, side, init), **_root(opkg, side, init)}.items():
                _add(tar, f"{opkg.name}/{name}", source, kept)
            for secret in opkg.secrets:
                _add(tar, f"{opkg.name}/root{secret.path}", secrets[secret.path], Kept("file", 0o600))
        for source in {path.name: path for path in packages}.values():
            _add(tar, f".packages/{source.name}", source, Kept("file", 0o644))
    return stream.getvalue()


def scripts(opkg: Opkg) -> list[str]:
    """The phases that have a script, by today's name."""
    return [phase.name for phase in phases.PHASES if opkg.script(phase.name)]


def _content(opkg: Opkg, side: Side, init: Init) -> dict[str, tuple[Path, Kept]]:
    """By path in the OPKG's folder."""
    top = Path("opkgs", opkg.name)
    recipes = opkg.folder.parent.parent
    return {
        str(Path(path).relative_to(top)): (recipes / path, Kept.parse(kept))
        for path, kept in folders.content(opkg, side, init)
    }


def _home(opkg: Opkg, side: Side, init: Init) -> dict[str, tuple[Path, Kept]]:
    """Its folder; a phase's script has today's name as well."""
    found = {f"home/{path}": item for path, item in _content(opkg, side, init).items()}
    for phase in phases.PHASES:
        script = opkg.script(phase.name)
        if script and f"home/{script}" in found:
            found[f"home/scripts/{phase.name}"] = found[f"home/{script}"]
    return found


def _root(opkg: Opkg, side: Side, init: Init) -> dict[str, tuple[Path, Kept]]:
    """What is for the machine's root."""
    content = _content(opkg, side, init)
    return {f"root{target}": content[path] for target, path in in_root(content, side).items()}


def _add(tar: tarfile.TarFile, name: str, source: Path, kept: Kept) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = kept.mode, SOURCE_DATE_EPOCH
    if kept.kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, kept.content
        tar.addfile(member)
    elif kept.kind == "folder":
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    else:
        member.size = source.stat().st_size
        with source.open("rb") as file:
            tar.addfile(member, file)
