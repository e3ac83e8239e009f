"""What belongs to one checkout, and what several that name the same artifacts folder share.

The store, the pool and the cache are everybody's: what lies there is known by its content.  What is known by a name
alone, as running clusters, their secrets, reports, logs and links, is a checkout's own; for every checkout has a
`debian12`, and none may end or take over another's.

In an artifacts folder that lies in a checkout, that checkout's own things are at the top, so that whoever shares
nothing finds all in one place.  Those of any other checkout are in `ARTIFACTS/checkouts/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import unicodedata
from pathlib import Path

from pipeline.errors import UserError

_FOLDER = "checkouts"
#: Of a checkout's name: odd characters in the paths of its clusters would be one more thing that tools stumble over.
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LENGTH = 40
#: What a cluster's namespaces have of their own (`hosts/init.sh`): nothing of the host's is seen there.
_HIDDEN = ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
#: Bytes; QEMU takes names of 1023 for what lies below an overlay (qcow2.rst, backing_file_size), and entries of the
#: store have longer ones than it.
_LONGEST = 900


def require_usable(top: Path, artifacts: Path) -> None:
    """Raise UserError for a checkout or artifacts folder where nothing can be made or run; both paths are resolved."""
    for what, place in (("this checkout", top), ("the artifacts folder", artifacts)):
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in str(place)):
            raise UserError(
                f"{what} lies below a folder with a line break or the like in its name: {str(place)!r}",
                hint="rename that folder: lists and definitions of machines are texts, in UTF-8",
            )
    if ":" in str(top):
        raise UserError(
            f"{top}: a checkout cannot lie below a folder with a colon in its name",
            hint="rename that folder: in PATH and PYTHONPATH a colon parts folders",
        )
    for hidden in _HIDDEN:
        if artifacts.is_relative_to(hidden):
            raise UserError(
                f"{artifacts}: artifacts cannot lie below {hidden}, of which machines see another one",
                hint="XEN_OSCAR_ARTIFACTS=FOLDER puts them elsewhere",
            )
    length = len(bytes(artifacts))
    if length > _LONGEST:
        raise UserError(
            f"{str(artifacts)[:80]}...: the path of the artifacts folder has {length} bytes, and machines "
            f"find their disks below one of at most {_LONGEST}",
            hint="XEN_OSCAR_ARTIFACTS=FOLDER puts artifacts elsewhere",
        )


def own_folder(top: Path, artifacts: Path) -> Path:
    """Where the checkout at `top` keeps what is its own; both paths are resolved."""
    if artifacts.parent == top:
        return artifacts
    mark = hashlib.sha256(bytes(top)).hexdigest()[:8]
    return artifacts / _FOLDER / f"{_ODD.sub('-', top.name)[:_LENGTH]}-{mark}"


def own_folders(artifacts: Path) -> list[Path]:
    """Where all that use this artifacts folder keep what is their own."""
    return [artifacts, *sorted((artifacts / _FOLDER).glob("*"))]


def is_lost(own: Path) -> bool:
    """Whether the checkout whose folder this is is no longer where it was."""
    try:
        return not Path((own / "checkout").read_text().rstrip("\n")).exists()
    except OSError:
        return False


def sign(top: Path, artifacts: Path) -> None:
    """Note whose folder it is where that is not plain: for people, and for whoever cleans up after a lost checkout."""
    folder = own_folder(top, artifacts)
    if folder != artifacts and not (folder / "checkout").exists():
        with contextlib.suppress(OSError):  # a store that may only be read: whoever needs to write will say so
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "checkout").write_text(f"{top}\n")
