"""After a small edit: how long until everything that depends on it is ready again.

Two edits: one file of one OPKG, on head and compute nodes; and a new version of a package under test.  Ready means:
head node's tarball, head node's disk, SIS image.  Held against what one would run otherwise, for a single disk:
mkosi with its incremental cache where it is installed, and mmdebstrap with mke2fs.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import other_tools
from benchmarks.checkout import OUTPUTS, Checkout, Run, copy, folder
from benchmarks.measure import Row, machine, median, report, say, spread, start
from pipeline.errors import CommandError, UserError

_RUNS, _GOAL = 3, 5.0
_PACKAGE = "xen-oscar-benchmark"
_FILE = Path("etc/ssh/ssh_config.d/oscar.conf")
_MANIFEST = f"""
[packages]
head = ["../../{_PACKAGE}.deb"]
compute = ["../../{_PACKAGE}.deb"]
"""


def main() -> None:
    before = machine()
    with copy(_MANIFEST) as made:
        other_tools.package(made.top / f"{_PACKAGE}.deb", _PACKAGE, "1.0")
        say("making everything once")
        made.doit(*OUTPUTS)
        idle = made.doit(*OUTPUTS)
        if idle.built:
            raise UserError(f"nothing was changed, and yet there ran {', '.join(idle.built)}")
        files = [_after_file(made, number) for number in range(_RUNS)]
        packages = [_after_package(made, number) for number in range(1, _RUNS + 1)]
    rows = [*_rows("one file of one OPKG changed", files), *_rows("new version of a local package", packages)]
    others, notes = _others(rows[0].value, rows[1].value)
    report(
        "incremental",
        "Small edits, until head tarball, head disk and SIS image are ready",
        rows + others,
        before,
        notes,
    )


def _rows(what: str, runs: list[Run]) -> list[Row]:
    seconds = [run.seconds for run in runs]
    return [Row(what, median(seconds), goal=_GOAL, detail=f"{spread(seconds)}; {runs[-1].detail()}")]


def _after_file(made: Checkout, number: int) -> Run:
    path = made.top / "recipes" / "opkgs" / "base" / "files" / "common-systemd" / _FILE
    path.write_text(f"{path.read_text()}# benchmark {number}\n")
    say(f"{_FILE} changed")
    return made.doit(*OUTPUTS)


def _after_package(made: Checkout, version: int) -> Run:
    other_tools.package(made.top / f"{_PACKAGE}.deb", _PACKAGE, f"1.{version}")
    say(f"{_PACKAGE} 1.{version}")
    return made.doit(*OUTPUTS)


def _others(file: float, package: float) -> tuple[list[Row], list[str]]:
    """The same edits with other tools."""
    with folder() as work:
        deb = other_tools.package(work / f"{_PACKAGE}_1.0_all.deb", _PACKAGE, "1.0")
        wanted = [other_tools.package(work / f"{name}_1.0_all.deb", name, "1.0") for name in other_tools.MKOSI_WANTS]
        source = other_tools.repository(work / "repository", [deb, *wanted])
        extra = work / "extra"
        (extra / _FILE).parent.mkdir(parents=True)
        (extra / _FILE).write_text("# benchmark\n")
        tar = other_tools.mmdebstrap(source, work / "root.tar", files=extra)
        disk = other_tools.disk(work / "root.tar", work / "disk.img")
        (work / "root.tar").unlink()
        rows = [
            Row(
                "mmdebstrap + mke2fs, one disk, either edit",
                tar + disk,
                detail=f"mmdebstrap {tar:.1f}, unpacking and mke2fs {disk:.1f}",
            ),
            Row("ratio to it, file", file / (tar + disk), "x"),
            Row("ratio to it, package", package / (tar + disk), "x"),
        ]
        other = other_tools.mkosi(source, work / "mkosi")
        if isinstance(other, str):
            return rows, [other]
        try:
            return rows + _mkosi(other, file, package), []
        except CommandError as error:
            last = error.tail.strip().splitlines()[-1:] or [error.message]
            return rows, [f"mkosi does not work here: left out ({last[0][:160]})"]


def _mkosi(other: other_tools.Mkosi, file: float, package: float) -> list[Row]:
    names = list(other.source.packages)
    say("mkosi: first build, fills its cache")
    other.build(names, again=False)
    target = other.folder / "extra" / _FILE
    target.parent.mkdir(parents=True)
    target.write_text("# benchmark\n")
    say("mkosi: file changed")
    changed = other.build(names, again=False)
    say("mkosi: package changed")
    renewed = other.build(names, again=True)
    return [
        Row("mkosi, one disk, file", changed),
        Row("mkosi, one disk, package", renewed),
        Row("ratio to it, file", file / changed, "x"),
        Row("ratio to it, package", package / renewed, "x"),
    ]


if __name__ == "__main__":
    start(main)
