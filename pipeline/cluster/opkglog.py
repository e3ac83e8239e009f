"""What scripts of OPKGs, and the tools that install packages, have said on machines that run: one file in the cluster's
run folder."""

from __future__ import annotations

import time
from pathlib import Path

LOG = "opkgs.log"


def log(run_dir: Path, what: str, said: str) -> Path:
    """Keep what a script or tool has said; where it is kept."""
    path = run_dir / LOG
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"--- {when} {what}\n{said.rstrip()}\n")
    return path
