"""The head node's tarball: the tree that its layers make, quicker after a change and with the same bytes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from pipeline import inventory, sandbox
from pipeline.builders import headnode
from pipeline.layers import cache, stacking
from pipeline.step import Input, Spoiled
from tests import oddfiles
from tests.layers.test_file_properties import differences
from tests.layers.test_layers import edit, look, make
from tests.layers.test_members import extracted, stands
from tests.namespaced import inside, job


def build(place: Path, name: str, layers: tuple[Input, ...], former: Path | None = None) -> Path:
    layers = tuple(dataclasses.replace(layer, role="layer") for layer in layers)
    made = dataclasses.replace(job(place / name, None, *layers, pool=place / "artifacts/pool"), former=former)
    headnode.build(made)
    return made.out / "head.tar.zst"


def a_change(folder: str) -> None:
    place = Path(folder)

    def odd(root: Path) -> None:
        oddfiles.make(root / "odd")
        (root / "gone").mkdir()
        (root / "gone/x").write_text("x")
        (root / "large").write_bytes(os.urandom(9 << 20))
        for name in ("delete", "edit", "dir", "swap"):
            (root / name).write_text(name) if name in ("delete", "edit") else (root / name).mkdir()
        (root / "etc").mkdir()
        (root / "dull").write_text("dull")

    first = make(place, "first", odd)
    second = make(place, "second", edit, first)
    before = build(place, "before", (first,))
    after = build(place, "after", (first, second), before.parent)
    clean = build(place, "clean", (first, second))
    assert after.read_bytes() == clean.read_bytes() != before.read_bytes()
    assert len(taken(before) & taken(after)) >= 1
    extracted_layer = cache.folder_for(first.file(stacking.LAYER), first.digest, place / "artifacts") / first.digest
    (extracted_layer / "dull").write_text("rots")
    with pytest.raises(Spoiled):
        build(place, "spoiled", (first, second), before.parent)
    assert build(place, "again", (first, second), before.parent).read_bytes() == clean.read_bytes()
    with look(place, first, second) as root:
        there = extracted(after, place / "there", "--zstd")
        assert differences(there, stands(root)) == {}
        assert there[""].mtime == sandbox.SOURCE_DATE_EPOCH
    listed = {**stacking.contents((first, second)), "": there[""]}
    assert listed.keys() == inventory.of(place / "there", sandbox.SOURCE_DATE_EPOCH).keys()


def taken(tarball: Path) -> set[str]:
    return set(tarball.with_name("head.tar.zst.frames").read_text().splitlines())


def test_a_change_gives_the_bytes_of_a_clean_build(tmp_path: Path) -> None:
    inside(a_change, tmp_path)
