"""Hosts: the VM containers that clusters run on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from pipeline.manifests.loader import Manifest
from pipeline.manifests.mistakes import did_you_mean, quoted


def _connection(value: str) -> str:
    if value == "private" or re.fullmatch(r"qemu(?:\+[a-z]+)?://[^\s]*/(?:system|session)(?:\?[^\s]*)?", value):
        return value
    raise ValueError(f'{quoted(value)} is no connection to QEMU; expected "private" or a libvirt address like '
                     f'"qemu:///system"{did_you_mean(value, ["private", "qemu:///system", "qemu:///session"])}')


class Host(Manifest):
    """A VM container: `recipes/hosts/NAME.toml`."""

    kind: Literal["qemu"]
    """The hypervisor that runs there: "qemu"."""
    connection: Annotated[str, AfterValidator(_connection)] = "private"
    """Either "private", a libvirt of its own for each cluster, or the address of a running libvirt."""
