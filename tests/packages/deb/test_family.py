"""What machines answer with when they are asked for their packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipeline.packages.deb.family import DEB

#: As dpkg-query(1) tells packages that are whole, removed, purged, unknown, and configured half, and never unpacked.
SAID = "munge 0.5.15-2 ii \\ngone 1.0 rc \\npurged  pn \\nnever  un \\nhalf 2:1.0~rc1-1 iF \\nfoo  iHR\\nheld 1.0 hi "


def test_what_is_there_is_listed_and_what_is_not_whole_told(tmp_path: Path) -> None:
    program = tmp_path / "dpkg-query"
    program.write_text(f"#!/bin/sh\nprintf '{SAID}\\n'\n")
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"{DEB.listing}\nlist_packages"], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["munge 0.5.15-2 whole", "half 2:1.0~rc1-1 iF", "foo - iHR", "held 1.0 hi"]
