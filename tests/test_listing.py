"""Inventories in files: what is written comes back, and what is told by the text alone is what the entries say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import listing
from pipeline.inventory import Changes, Entry

NAMES = ("a", "b", "é", 'q"q', "back\\slash", '", "type": "d"', ', "inode": "', "\udcff", "\n")
TOP = Entry("d", 0o755)
FILES = st.builds(
    Entry,
    type=st.sampled_from("fdlp"),
    mode=st.sampled_from((0, 0o644, 0o4755)),
    mtime=st.sampled_from((-1, 0, 1704067200)),
    size=st.sampled_from((0, 7)),
    target=st.sampled_from(("", *NAMES)),
    inode=st.sampled_from(("", "x", *NAMES)),
    attributes=st.sampled_from(({}, {'user., "inode": "': "00", "security.capability": "ff"})),
)
PATHS = st.lists(st.sampled_from((*"abab", *NAMES)), max_size=3).map("/".join)
LAYER = st.dictionaries(PATHS, FILES | st.none(), max_size=8)


def stacked(layers: Iterable[Changes]) -> dict[str, Entry]:
    """Layer over layer, entry by entry."""
    tree = {"": TOP}
    for number, changes in enumerate(layers):
        tree[""] = TOP
        for path, entry in changes.items():
            if path in tree and (entry is None or (tree[path].type == "d" and entry.type != "d")):
                tree = {
                    each: one for each, one in tree.items() if not PurePosixPath(f"/{each}").is_relative_to(f"/{path}")
                }
        for path, entry in changes.items():
            if entry is not None:
                tree[path] = entry._replace(inode=f"{number}/{entry.inode}") if entry.inode else entry
    return tree


@given(LAYER)
def test_what_is_written_comes_back(layer: Changes) -> None:
    text = listing.dump(layer)
    assert listing.load(text) == layer
    assert dict(listing.load(text)) == layer, "one by one"
    assert listing.dump(listing.load(text)) == text == listing.dump(dict(listing.load(text)))
    assert [json.loads(line)["path"] for line in text.splitlines()] == sorted(
        layer, key=lambda path: path.encode("utf-8", "surrogateescape")
    )


def with_folders(layer: Changes) -> Changes:
    """As layers are: with the folders that all in it lie in, and nothing below a file."""
    whole: dict[str, Entry | None] = {}
    for path in sorted(layer, key=lambda path: path.count("/")):
        above = [str(each) for each in PurePosixPath(f"/{path}").parents][:-1]
        if path and all((one := layer.get(each[1:], TOP)) and one.type == "d" for each in above):
            whole |= {each[1:]: layer.get(each[1:], TOP) for each in above}
            whole[path] = layer[path]
    return whole


@settings(max_examples=300)
@given(st.lists(LAYER.map(with_folders), max_size=4))
def test_layers_lie_over_each_other(layers: list[Changes]) -> None:
    read = [listing.load(listing.dump(layer)) for layer in layers]
    assert listing.stacked(read) == listing.stacked(layers) == stacked(layers)


@given(LAYER, LAYER)
def test_trees_differ_where_their_entries_do(one: Changes, other: Changes) -> None:
    before, after = ({path: entry for path, entry in layer.items() if entry} for layer in (one, other))
    wanted = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert listing.differing(listing.tree(listing.dump(before)), after) == wanted
    assert listing.differing(listing.placed("top", before), listing.placed("top", after)) == {
        f"top/{path}".rstrip("/") for path in wanted
    }
    both = listing.listed(before) | after
    assert both == {**before, **after}


@given(LAYER)
def test_names_of_one_file_are_those_with_the_same_word(layer: Changes) -> None:
    tree = {path: entry for path, entry in layer.items() if entry}
    groups = listing.names_of_one_file(tree)
    assert listing.names_of_one_file(listing.tree(listing.dump(tree))) == groups
    words = [{tree[path].inode for path in group} for group in groups]
    assert all(len(word) == 1 for word in words) and len(set().union(*words)) == len(groups)


def test_a_part_of_a_tree_is_seen_from_its_top() -> None:
    tree = {"": TOP, "a": TOP, "a/b": TOP, "a/b/c": Entry("f", 0o644), "a/d": Entry("l", target="x"), "ab": TOP}
    assert listing.below(tree, "/") == tree
    assert listing.below(tree, "/a") == {"": TOP, "b": TOP, "b/c": tree["a/b/c"], "d": tree["a/d"]}
    assert listing.below(tree, "/a", ["/b"]) == {"": TOP, "b": TOP, "d": tree["a/d"]}
    assert listing.below(tree, "/none") == {"": TOP}


@pytest.mark.parametrize("text", ["x", '{"type": "f"}', '{"path": "x', '{"path": "x"', '["path"]', '{"path": "x\\'])
def test_what_is_no_inventory_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        listing.load(text)
