"""The flavours of systems that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipeline.guests import debian, fedora_core, redhat
from pipeline.guests.guest import Guest

#: What a distribution's recipe can name; each is a module here.
Flavour = Literal["debian", "redhat", "fedora-core"]

GUESTS: Mapping[str, Guest] = {"debian": debian.GUEST, "redhat": redhat.GUEST, "fedora-core": fedora_core.GUEST}


def of(name: str) -> Guest:
    """The flavour of that name."""
    return GUESTS[name]
