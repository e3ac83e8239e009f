"""A tiny Debian archive, made and signed on the spot, for tests of everything that reads one."""

from __future__ import annotations

import bz2
import contextlib
import email.utils
import functools
import gzip
import hashlib
import http.server
import itertools
import lzma
import os
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import zstandard

ARCHITECTURE = "amd64"
SUITE = "tiny"

_PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def deb(
    folder: Path,
    name: str,
    version: str = "1",
    *,
    files: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    **fields: str,
) -> Path:
    """Make a .deb in `folder`; `fields` are control fields, `_` for `-`."""
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = {
        "Package": name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "Nobody <nobody@example.org>",
        "Description": "for a test",
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    for script, text in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text(text)
        (tree / "DEBIAN" / script).chmod(0o755)
    for path, text in (files or {f"usr/share/{name}/data": f"{name} {version}\n"}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for path, there in (links or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(there)
    target = folder / f"{name}_{version.partition(':')[2] or version}_all.deb"
    _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(target))
    return target


@dataclass
class Archive:
    """An archive below `root` (`dists`, `pool`), signed with a key of its own."""

    root: Path
    home: Path
    keyring: Path = field(init=False)

    def __post_init__(self) -> None:
        if shutil.which("gpg") is None:
            pytest.skip("needs gnupg")
        self.keyring = self.home / "keyring.gpg"
        self.home.mkdir(mode=0o700)
        (self.root / "pool").mkdir(parents=True)
        self._gpg("--quick-generate-key", "tiny archive", "ed25519", "sign", "never")
        self._gpg("--export", "--output", str(self.keyring))

    def add(
        self,
        name: str,
        version: str = "1",
        *,
        at: str = "",
        files: Mapping[str, str] | None = None,
        scripts: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Path:
        """Put a package into the pool, or the folder `at` of it; `publish` makes it known."""
        return deb(self.root / "pool" / at, name, version, files=files, scripts=scripts, links=None, **fields)

    def publish(
        self,
        suite: str = SUITE,
        components: Mapping[str, str | None] = MappingProxyType({"main": ""}),
        *,
        release: str = "",
        suffixes: Sequence[str] = ("", ".gz"),
        sums: Sequence[str] = ("SHA256",),
        signed: str = "inline",
        by_hash: bool = False,
        plain: bool = True,
        architectures: Sequence[str] = (ARCHITECTURE,),
        edit: Callable[[str], str] = lambda text: text,
    ) -> None:
        """Write and sign the index of a suite: `components` are folders of the pool, None is an empty one.

        `release` are more lines of the Release file, `sums` its kinds of checksums; without `plain` these are for
        compressed files only; `signed` is inline, detached or no.  `edit` changes each Packages file before it is
        signed for.  Where there are several `architectures`, each has an index of its own packages.
        """
        top = self.root / "dists" / suite
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir(parents=True)
        files: dict[str, bytes] = {}
        listed: dict[str, bytes] = {}  # what is not compressed is signed for, whether it is there or not
        for (component, folder), architecture in itertools.product(components.items(), architectures):
            debs = [] if folder is None else sorted((self.root / "pool" / folder).glob("*.deb"))
            stanzas = [_stanza(file, self.root) for file in debs]
            if len(architectures) > 1:
                stanzas = [stanza for stanza in stanzas if f"Architecture: {architecture}\n" in stanza]
            text = edit("\n".join(stanzas)).encode()
            place = f"{component}/binary-{architecture}/Packages"
            files |= {f"{place}{suffix}": _PACKERS[suffix](text) for suffix in suffixes}
            listed |= {place: text} if plain else {}
        for name, data in files.items():
            target = top / name
            if by_hash:
                target = target.parent / "by-hash/SHA256" / hashlib.sha256(data).hexdigest()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        lines = release if "Codename:" in release else f"Suite: {suite}\nCodename: {suite}\n{release}"
        lines += f"Architectures: {' '.join(architectures)}\nComponents: {' '.join(components)}\n"
        lines += "Acquire-By-Hash: yes\n" if by_hash else ""
        lines += "" if "Date:" in release else f"Date: {email.utils.formatdate(usegmt=True)}\n"
        for kind in sums:
            lines += f"{kind}:\n" + "".join(
                f" {hashlib.new(kind.removesuffix('Sum').lower(), data).hexdigest()} {len(data)} {name}\n"
                for name, data in sorted((listed | files).items())
            )
        self.sign(top / "Release", lines, signed)

    def sign(self, file: Path, text: str, signed: str = "inline") -> None:
        """Write a Release file and its signature."""
        file.write_text(text)
        if signed == "inline":
            self._gpg("--clearsign", "--output", str(file.with_name("InRelease")), str(file))
            file.unlink()
        elif signed == "detached":
            self._gpg("--armor", "--detach-sign", "--output", str(file.with_name("Release.gpg")), str(file))

    def params(self, mirror: str = "", **more: Any) -> dict[str, Any]:
        """What a distribution's recipe would say of it."""
        return {
            "distro": "tiny",
            "suites": [SUITE],
            "components": ["main"],
            "architecture": ARCHITECTURE,
            "keyring": str(self.keyring),
            "mirror": mirror or f"file://{self.root}",
            **more,
        }

    def close(self) -> None:
        """End the agent that gpg started."""
        _run("gpgconf", "--homedir", str(self.home), "--kill", "all")

    def _gpg(self, *words: str) -> None:
        _run("gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--passphrase", "", *words)


#: What a mirror answers to a path: status, headers, content; None: the file.
Answer = Callable[[str], tuple[int, Mapping[str, str], bytes] | None]


@contextlib.contextmanager
def served(root: Path, answer: Answer = lambda path: None) -> Iterator[str]:
    """`root` over HTTP on the loopback, but where `answer` has another one; the base URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            other = answer(self.path)
            if other is None:
                super().do_GET()
                return
            status, headers, content = other
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def translate_path(self, path: str) -> str:
            return super().translate_path(urllib.parse.urlsplit(path).path)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _stanza(file: Path, root: Path) -> str:
    """A package's entry in the index."""
    control = _run("dpkg-deb", "--field", str(file)).decode()
    return f"{control}Filename: {file.relative_to(root)}\nSize: {file.stat().st_size}\nSHA256: {_sha256(file)}\n"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _run(*argv: str, cwd: Path | None = None) -> bytes:
    return subprocess.run(
        argv, check=True, cwd=cwd, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    ).stdout
