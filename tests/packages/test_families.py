"""Families are data: what they name is there, and no key has the code of what only resolves or downloads."""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path

import pytest

from pipeline import keys
from pipeline import plan as planning
from pipeline.manifests.recipes import load
from pipeline.packages import families
from pipeline.packages.families import FAMILIES
from pipeline.packages.family import Family, Maker

#: What resolves and fetches: changing how a mirror is asked rebuilds no root.
BRINGING = {"http", "pool", "mirrors", "apt", "refusals", "release", "wishes"}

ROOM = Path(families.__file__).parent
SHARED = {path.name for path in ROOM.glob("*.py")} - {"families.py"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
class TestFamily:
    def test_what_it_names_is_there(self, family: Family) -> None:
        makers = [value for value in vars(family).values() if isinstance(value, Maker)]
        assert len(makers) == 7
        for maker in makers:
            assert list(inspect.signature(pkgutil.resolve_name(maker.name)).parameters) == ["job"]
        for name in (family.mirrors, family.releases):
            assert callable(pkgutil.resolve_name(name))

    @pytest.mark.parametrize("what", ["root", "layer", "under_test", "unpacked"])
    def test_no_downloader_is_in_the_key_of_what_is_installed(self, family: Family, what: str) -> None:
        module = getattr(family, what).name.partition(":")[0]
        assert not BRINGING & {path.stem for path in keys._closure(module)}

    def test_code_of_one_family_is_in_no_key_of_another(self, family: Family) -> None:
        for maker in (value for value in vars(family).values() if isinstance(value, Maker)):
            found = {
                path.relative_to(ROOM).as_posix()
                for path in keys._closure(maker.name.partition(":")[0])
                if path.is_relative_to(ROOM)
            }
            assert all(name in SHARED or name.startswith(f"{family.name}/") for name in found), maker.name


def test_what_is_the_same_for_all_families_has_code_of_none() -> None:
    plan = planning.make(load(Path(__file__).resolve().parents[2] / "recipes"))
    makers = {maker.name for family in FAMILIES.values() for maker in vars(family).values() if isinstance(maker, Maker)}
    others = {step.maker.partition(":")[0] for step in plan.artifacts.values() if step.maker not in makers}
    assert len(others) > 8
    for module in others:
        found = {path.relative_to(ROOM).as_posix() for path in keys._closure(module) if path.is_relative_to(ROOM)}
        assert found <= SHARED, module


def test_what_brings_is_there() -> None:
    assert {path.stem for path in ROOM.rglob("*.py")} >= BRINGING
