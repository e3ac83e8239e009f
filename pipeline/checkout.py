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
from pathlib import Path

_FOLDER = "checkouts"
#: Of a checkout's name: odd characters in the paths of its clusters would be one more thing that tools stumble over.
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LENGTH = 40


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
