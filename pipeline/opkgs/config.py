"""Reads an OPKG's `config.xml`, whichever generation wrote it."""

from __future__ import annotations

import dataclasses
import re
import stat
from pathlib import Path
from types import MappingProxyType

from pipeline.mistakes import Mistake, fail, shown
from pipeline.opkgs import document, generation3
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import Codenames
from pipeline.opkgs.generation3 import Generation3
from pipeline.opkgs.model import Opkg, Script
from pipeline.opkgs.older import Older


def read(
    file: Path,
    scripts: tuple[Script, ...] = (),
    tests: tuple[str, ...] = (),
    codenames: Codenames = MappingProxyType({}),
) -> Opkg:
    """The OPKG whose `config.xml` this is; its name is its folder's.  Filters may name suites by `codenames`."""
    root = document.parse(file).root
    if root.tag != "oscar":
        fail([Mistake(shown(file), root.line, root.tag, 'expected the root element "oscar"')])
    generation = _generation(root)
    reader = (Generation3 if generation == 3 else Older)(file, root, codenames)
    opkg = reader.opkg(generation, scripts, tests)
    if reader.mistakes:
        fail(reader.mistakes)
    return dataclasses.replace(opkg, warnings=tuple(reader.warnings))


def may_be_core(file: Path) -> bool:
    """Whether a file, however broken, says that its OPKG belongs to every cluster; true where nobody can tell."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # reading could take for ever
            return True
        with file.open("rb") as stream:
            text = stream.read(document.LONGEST).replace(b"\0", b"")  # of UTF-16
            return re.search(rb"<class\b[^<>]*>\s*core\s*</class", text) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _generation(root: Element) -> int:
    tags = {child.tag for child in root.children}
    if tags & generation3.OWN:
        return 3
    if "rpmlist" in tags or "url" in tags:
        return 1
    return 2 if "version" in tags or "binary-package-list" in tags else 3
