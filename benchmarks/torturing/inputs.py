"""What people, guests and archives might hand in, made by spoiling what is right: each ends in a value or in words.

Nothing may raise but a UserError (a FactsError in checks), take longer than a person waits, or tell a terminal what to
do.  Every input is made from the seed, so one that breaks something can be made again.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.measure import TOP
from benchmarks.torturing.invariants import unclean
from benchmarks.torturing.kills import Tally
from pipeline import foreign
from pipeline.checks import files
from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.errors import UserError
from pipeline.guests.debian import GUEST
from pipeline.manifests.recipes import load
from pipeline.opkgs import config, folders
from pipeline.packages.deb.family import DEB
from pipeline.packages.deb.stanzas import Stanza, trimmed
from pipeline.virt import console
from pipeline.virt.growing import Growing

#: Seconds that one input may take; what is quadratic takes minutes for the longest of them.
_LONGEST = 5.0
#: Pieces that have a meaning somewhere.
_TOKENS = (
    b"\n",
    b"\0",
    b"\x1b[2J",
    b"\x1b]52;c;",
    b"\x9b31m",
    b"\x08" * 40,
    b"\r",
    b"../../",
    b"\xff\xfe",
    b"&a;",
    b"<!ENTITY a 'b'>",
    b"[[",
    b"]]",
    b'"""',
    b"=",
    b"= 1e999",
    b"{",
    b" - ",
    b"==",
    b"STATUS ",
    b"FAIL ",
    b"READY\n",
    b"%s%n",
    "\u202egnp".encode(),
    b"99999999999999999999",
    b"-1",
    b"\t",
    b" ",
    b"",
    b"A" * 5000,
    b"(" * 300,
)
_CONSOLE = b"[    1.234567] \x1b[0;32m  OK  \x1b[0m Started \x1b]0;title\x07 ssh.service - OpenBSD.\rover\x08\x08\x08\n"
_OUTER, _INNER = "==outer==", "==inner=="
_FACTS = f"""
{_OUTER} machine node1

{_OUTER} ping
10.0.0.1 node1
status 0

{_OUTER} status
0

{_OUTER} err

{_INNER} hostname
node1

{_INNER} hardware
1
MemTotal: 400000 kB

{_INNER} addresses
2: eth0    inet 10.0.0.1/24 brd 10.0.0.255

{_INNER} blocks
vda vda 254:0 4096 0

{_INNER} mounts
20 1 254:1 / / rw - ext4 /dev/vda1 rw

{_INNER} tree
f 644 0 0 12 1763700000.5 8 1 65025:12 /etc/fstab target=a\\x20b

{_INNER} end

{_OUTER} over
"""


def feed(count: int, seed: int, tally: Tally, until: float) -> None:
    """Feed that many inputs, as many of each kind."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="torture-") as work:
        kinds = _Kinds(Path(work)).all()
        for number in range(count):
            if time.monotonic() > until:
                return
            name = list(kinds)[number % len(kinds)]
            _try(name, kinds[name], chance, tally)


def _try(name: str, kind: Callable[[random.Random], object], chance: random.Random, tally: Tally) -> None:
    state = chance.getstate()
    started = time.monotonic()
    try:
        kind(chance)
    except UserError as error:
        tally.add(f"{name} {hash(state)}", unclean(error.render().encode()))
    except FactsError:
        pass
    except Exception:
        tally.add(name, [traceback.format_exc(limit=-3)])
    seconds = time.monotonic() - started
    if seconds > _LONGEST:
        tally.add(name, [f"{seconds:.1f} s for one input"])
    tally.count(f"{name}s")


def spoiled(chance: random.Random, data: bytes) -> bytes:
    """Data with some of it changed: pieces cut out, doubled, moved, replaced by bytes that mean something."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        start = chance.randrange(len(made) + 1)
        end = min(len(made), start + chance.choice((0, 1, 1, 2, 7, 60, 400)))
        act = chance.randrange(4)
        if act == 0:
            del made[start:end]
        elif act == 1:
            made[start:end] = chance.choice(_TOKENS)
        elif act == 2:
            made[start:start] = made[start:end] * chance.choice((1, 2, 50))
        else:
            made[start:end] = chance.randbytes(end - start)
    return bytes(made)


