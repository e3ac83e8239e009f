"""What a flavour of system is: how its own files are written, how it is asked, and what it says when it is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pipeline.description import Cluster, Devices, Machine, Role

Kind = Literal["content", "metadata", "missing", "added"]
#: What starts a system's services.
Init = Literal["systemd", "sysvinit"]
#: Types of ssh keys, by ssh-keygen's names.
KeyType = Literal["ed25519", "rsa"]


@dataclass(frozen=True)
class Known:
    """Paths that may differ from what a machine was made from.  In `pattern`, * is any part of one name and ** any
    number of levels, itself included."""

    pattern: str
    kinds: tuple[Kind, ...]
    reason: str
    roles: tuple[Role, ...] = ("head", "compute")


#: What a machine has of its own.
OWN: tuple[Kind, ...] = ("content", "metadata", "added")


@dataclass(frozen=True)
class Guest:
    """One flavour.

    `networks` gives the files with which a machine sets up its network cards,
    by absolute path.  `known` are the paths that differ on a healthy machine of this flavour, besides those that differ
    on any.  `fatal` are lines of the console (regular expressions) with which it says that it does not go on, and how
    to say what they mean; {0} is their first group.

    `services` is POSIX sh text: `failed_services` prints a line "failed NAME" for each service that failed, or what
    hinders it to know; `tell_services NAME ...` prints what people want to read about these.

    `starting` is POSIX sh text.  `list_started` prints, sorted, what a boot would start.  `start_besides FILE` starts
    what it would start by now and is not in that list, prints a line "started NAME" for each, and fails where one does
    not start.  `restart_named FILE` restarts those services that run and whose names are lines of that file, sorted,
    prints a line "restarted NAME" for each, and fails where one does not start.  `services_in FOLDER` prints which
    services a tree of files has, `stop_services NAME ...` ends them, and no boot starts them any more; `heed_services`
    has the system see which services there are.

    `managing` (a regular expression) is found in a line of a script that tells of services by their names.  `unit` is
    found in the path of a file by which a service is defined or set up; its first group is the service's name.  In
    `at_boot`, folders, lies what says what a boot starts and makes.

    `init` starts its services.  `devices` are those that its kernel has drivers for, `filesystem` is what it mounts as
    its root, by mke2fs's name.  `own_ramdisk`: its kernel's package makes the ramdisk, and ours would not run there.
    `by_label`: that one finds the root by its label, and knows no UUIDs.  `key` is the type of ssh keys that its
    OpenSSH knows, `ssh` are ssh_config(5) settings with which newer clients still talk to it.  `on_another_kernel` are
    files by path that stand in place of its own where it runs on a kernel of today.
    """

    networks: Callable[[Cluster, Machine], Mapping[str, str]]
    known: tuple[Known, ...]
    fatal: tuple[tuple[str, str], ...]
    services: str
    starting: str
    managing: str
    unit: str
    at_boot: tuple[str, ...]
    init: Init = "systemd"
    devices: Devices = "virtio"
    filesystem: Literal["ext4", "ext3"] = "ext4"
    own_ramdisk: bool = False
    by_label: bool = False
    key: KeyType = "ed25519"
    ssh: Mapping[str, str] = field(default_factory=dict)
    on_another_kernel: Mapping[str, str] = field(default_factory=dict)

    def with_another_kernel(self) -> Self:
        """The flavour on a kernel of today, with our ramdisk: what its own kernel asks of a machine counts no more."""
        return dataclasses.replace(self, devices="virtio", own_ramdisk=False, by_label=False)

    def known_on(self, cluster: Cluster) -> tuple[Known, ...]:
        """The paths that may differ on machines of a cluster: the flavour's, and its OPKGs' secrets."""
        return (
            *self.known,
            *(Known(one.path.removeprefix("/"), OWN, "a secret of the cluster") for one in cluster.secrets),
        )
