"""Families are data: what they name is there, and no key has the code of what only resolves or downloads."""

from __future__ import annotations

import inspect
import pkgutil

import pytest

from pipeline import keys
from pipeline.packages.families import FAMILIES
from pipeline.packages.family import Family, Maker

#: What resolves and fetches: changing how a mirror is asked rebuilds no root.
BRINGING = {"http", "pool", "mirrors", "apt", "refusals", "release", "wishes"}


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
        others = {other.name for other in FAMILIES.values()} - {family.name}
        for maker in (value for value in vars(family).values() if isinstance(value, Maker)):
            rooms = {path.parent.name for path in keys._closure(maker.name.partition(":")[0])}
            assert not others & rooms