class _Kinds:
    """The kinds of inputs; each makes one and hands it to what reads it."""

    def __init__(self, work: Path) -> None:
        self._recipes = work / "recipes"
        shutil.copytree(TOP / "recipes", self._recipes, symlinks=True)
        self._manifests = sorted(self._recipes.glob("*/*.toml"))
        self._configs = sorted(self._recipes.glob("opkgs/*/config.xml"))
        self._scratch = work / "scratch"

    def all(self) -> Mapping[str, Callable[[random.Random], object]]:
        return {
            "manifest": self._manifest,
            "config.xml": self._config,
            "OPKG folder": self._folder,
            "index": self._index,
            "console": self._console,
            "report channel": self._report,
            "fact": self._facts,
        }

    def _manifest(self, chance: random.Random) -> None:
        path = chance.choice(self._manifests)
        right = path.read_bytes()
        try:
            path.write_bytes(spoiled(chance, right))
            recipes = load(self._recipes)
            for cluster in recipes.names("clusters"):
                recipes.describe(cluster)
        finally:
            path.write_bytes(right)

    def _config(self, chance: random.Random) -> None:
        right = chance.choice(self._configs)
        folder = self._scratch / right.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.xml").write_bytes(spoiled(chance, right.read_bytes()))
        config.read(folder / "config.xml")

    def _folder(self, chance: random.Random) -> None:
        """An OPKG with a file, folder or link more, whose name and place mean something or nothing."""
        source = chance.choice(self._configs).parent
        shutil.rmtree(self._scratch, ignore_errors=True)
        folder = self._scratch / "opkgs" / source.name
        shutil.copytree(source, folder, symlinks=True)
        place = chance.choice(
            [path for path in (folder, *folder.rglob("*")) if path.is_dir() and not path.is_symlink()]
        )
        name = chance.choice(
            (
                "scripts",
                "script",
                "server-post-install",
                "a b",
                "x~",
                ".swp",
                "\u00fc",
                "new\nline",
                "back\\slash",
                "data",
                "files",
                "run",
                "tmp",
                "client",
                "\x1b[2J",
            )
        )
        path = place / name
        if not path.exists() and not path.is_symlink():
            act = chance.randrange(4)
            if act == 0:
                path.mkdir()
            elif act == 1:
                path.symlink_to(chance.choice(("..", "/etc/passwd", name, "../../../..", "config.xml", "/nowhere")))
            else:
                path.write_bytes(chance.choice((b"", b"\xef\xbb\xbf#!/bin/sh\n", b"#!/bin/sh\r\n", b"\x7fELF")))
                path.chmod(chance.choice((0o644, 0o755, 0o600, 0o4755)))
        opkg = folders.load(folder)
        for side in ("server", "client"):
            folders.content(opkg, side, "systemd")

    def _index(self, chance: random.Random) -> None:
        stanza = (
            b"Package: tool\nVersion: 1:1.0-1~x+b1\nArchitecture: amd64\nDepends: a (>= 1) | b:any, c\n"
            b"Filename: pool/t/tool_1.0_amd64.deb\nSize: 12\nSHA256: 00\nDescription: a tool\n more\n\n"
        )
        for text in trimmed(spoiled(chance, stanza * 3)).split(b"\n\n"):
            found = Stanza(text.decode(errors="replace"))
            _ = found.name, found.version, found.get("Depends")

    def _console(self, chance: random.Random) -> None:
        data = spoiled(chance, _CONSOLE * chance.choice((1, 3, 2000)))
        fatal = (*console.FATAL, *console.signs(*GUEST.fatal))
        for piece in data.split(b"\n"):
            console.find_fatal(console.strip(piece), fatal)
        told = foreign.clean(data.decode("utf-8", "replace"))
        if unclean(told.encode(errors="replace")):
            raise AssertionError(f"not clean: {told[:80]!r}")

    def _report(self, chance: random.Random) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / "report"
        path.write_bytes(b"")
        growing = Growing(path)
        for _ in range(chance.choice((1, 5))):
            with path.open("ab") as file:
                file.write(spoiled(chance, b"STATUS image 12%\nREADY\n" * chance.choice((1, 40, 4000))))
            list(growing.lines())

    def _facts(self, chance: random.Random) -> None:
        lines = spoiled(chance, _FACTS.encode()).decode("utf-8", "replace").splitlines(keepends=True)
        for facts in parse(iter(lines), _OUTER, _INNER):
            self._ask(facts)

    @staticmethod
    def _ask(facts: Facts) -> None:
        for name in (
            "hostname",
            "kernel",
            "cpus",
            "memory_mib",
            "clock",
            "addresses",
            "macs",
            "blocks",
            "partition_types",
            "mounts",
            "sizes",
            "swaps",
            "packages",
            "failed_services",
            "tree",
            "sums",
            "elapsed",
            "summed",
        ):
            try:
                getattr(facts, name)
            except FactsError:
                continue
        try:
            files.compare({}, facts.tree, {}, "compute", GUEST.known, DEB)
        except FactsError:
            return
