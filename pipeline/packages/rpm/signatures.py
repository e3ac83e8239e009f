"""Signatures: who may sign a distribution's metadata and packages, and whether they did.

The keys are those of the recipe, as files of OpenPGP keys in ASCII or binary; nothing of the host's own is believed.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.run import run
from pipeline.step import Job

_BEGIN = re.compile(rb"-----BEGIN PGP (?:PUBLIC KEY BLOCK|SIGNATURE)-----\s*")
#: Packages that rpmkeys(8) looks at in one call.
_AT_ONCE = 200


@dataclass(frozen=True)
class Keys:
    """The keys of a distribution; `files` are where they lie."""

    files: tuple[Path, ...]

    @classmethod
    def of(cls, job: Job) -> Keys:
        """Those of a step; raises BuildError for a file that holds none."""
        found = tuple(job.recipes / str(path) for path in job.params["keys"])
        for file in found:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise BuildError(
                    f"the keys {file} are missing: {error.strerror}", hint="name the distribution's keys in its recipe"
                ) from None
            if not _binary(content):
                raise BuildError(f"{file} holds no OpenPGP keys", hint="name the distribution's keys in its recipe")
        return cls(found)

    def require(self, content: bytes, signature: bytes, what: str) -> None:
        """Raise BuildError unless one of them has signed it."""
        with tempfile.TemporaryDirectory() as folder:
            ring, data, signed = (Path(folder) / name for name in ("keys.gpg", "data", "data.sig"))
            ring.write_bytes(b"".join(_binary(file.read_bytes()) for file in self.files))
            data.write_bytes(content)
            signed.write_bytes(_binary(signature) or signature)
            done = run(["gpgv", "--keyring", ring, signed, data], check=False, timeout=60)
        if done.status != 0:
            raise BuildError(
                f"{what}: its metadata are not signed by a key of the recipe",
                tail=done.stderr,
                hint="add the key that signs them to the recipe, if it can be trusted; or use another mirror",
            )

    def require_packages(self, files: Sequence[Path], log: Path) -> None:
        """Raise BuildError unless every package carries a good signature by one of them, and is whole."""
        with tempfile.TemporaryDirectory() as folder:
            words: list[str | Path] = ["rpmkeys", "--define", f"_dbpath {folder}", "--define", "_keyring rpmdb"]
            run([*words, "--import", *self.files], log=log, timeout=60)
            for first in range(0, len(files), _AT_ONCE):
                part = files[first : first + _AT_ONCE]
                checks = [*words, "--define", "_pkgverify_level all", "--checksig", *part]
                done = run(checks, check=False, timeout=600)
                with log.open("a") as file:
                    file.write(done.stdout + done.stderr)
                if done.status != 0:
                    bad = [line for line in done.stdout.splitlines() if line.endswith("NOT OK")]
                    raise BuildError(
                        f"not signed by a key of the recipe: {len(bad) or 'some'} of {len(part)} packages",
                        tail="\n".join(line.rpartition("/")[2] for line in bad[:12]),
                        hint="add the key that signs them to the recipe, if it can be trusted; or use another mirror",
                        log=log,
                    )


def _binary(content: bytes) -> bytes:
    """OpenPGP packets, from ASCII or as they are; nothing where it is neither (RFC 4880, 6.2 and 4.2)."""
    if content[:1] >= b"\x80":
        return content
    try:
        return b"".join(base64.b64decode(b"".join(block)) for block in _armored(content))
    except ValueError:
        return b""


def _armored(content: bytes) -> Iterator[list[bytes]]:
    """The lines of each block that has an end, without its headers and its checksum."""
    lines = iter(content.splitlines())
    for line in lines:
        if not _BEGIN.fullmatch(line):
            continue
        for header in lines:
            if not header.strip():
                break
        block: list[bytes] = []
        for each in lines:
            if each.startswith(b"-----END"):
                yield block
                break
            if not each.startswith(b"="):
                block.append(each)
