"""Overlays of trees whose folders have any name, and lie as deep as names go."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.layers import overlay, stacking
from tests.namespaced import inside, job

#: What parts words, quotes and escapes in options of mounts, and what is no ASCII.
NAMES = ["a:1,b", "lowerdir=x,upperdir=y", "back\\slash\\", 'My Projects 100% it\'s "q"', "Überblick", "two\nlines"]


def seen_as_one(place: str) -> None:
    """Inner side: two trees, first to look at, then to write to."""
    here = Path(place)
    for name in ("upper", "work", "top", "bottom", "root"):
        (here / name).mkdir(parents=True)
    for tree in ("top", "bottom"):
        (here / tree / "same").write_text(tree)
        (here / tree / tree).touch()
    overlay.mount(here / "root", [here / "top", here / "bottom"])
    assert {path.name for path in (here / "root").iterdir()} == {"same", "top", "bottom"}
    assert (here / "root/same").read_text() == "top"
    with pytest.raises(OSError, match="Read-only"):
        (here / "root/new").touch()
    overlay.mount(here / "root", [here / "top", here / "bottom"], upper=here / "upper", work=here / "work")
    (here / "root/new").write_text("new")
    assert (here / "upper/new").read_text() == "new"


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    inside(seen_as_one, tmp_path / name)


def test_folders_may_lie_so_deep_that_two_names_are_more_than_a_page(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 200] * 15)
    assert len(str(deep)) > 3000
    inside(seen_as_one, deep)


def with_room(place: str) -> None:
    """Inner side: a stack of layers that only this job writes to."""
    work = job(Path(place))
    lower = work.work / "given"
    lower.mkdir()
    (lower / "file").write_text("given")
    for _ in range(2):  # one job may need more than one
        tree, _ = stacking.writable(work, lower)
        (tree / "file").write_text("changed")
    assert (lower / "file").read_text() == "given"


@pytest.mark.parametrize("name", NAMES)
def test_what_only_one_job_writes_is_laid_over_a_tree_of_any_name(tmp_path: Path, name: str) -> None:
    inside(with_room, tmp_path / name)
