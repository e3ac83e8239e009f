"""When an OPKG's scripts run: one row a phase of OSCAR, and where it has its place here.

Source: OSCAR's lib/OSCAR/Package.pm, %PHASES of 5.0 and of 6, and lib/OSCAR/PackageInUn.pm for removal.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

#: Whose packages, files and scripts: OSCAR's words for the head node and for compute nodes.
Side = Literal["server", "client"]
#: The head node's root is prepared: all packages are there, and no OPKG's files yet.  A side's root is furnished: the
#: OPKG's files have come.  The SIS image is whole: on the head node's root, with the image's folder as an argument.
#: The head node is up and knows its nodes, or all of them are up.  An OPKG is about to be removed from machines that
#: run, or has been.
When = Literal["prepared", "furnished", "imaged", "head up", "all up", "removing", "removed"]

#: Where an OPKG lies on the head node, and on a compute node while its script runs.
PACKAGES = "/usr/lib/oscar/packages"
#: Its folder of packages is what scripts and tests of OSCAR 4 and 5 find below it.
_HOME = PACKAGES.rpartition("/")[0]


@dataclass(frozen=True)
class Phase:
    """A phase by today's name, the names that it had in older generations, and on which side and when it runs."""

    name: str
    older: tuple[str, ...]
    side: Side
    when: When


PHASES: tuple[Phase, ...] = (
    Phase("api-pre-install", ("setup",), "server", "prepared"),
    Phase("api-pre-configure", ("pre_configure",), "server", "prepared"),
    Phase("api-post-configure", ("post_configure",), "server", "prepared"),
    Phase("server-post-install", ("post_server_install", "post_server_rpm_install"), "server", "furnished"),
    Phase("client-post-install", ("post_client_rpm_install", "post_rpm_install"), "client", "furnished"),
    Phase("api-post-image", ("post_rpm_nochroot",), "server", "imaged"),
    Phase("api-post-clientdef", ("post_clients",), "server", "head up"),
    Phase("api-post-deploy", ("post_install",), "server", "all up"),
    Phase("api-pre-uninstall", (), "server", "removing"),
    Phase("client-pre-uninstall", (), "client", "removing"),
    Phase("server-pre-uninstall", (), "server", "removing"),
    Phase("client-post-uninstall", ("post_client_rpm_uninstall",), "client", "removed"),
    Phase("server-post-uninstall", ("post_server_rpm_uninstall",), "server", "removed"),
    Phase("api-post-uninstall", (), "server", "removed"),
)

#: The tests that run on the head node afterwards.
TESTS = ("test_root", "test_user")

_BY_FILE: Mapping[str, Phase] = {name: phase for phase in PHASES for name in (phase.name, *phase.older)}

#: All names that a phase's script may have.
NAMES = tuple(_BY_FILE)


def of(file: str) -> Phase | None:
    """The phase that a file in scripts/ is for, or None."""
    return _BY_FILE.get(file)


def that_run(when: When, side: Side) -> Iterator[Phase]:
    """The phases that run then and there, in their order."""
    return (phase for phase in PHASES if (phase.when, phase.side) == (when, side))


def side_of(membership: str) -> Side:
    """Which side machines of a membership are on."""
    return "server" if membership == "head" else "client"


def environment(opkg: str, membership: str) -> dict[str, str]:
    """What scripts and tests of an OPKG find in their environment, wherever and whenever they run.

    The first three are OSCAR's (lib/OSCAR/Package.pm); `OSCAR_MEMBERSHIP` is "head", or that of the compute node.
    """
    home = f"{PACKAGES}/{opkg}"
    return {
        "OSCAR_HOME": _HOME,
        "OSCAR_PACKAGE_HOME": home,
        "OSCAR_PACKAGE_TEST_HOME": f"{home}/testing",
        "OSCAR_MEMBERSHIP": membership,
    }


def has_script(phase: str, opkg: str, files: Container[str]) -> bool:
    """Whether files (paths below the folder of all recipes) have a script for a phase, by whichever of its names."""
    return any(f"opkgs/{opkg}/scripts/{name}" in files for name in (phase, *_BY_FILE[phase].older))
