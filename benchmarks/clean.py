"""A clean build of the head node's tarball from a warm pool of packages, against bare mmdebstrap of the same packages.

The copy's store holds indexes, locks and fetched packages and nothing else, and no layer is left extracted in memory:
root, ramdisk, packages, OPKGs and tarball are made anew.  The build does more than mmdebstrap: a ramdisk of its own,
OPKGs, and layers that the next build reuses.
"""

from __future__ import annotations

from benchmarks import other_tools
from benchmarks.checkout import CLUSTER, copy, folder, forget_layers
from benchmarks.measure import Row, machine, report, say, start

_GOAL = 0.8
_FETCHED = ("index", "lock", "fetch")


def main() -> None:
    before = machine()
    with copy(kinds=_FETCHED) as made, folder() as work:
        made.doit("fetch:debian12", f"fetch:{CLUSTER}/head")  # only looks, where debian12 has been built
        source = other_tools.repository(work / "repository")
        for file in (work / "repository" / "pool").iterdir():
            file.read_bytes()  # both find it in the page cache
        forget_layers()
        say(f"building headnode:{CLUSTER}")
        ours = made.doit(f"headnode:{CLUSTER}")
        tarball = made.artifacts / CLUSTER / "headnode" / "files" / "head.tar.zst"
        size = tarball.stat().st_size / 2**20
        bare = other_tools.mmdebstrap(source, work / "bare.tar.zst")
        bare_size = (work / "bare.tar.zst").stat().st_size / 2**20
        lean = other_tools.mmdebstrap(source, work / "lean.tar.zst", ramdisk=False)
    rows = [
        Row(f"doit headnode:{CLUSTER}", ours.seconds, detail=f"{size:.0f} MiB"),
        *(Row(f"  {task}", seconds) for task, seconds in ours.built.items()),
        Row("bare mmdebstrap", bare, detail=f"{len(source.packages)} packages, {bare_size:.0f} MiB"),
        Row("mmdebstrap without a ramdisk (INITRD=No)", lean),
        Row("ratio to bare mmdebstrap", ours.seconds / bare, "x", _GOAL),
        Row("ratio to mmdebstrap without a ramdisk", ours.seconds / lean, "x"),
    ]
    report("clean", "Clean build of the head node's tarball from a warm pool", rows, before)


if __name__ == "__main__":
    start(main)
