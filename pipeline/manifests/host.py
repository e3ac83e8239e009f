"""Hosts: the VM containers that clusters run on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from pipeline.manifests.loader import Manifest
from pipeline.manifests.mistakes import did_you_mean, quoted


def _connection(value: str) -> str:
    if value == "private":
        return value
    raise ValueError(f'{quoted(value)} is no connection that clusters can use yet; expected "private"'
                     f"{did_you_mean(value, ['private'])}")


class Host(Manifest):
    """A VM container: `recipes/hosts/NAME.toml`."""

    kind: Literal["qemu"]
    """The hypervisor that runs there: "qemu"."""
    connection: Annotated[str, AfterValidator(_connection)] = "private"
    """How its libvirt is reached: "private" is a libvirt of its own for each cluster."""
