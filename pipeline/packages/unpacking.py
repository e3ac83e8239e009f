"""What unpacks packages into a root that is not one yet: in there, so that no link of a package leads out of it.

A package may bring a link in place of a folder, as /var/run to /run, and the next one files for that folder; tar would
write them below this machine's /run.  In a root with nothing in it no program runs, so this one gets all that it needs
from outside before it makes the root its own.  Started by its file name, as `python -I -S unpacking.py ROOT`, with a
JSON list of files and the places where a tar stream begins in them as its input.
"""

# Importing pathlib would take longer than unpacking a package.
# ruff: noqa: PTH103, PTH108, PTH119, PTH120

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import tarfile
from collections.abc import Iterator

#: How it tells of two packages of which one has a file where the other one has a folder: path, package, package.
IN_THE_WAY = "in the way: "


def main(root: str) -> None:
    """Unpack the streams in their order."""
    with contextlib.ExitStack() as stack:
        files = [(stack.enter_context(open(path, "rb")), offset) for path, offset in json.load(sys.stdin)]
        for places in (sys.path, sys.meta_path):  # whatever Python still wanted to import would be the root's own
            places.clear()
        os.chroot(root)
        os.chdir("/")
        owners: dict[str, str] = {}
        for file, offset in files:
            fcntl.flock(file, fcntl.LOCK_SH)  # whoever still writes it has it alone
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r|", encoding="utf-8", errors="surrogateescape", errorlevel=2) as tar:
                tar.extraction_filter = lambda member, path: member  # whole, set-user-id bits and all
                tar.extractall("/", _in_place(tar, os.path.basename(file.name), owners), numeric_owner=True)


def _in_place(tar: tarfile.TarFile, name: str, owners: dict[str, str]) -> Iterator[tarfile.TarInfo]:
    """The members, each when its place is free: a file that is there is not written to, but replaced.

    `owners` are the packages that have brought what there is, by its path; the one of `tar` is called `name`.
    """
    for member in tar:
        path = os.path.normpath("/" + member.name.lstrip("/"))
        try:
            if member.isdir():
                if not os.path.lexists(path):
                    os.makedirs(path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            there = path
            while there not in owners and there != "/":
                there = os.path.dirname(there)
            sys.exit(f"{IN_THE_WAY}{there} {owners.get(there, name)} {name}")
        yield member
        while path not in owners:  # it, and the folders in which it stands
            owners[path] = name
            path = os.path.dirname(path)


if __name__ == "__main__":
    main(sys.argv[1])
