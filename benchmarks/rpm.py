"""The RPM family on a fixture of Rocky Linux 9's shape: resolving and assembling against bare dnf, and small edits.

dnf gets the very packages of the head node's lock, finds their metadata in its cache, and installs into a folder; the
build makes two layers of them, which the next one reuses.  It needs dnf, and root, as dnf does.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.checkout import CLUSTER, OUTPUTS, Checkout, Run, copy, folder, forget_layers
from benchmarks.measure import ARTIFACTS, Row, machine, median, report, say, spread, start, timed
from pipeline.errors import UserError
from pipeline.packages import lock
from pipeline.run import run
from tests.fixture import build
from tests.rpmsuite import Suite

_RUNS = 3
_RESOLVE_GOAL, _ASSEMBLE_GOAL, _EDIT_GOAL = 1.0, 0.8, 5.0
_DISTRO, _PACKAGE = "rocky9", "xen-oscar-benchmark"
_FILE = Path("recipes/opkgs/base/files/common-systemd/etc/ssh/ssh_config.d/oscar.conf")
_MANIFEST = f"""extends = "{_DISTRO}"
[packages]
head = ["../../{_PACKAGE}.rpm"]
compute = ["../../{_PACKAGE}.rpm"]
"""


def main() -> None:
    if shutil.which("dnf") is None:
        raise UserError("dnf is missing", hint="apt-get install dnf")
    before = machine()
    with copy(kinds=("index", "lock", "fetch")) as made, folder() as work:
        (made.top / f"recipes/clusters/{CLUSTER}.toml").write_text(_MANIFEST)
        local = Suite(work / "local", work / "made")
        local.folder.mkdir()
        _new_package(made, local, 1)
        say("making the mirror")
        mirror = work / "mirror"
        build.rocky(mirror, ARTIFACTS / "pool")
        given = ("--mirror", f"{_DISTRO}={mirror}")
        made.doit(f"index:{_DISTRO}", *given)
        say("resolving")
        resolved = made.doit(f"lock:{CLUSTER}/head", *given)
        made.doit(f"fetch:{_DISTRO}", f"fetch:{CLUSTER}/head", *given)
        forget_layers()
        say("assembling")
        assembled = made.doit(f"packages:{CLUSTER}/head", *given)
        names = [
            f"{package.name}-{package.evr}"
            for entry in (f"{_DISTRO}/lock", f"{CLUSTER}/lock-head")
            for package in lock.read(made.artifacts / entry / "files" / lock.NAME)
        ]
        dnf = _Dnf(mirror, work / "dnf")
        say("dnf")
        looked, installed = dnf.resolve(names), dnf.install(names)
        say("making everything once")
        made.doit(*OUTPUTS, *given)
        files = [_after_file(made, number) for number in range(_RUNS)]
        packages = [_after_package(made, local, number) for number in range(2, 2 + _RUNS)]
    resolving = sum(seconds for task, seconds in resolved.built.items() if task.startswith("lock:"))
    assembling = sum(seconds for task, seconds in assembled.built.items() if task.startswith(("root:", "packages:")))
    rows = [
        Row("resolve: all locks of the head node", resolving, detail=resolved.detail()),
        Row("dnf --assumeno, warm metadata", looked, detail=f"{len(names)} packages"),
        Row("ratio to dnf, resolve", resolving / looked, "x", _RESOLVE_GOAL),
        Row("assemble: the head node's packages as layers", assembling, detail=assembled.detail()),
        Row("dnf --installroot", installed),
        Row("ratio to dnf, assemble", assembling / installed, "x", _ASSEMBLE_GOAL),
        _edit("one file of one OPKG changed", files),
        _edit("new version of a local RPM", packages),
    ]
    report("rpm", "The RPM family, on a fixture in the shape of Rocky Linux 9", rows, before)


class _Dnf:
    """Bare dnf with the mirror's repository, into a folder."""

    def __init__(self, mirror: Path, root: Path) -> None:
        settings = {"reposdir": "/nonexistent", "install_weak_deps": "False", "keepcache": "False",
                    "cachedir": root.with_name("dnf-cache")}  # fmt: skip
        repository = f"fixture,{(mirror / '9/BaseOS/x86_64/os').as_uri()}"
        self._words = [
            "dnf", f"--installroot={root}", "--releasever=9", "--nogpgcheck", f"--repofrompath={repository}",
            *(f"--setopt={name}={value}" for name, value in settings.items()),
        ]  # fmt: skip
        timed([*self._words, "makecache"])

    def resolve(self, names: list[str]) -> float:
        """Seconds to find out what there is to do; dnf calls it a failure that it was not let do it."""
        started = time.monotonic()
        done = run([*self._words, "--assumeno", "install", *names], check=False, timeout=600)
        seconds = time.monotonic() - started
        if "Operation aborted" not in done.stdout + done.stderr:
            raise UserError(f"dnf cannot resolve: {(done.stdout + done.stderr)[-400:]}")
        return seconds

    def install(self, names: list[str]) -> float:
        """Seconds to install them."""
        return timed([*self._words, "-y", "install", *names])[0]


def _edit(what: str, runs: list[Run]) -> Row:
    seconds = [one.seconds for one in runs]
    return Row(what, median(seconds), goal=_EDIT_GOAL, detail=f"{spread(seconds)}; {runs[-1].detail()}")


def _new_package(made: Checkout, local: Suite, version: int) -> None:
    shutil.copy2(local.rpm(_PACKAGE, str(version)), made.top / f"{_PACKAGE}.rpm")


def _after_file(made: Checkout, number: int) -> Run:
    path = made.top / _FILE
    path.write_text(f"{path.read_text()}# benchmark {number}\n")
    say(f"{path.name} changed")
    return made.doit(*OUTPUTS)


def _after_package(made: Checkout, local: Suite, version: int) -> Run:
    _new_package(made, local, version)
    say(f"{_PACKAGE} {version}")
    return made.doit(*OUTPUTS)


if __name__ == "__main__":
    start(main)
