"""The package families that there are: who builds what of them, by name, so that planning imports no builder."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.packages.deb.family import DEB
from pipeline.packages.family import Family
from pipeline.packages.rpm.family import RPM

FAMILIES: Mapping[str, Family] = {family.name: family for family in (DEB, RPM)}
