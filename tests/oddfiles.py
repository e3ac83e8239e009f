"""Files of all odd kinds, made by the one script that virtual machines are tried with too."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".pl")


def make(folder: Path) -> None:
    """Make them in `folder`, which is new."""
    subprocess.run(["perl", SCRIPT, folder], check=True, timeout=30)
