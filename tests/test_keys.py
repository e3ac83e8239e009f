"""Keys: everything that can influence an output changes the key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CommandError
from pipeline.keys import Keys
from pipeline.step import Parent, Step
from pipeline.store import Entry, Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)

BASE = Step("root", "d", "a root", "pipeline.step:Job", params={"suite": "bookworm"})
TOP = Step("disk", "d", "a disk", "pipeline.step:Job", parents=(Parent("layer", "root:d"),))


def keys(tmp_path: Path, *steps: Step) -> Keys:
    return Keys({step.task: step for step in steps}, Store(tmp_path))


def build(keys: Keys, step: Step, text: str) -> Entry:
    key = keys.key(step)
    assert key is not None
    with keys.store.building(key) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "out").write_text(text)
        entry = keys.store.publish(key, folder, {"task": step.task, "ingredients": keys.ingredients(step)})
    keys.store.link(step.task, entry)
    return entry


def test_a_step_has_no_key_before_its_parents_are_built(tmp_path: Path) -> None:
    one = keys(tmp_path, BASE, TOP)
    assert one.key(TOP) is None
    assert one.why(TOP) == "root:d must be built first"
    build(one, BASE, "tree")
    assert one.key(TOP) is not None


def test_a_parent_rebuilt_with_the_same_output_stops_the_rebuild(tmp_path: Path) -> None:
    before = keys(tmp_path, BASE, TOP)
    build(before, BASE, "tree")
    other = replace(BASE, params={"suite": "trixie"})
    after = keys(tmp_path, other, TOP)
    assert after.key(TOP) is None
    build(after, other, "tree")
    assert after.key(TOP) == before.key(TOP)


def test_a_parent_rebuilt_with_another_output_changes_the_key(tmp_path: Path) -> None:
    before = keys(tmp_path, BASE, TOP)
    build(before, BASE, "tree")
    other = replace(BASE, params={"suite": "trixie"})
    after = keys(tmp_path, other, TOP)
    build(after, other, "another tree")
    assert after.key(TOP) != before.key(TOP)


def test_names_and_texts_are_not_in_the_key(tmp_path: Path) -> None:
    renamed = replace(BASE, name="e", doc="the same root")
    assert keys(tmp_path, BASE).key(BASE) == keys(tmp_path, renamed).key(renamed)


def test_every_ingredient_is_in_the_key(tmp_path: Path) -> None:
    variants = [
        BASE,
        replace(BASE, kind="disk"),
        replace(BASE, params={"suite": "trixie"}),
        replace(BASE, files=(("opkgs/c3/config.xml", "0" * 64),)),
        replace(BASE, maker="pipeline.store:Store"),
        replace(BASE, ships=("errors.py",)),
        replace(BASE, tools=("tar",)),
    ]
    found = [keys(tmp_path, step).key(step) for step in variants]
    assert len(set(found)) == len(variants)


def test_why_names_what_changed(tmp_path: Path) -> None:
    before = keys(tmp_path, BASE)
    assert before.why(BASE) == "never built here"
    build(before, BASE, "tree")
    changed = replace(BASE, params={"suite": "trixie"}, files=(("opkgs/c3/config.xml", "0" * 64),))
    assert keys(tmp_path, changed).why(changed) == "opkgs/c3/config.xml is new; parameter suite changed"


@pytest.mark.parametrize(("count", "told"), [(4, "opkgs/x/3 is new"), (5, "2 more files are new"), (9999, "9996 more")])
def test_why_is_no_list_of_a_whole_tree(tmp_path: Path, count: int, told: str) -> None:
    build(keys(tmp_path, BASE), BASE, "tree")
    files = tuple((f"opkgs/x/{number:0{len(str(count - 1))}}", "0" * 64) for number in range(count))
    changed = replace(BASE, files=files, params={"suite": "trixie"})
    said = keys(tmp_path, changed).why(changed)
    assert said.startswith("opkgs/x/") and said.endswith("; parameter suite changed") and told in said
    assert len(said.split("; ")) == 5
    build(keys(tmp_path, changed), changed, "tree")
    assert told.replace("is new", "is gone").replace("are new", "are gone") in keys(tmp_path, BASE).why(BASE)


def test_why_does_not_name_what_only_json_has_changed(tmp_path: Path) -> None:
    step = replace(BASE, params={"suite": "bookworm", "nodes": ({"name": "node1", "cards": ("eth0",)},)})
    build(keys(tmp_path, step), step, "tree")
    changed = replace(step, params={**step.params, "suite": "trixie"})
    assert keys(tmp_path, changed).why(changed) == "parameter suite changed"


def test_a_file_that_a_program_is_given_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "macros"
    step = replace(BASE, tools=(f"file:{file}",))
    with pytest.raises(CommandError, match="macros is missing"):
        keys(tmp_path, step).key(step)
    found = []
    for text in ("one", "two", "one"):
        file.write_text(text)
        found.append(keys(tmp_path, step).key(step))
    assert found[0] == found[2] != found[1]


def test_tool_versions_are_remembered_between_runs(tmp_path: Path) -> None:
    step = replace(BASE, tools=("tar",))
    first = keys(tmp_path, step)
    key = first.key(step)
    first.save()
    assert "/tar" in (tmp_path / "cache" / "keys.json").read_text()
    assert keys(tmp_path, step).key(step) == key


@given(st.dictionaries(st.text(), JSON), st.dictionaries(st.text(), JSON))
def test_keys_are_equal_just_when_parameters_are(
    tmp_path_factory: object, one: dict[str, object], two: dict[str, object]
) -> None:
    first, second = replace(BASE, params=one), replace(BASE, params=two)
    found = keys(Path("/nonexistent"), BASE)
    assert (found.key(first) == found.key(second)) == (repr_json(one) == repr_json(two))


def repr_json(value: dict[str, object]) -> str:
    import json

    return json.dumps(value, sort_keys=True)
