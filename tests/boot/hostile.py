"""An OPKG whose scripts put links in place of every folder that builders touch, to folders of the machine outside.

Whoever builds with it must neither change anything outside nor carry anything of it into an artifact.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.boot.checkout import Checkout

#: What no artifact may hold.
SECRET = b"a secret of the machine outside"

#: Folders that builders write to, read, mount or copy, the deepest first: a link must not hide the next one.  In place
#: of /usr/lib/oscar one ends the build at once, since the scripts of others are gone.
_FOLDERS = (
    "boot/grub",
    "boot",
    "etc/systemd/network",
    "etc/oscar",
    "etc/default",
    "var/lib/systemimager",
    "home",
    "srv",
    "opt",
    "root",
    "mnt",
    "var/log",
    "var/tmp",
    "etc",
)

_CONFIG = """<oscar><name>hostile</name><class>third-party</class><summary>links that lead out</summary>
<changelog><versionEntry version="1.0-1"/></changelog></oscar>
"""
#: Every other link is relative, with more `..` than there are folders.  What was there lies beside, for what boots.
_SCRIPT = """#!/bin/sh
outside={outside}
number=0
for folder in {folders}; do
    case $((number % 2)) in
        0) target=$outside/$folder ;;
        *) target=../../../../../../../../../..$outside/$folder ;;
    esac
    number=$((number + 1))
    [ ! -e "/$folder" ] || mv "/$folder" "/$folder.was"
    ln -s "$target" "/$folder"
done
ln -s "$outside/secret" /usr/share/secret
ln -s "$outside/secret" /boot.was/initrd.img-link
"""


@contextlib.contextmanager
def outside(project: Checkout, base: str) -> Iterator[Outside]:
    """The OPKG in a cluster `odd` that is else like `base`; the folder can be reached and written to by anybody."""
    with tempfile.TemporaryDirectory(prefix="outside-") as folder:
        yield Outside(project, base, Path(folder))


class Outside:
    """A folder of the machine with all that the links point at, and the OPKG that makes them."""

    def __init__(self, project: Checkout, base: str, folder: Path) -> None:
        self.project = project
        self.folder = folder
        opkgs = tomllib.loads((project.folder / f"recipes/clusters/{base}.toml").read_text())["opkgs"]
        project.write_cluster("odd", f'extends = "{base}"\nopkgs = {json.dumps([*opkgs, "hostile"])}\n')
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "secret").write_bytes(SECRET)
        (folder / "secret").write_bytes(SECRET)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o777)  # nothing but the builders' own care keeps them out
        scripts = project.folder / "recipes/opkgs/hostile/scripts"
        scripts.mkdir(parents=True)
        (scripts.parent / "config.xml").write_text(_CONFIG)
        for name in ("server-post-install", "client-post-install"):
            (scripts / name).write_text(_SCRIPT.format(outside=folder, folders=" ".join(_FOLDERS)))
            (scripts / name).chmod(0o755)
        self._before = self.listing()

    def listing(self) -> list[tuple[str, int, int, bytes]]:
        found = []
        for path in sorted(self.folder.rglob("*")):
            status = path.lstat()
            found.append((str(path), status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b""))
        return found

    def assert_untouched(self) -> None:
        """Build all that is made of the OPKG's layer, then look outside and into what was made."""
        tasks = ("headnode:odd", "disk:odd/head", "image:odd")
        for task in tasks:
            run = self.project.doit(task)
            told = [event["message"] + event["hint"] for event in run.events if event["event"] == "failed"]
            assert run.status == 0 or any("/home" in text or "link" in text for text in told), run.output
            assert "Traceback" not in run.output
        assert self.listing() == self._before
        for kind in ("headnode", "disk-head", "image", "opkgs-head", "opkgs-compute"):
            for file in (self.project.own / "odd" / kind / "files").glob("*"):
                assert SECRET not in _bytes(file), file
        cleared = self.project.run(self.project.command("clean", *tasks))  # gigabytes that no other test needs
        assert cleared.returncode == 0, cleared.stderr


def _bytes(file: Path) -> bytes:
    if file.suffix != ".zst":
        return file.read_bytes()
    return subprocess.run(["zstd", "-dc", file], check=True, capture_output=True).stdout
