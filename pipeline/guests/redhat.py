"""Red Hat's kin of today: systemd, and its networkd, as EPEL has it."""

from __future__ import annotations

from pipeline.guests import debian
from pipeline.guests.guest import OWN, Guest, Known

GUEST = Guest(
    networks=debian.GUEST.networks,
    known=(
        Known("etc/systemd/network/*", OWN, "the node's address"),
        Known("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", ("added",), "the node's address"),
        Known("etc/machine-id", OWN, "identity of the node"),
    ),
    fatal=debian.GUEST.fatal,
    services=debian.GUEST.services,
    starting=debian.GUEST.starting,
    managing=debian.GUEST.managing,
    unit=debian.GUEST.unit,
    at_boot=debian.GUEST.at_boot,
)
