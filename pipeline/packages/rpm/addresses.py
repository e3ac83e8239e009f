"""Addresses of its own that a repository can have in a recipe, by dnf's names (dnf.conf(5))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: At most one of them stands for a repository: its folder, or a list of its mirrors.
KINDS = ("url", "mirrorlist", "metalink")


def kind_of(repository: Mapping[str, Any]) -> str:
    """Which of them it has, "" = none."""
    return next((kind for kind in KINDS if repository.get(kind)), "")


def expanded(address: str, architecture: str) -> str:
    """The address with what dnf puts in for `$basearch`."""
    return address.replace("$basearch", architecture)
