"""Hosts: the VM containers that clusters run on."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline import description
from pipeline.hosts import kinds
from pipeline.manifests.fields import Mebibytes
from pipeline.manifests.loader import Manifest
from pipeline.mistakes import Faults, Key, did_you_mean, quoted

#: dom0 and a head node with two compute nodes need about this much.
LEAST_TESTBED_MIB = 2048


_WORDS = tuple(kind.word for kind in kinds.KINDS)
_URIS = " or ".join(f"{scheme}://{'root@MACHINE' if '+' in scheme else ''}/system" for scheme in kinds.schemes())


def _connection(value: str) -> str:
    if value in _WORDS:
        return value
    scheme, _, rest = value.partition("://")
    if not rest:
        words = ", ".join(f'"{word}"' for word in _WORDS)
        raise ValueError(f"{quoted(value)} is no connection; expected {words} or {_URIS}{did_you_mean(value, _WORDS)}")
    if scheme not in kinds.schemes():
        raise ValueError(f"{quoted(scheme)} cannot be used; expected {_URIS}")
    if scheme.endswith("+ssh") and not urllib.parse.urlsplit(value).hostname:
        raise ValueError(f"{quoted(value)} names no machine; expected {scheme}://root@MACHINE/system")
    return value


class Host(Manifest):
    """A VM container: `recipes/hosts/NAME.toml`."""

    kind: Literal["qemu", "xen"]
    """The hypervisor that runs there: "qemu" or "xen"."""
    connection: Annotated[str, AfterValidator(_connection)] = "private"
    """How its libvirt is reached: "private" is a libvirt of its own for each cluster (QEMU), "testbed" an emulated
    machine that runs Xen, else a libvirt URI: qemu:///system or xen:///system for this machine,
    qemu+ssh://root@MACHINE/system or xen+ssh://root@MACHINE/system for another one."""
    distro: str | None = None
    """The distribution of the testbed's dom0 (a file in recipes/distros)."""
    memory: Mebibytes | None = None
    """The memory of the testbed, like "5G": for dom0 and all machines of the clusters that run on it."""
    cpus: Annotated[int, Field(ge=1, le=64)] | None = None
    """The number of processors of the testbed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._faults())
        if faults:
            raise Faults(faults)
        return self

    def _faults(self) -> Iterator[tuple[Key, str]]:
        kind = kinds.of(self.connection)
        had = kind.engines if kind is not kinds.GIVEN else (kinds.schemes()[self.connection.partition("://")[0]],)
        if self.kind not in had:
            fitting = [f'"{one.word}"' for one in kinds.KINDS if self.kind in one.engines]
            fitting += [f"a {self.kind} URI"] if self.kind in kinds.GIVEN.engines else []
            yield ("connection",), f"{quoted(self.connection)} is not for {self.kind}; expected {' or '.join(fitting)}"
        if kind.is_made:
            for field in ("distro", "memory", "cpus"):
                if getattr(self, field) is None:
                    yield (field,), "missing; a testbed is made from it"
            if self.memory is not None and self.memory < LEAST_TESTBED_MIB:
                yield ("memory",), f'{self.memory} MiB is too little; expected at least "{LEAST_TESTBED_MIB}M"'
        else:
            for field in ("distro", "memory", "cpus"):
                if getattr(self, field) is not None:
                    yield (field,), 'only a testbed has it; expected connection = "testbed", or not this'

    def describe(self, guest: str) -> description.Host:
        """As plain data; `guest` is the flavour of its distribution."""
        return description.Host(
            self.name, self.kind, self.connection, self.distro or "", self.memory or 0, self.cpus or 0, guest
        )
