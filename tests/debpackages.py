"""Real, tiny Debian packages for tests."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path


def make(
    folder: Path, name: str, version: str = "1.0", *, depends: str = "", files: dict[str, str] | None = None
) -> Path:
    """Build NAME_VERSION_all.deb in `folder` with dpkg-deb and return its path."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        (root / "DEBIAN").mkdir(parents=True)
        root.chmod(0o755)
        (root / "DEBIAN").chmod(0o755)
        fields = {
            "Package": name,
            "Version": version,
            "Architecture": "all",
            "Maintainer": "nobody <nobody@invalid>",
            **({"Depends": depends} if depends else {}),
            "Description": "made for a test",
        }
        (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        for path, text in (files or {}).items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        folder.mkdir(parents=True, exist_ok=True)
        package = folder / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, package],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1"},
        )  # the same each time
    return package
