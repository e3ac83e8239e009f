"""Where what an OPKG has for roots goes: `files/common`, `files/server`, `files/client`, and each for one init."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.opkgs.phases import Side


def in_root(paths: Iterable[str], side: Side) -> dict[str, str]:
    """Absolute path in the root of a side -> path in the OPKG's folder, of `paths` there, which are for one init.

    What is for that side goes over what is for both, and what is for one init over what is for all.
    """
    places = {path: path.split("/")[1] for path in paths if path.startswith("files/")}
    found = {}
    for part in ("common", side):
        for place in (part, *sorted({its for its in places.values() if its.startswith(f"{part}-")})):
            found.update({path.removeprefix(f"files/{place}"): path for path, its in places.items() if its == place})
    return found
