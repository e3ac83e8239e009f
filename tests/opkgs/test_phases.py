"""OSCAR's phases that have their place while roots are built, run for real in the smallest roots."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pipeline import kept, sandbox
from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.opkgs import install
from pipeline.step import Input, Job, Step
from tests.namespaced import inside, job, smallest_root

#: Writes down when it ran, of whom, and what was there.
SAYS = """#!/bin/sh
name=$(busybox basename "$0")
own=$(busybox basename "$OSCAR_PACKAGE_HOME")
busybox grep -q node1 /etc/oscar/nodes || exit 1
[ "$name" != server-post-install ] || echo mine > /etc/oscar/nodes.$own
[ "$own" != b ] || echo "# changed" >> /etc/oscar/cluster.sh
echo "$name $own $(busybox ls /etc/from.* 2> /dev/null | busybox tr '\\n' ' ')" >> /etc/ran
"""
IMAGE = """#!/bin/sh
set -e
echo "$(busybox cat /etc/side) $(busybox cat "$1/etc/side")" > "$1/etc/imaged"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        for side in ("server", "client"):
            path = tmp_path / f"recipes/opkgs/{name}/files/{side}/etc"
            path.mkdir(parents=True)
            (path / f"from.{name}").touch()
            (path / "side").write_text(side)
        scripts = tmp_path / f"recipes/opkgs/{name}/scripts"
        scripts.mkdir()
        for phase in ("setup", "pre_configure", "api-post-configure", "server-post-install", "client-post-install"):
            (scripts / phase).write_text(SAYS)
    (tmp_path / "recipes/opkgs/a/scripts/post_rpm_nochroot").write_text(IMAGE)
    for script in tmp_path.glob("recipes/opkgs/*/scripts/*"):
        script.chmod(0o755)
    smallest_root(tmp_path / "base")
    return tmp_path


def layer(work: Job) -> Input:
    return Input("layer", "", work.out, hashlib.sha256((work.out / stacking.LAYER).read_bytes()).hexdigest())


def given(folder: Path, name: str, params: dict[str, object], *inputs: Input) -> Job:
    files = [path for path in (folder / "recipes").rglob("*") if path.is_file()]
    names = [path.relative_to(folder / "recipes").as_posix() for path in files]
    work = job(folder / name, None, *inputs, pool=folder / "artifacts/pool")
    step = Step(
        "opkgs",
        name,
        "",
        "",
        params=params,
        files=tuple((path, str(kept.of(folder / "recipes", path))) for path in sorted(names)),
    )
    return Job(step, inputs, work.out, work.work, folder / "recipes", work.pool, work.log, work.progress, work.note)


def build(where: str) -> None:
    """Inner side: both roots of a cluster with two OPKGs."""
    folder = Path(where)
    base = job(folder / "root", pool=folder / "artifacts/pool")
    sandbox.scratch(base.work, 1 << 28)
    with stacking.changed(base) as root:
        shutil.copytree(folder / "base", root, symlinks=True, dirs_exist_ok=True)
    params = {"opkgs": ["a", "b"], "names": {"/etc/oscar/nodes": "node1\n", "/etc/oscar/cluster.sh": "X=1\n"}}
    below = layer(base)
    head = given(folder, "head", {**params, "membership": "head"}, below)
    sandbox.scratch(head.work, 1 << 28)
    install.build(head)
    on_head = [Input("head", "", item.path, item.digest) for item in (below, layer(head))]
    nodes = given(folder, "compute", {**params, "membership": "compute", "imaged": ["a"]}, below, *on_head)
    sandbox.scratch(nodes.work, 1 << 28)
    install.build(nodes)
    with stacking.stacked(nodes, [below, layer(head)]) as root:
        ran = (root / "etc/ran").read_text().splitlines()
        oscar = sorted(path.name for path in (root / "etc/oscar").iterdir())
    with stacking.stacked(nodes, [below, layer(nodes)]) as root:
        print(json.dumps([ran, (root / "etc/ran").read_text().splitlines(), (root / "etc/imaged").read_text(), oscar]))


def test_all_phases_of_a_build_run_in_their_order_and_place(folder: Path) -> None:
    head, nodes, image, oscar = json.loads(inside(build, folder).splitlines()[-1])
    assert [line.split() for line in head] == [
        *([phase, name] for phase in ("api-pre-install", "api-pre-configure", "api-post-configure") for name in "ab"),
        ["server-post-install", "a", "/etc/from.a"],
        ["server-post-install", "b", "/etc/from.a", "/etc/from.b"],
    ]
    assert [line.split() for line in nodes] == [
        ["client-post-install", "a", "/etc/from.a"],
        ["client-post-install", "b", "/etc/from.a", "/etc/from.b"],
    ]
    assert oscar == ["cluster.sh", "nodes.a", "nodes.b"], "what nobody made their own was there for the scripts only"
    assert image == "server client\n"


def refused(where: str) -> None:
    """Inner side: what a person is told."""
    with pytest.raises(BuildError) as caught:
        build(where)
    print(caught.value.render())


def test_a_script_for_the_image_that_writes_to_the_head_node_is_told(folder: Path) -> None:
    script = folder / "recipes/opkgs/a/scripts/post_rpm_nochroot"
    script.write_text("#!/bin/sh\necho lost > /etc/lost\n")
    said = inside(refused, folder)
    assert "OPKG a: script api-post-image failed" in said
    assert "Read-only file system" in said
    assert "it may change the image (/run/oscar/image, its first argument), and nothing of the head node" in said
