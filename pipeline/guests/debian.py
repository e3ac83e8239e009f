"""Debian and its kin of today: systemd, and its networkd."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from pipeline.description import Cluster, Machine
from pipeline.guests.guest import OWN, Guest, Known

#: systemctl(1): of each unit its name, and how far it was loaded, is active, and how.
_SERVICES = r"""
failed_services() {
    systemctl list-units --state=failed --no-legend --plain --no-pager |
        sed 's/^\([^ ]*\)  *[^ ]*  *failed .*/failed \1/'
}
tell_services() { systemctl status --no-pager --full --lines 20 -- "$@"; }
"""


#: systemctl(1): what the target that is booted into wants, targets of targets too, whatever has said so: links, or
#: scripts of System V.  Folders in /run and the like are made as at a boot: tmpfiles.d(5).
_STARTING = r"""
list_started() {
    systemctl list-dependencies --plain --no-pager default.target | sed 's/^[^A-Za-z0-9_-]*//' | sort -u
}
start_besides() {
    systemctl daemon-reload || return
    systemd-tmpfiles --create || :
    fresh=$(list_started | comm -13 "$1" - | grep -v '^$')
    [ -n "$fresh" ] || return 0
    systemctl start -- $fresh || { systemctl status --no-pager --full --lines 20 -- $fresh; return 1; }
    printf 'started %s\n' $fresh
}
restart_named() {
    named=$(systemctl list-units --type=service --state=running --no-legend --plain --no-pager |
        sed 's/ .*//; s/\.service$//' | sort -u | comm -12 - "$1")
    [ -n "$named" ] || return 0
    systemctl restart -- $named || { systemctl status --no-pager --full --lines 20 -- $named; return 1; }
    printf 'restarted %s\n' $named
}
services_in() {
    for place in etc/systemd/system lib/systemd/system usr/lib/systemd/system; do
        find "$1/$place" -maxdepth 1 -name '*.*' ! -name '*@*' ! -type d 2>/dev/null | sed 's|.*/||'
    done
}
stop_services() {
    [ $# != 0 ] || return 0
    systemctl disable --now -- "$@"
    systemctl reset-failed -- "$@"
}
heed_services() { systemctl daemon-reload; }
"""


def _networks(cluster: Cluster, machine: Machine) -> Mapping[str, str]:
    """For systemd-networkd; systemd.network(5)."""
    files = {}
    for card in machine.interfaces:
        network = cluster.network(card.network)
        address = ipaddress.ip_interface(f"{card.address}/{card.prefix}")
        lines = [
            "[Match]",
            f"Name={card.name}",
            "",
            "[Network]",
            f"Address={address}",
            "LinkLocalAddressing=no",
            "IPv6AcceptRA=no",
        ]
        if network.host_address and machine.role == "head":
            lines.append(f"Gateway={network.host_address}")
        files[f"/etc/systemd/network/10-{card.name}.network"] = "\n".join(lines) + "\n"
    return files


GUEST = Guest(
    networks=_networks,
    known=(
        Known("etc/systemd/network/*", OWN, "the node's address"),
        Known("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", ("added",), "the node's address"),
        Known("etc/machine-id", OWN, "identity of the node"),
        Known("etc/ssl/private/ssl-cert-snakeoil.key", OWN, "the node's own certificate"),
        Known("etc/ssl/certs/ssl-cert-snakeoil.pem", OWN, "the node's own certificate"),
        Known("etc/ssl/certs/*.0", ("added",), "the node's own certificate"),
    ),
    fatal=(
        (r"^You are in (emergency|rescue) mode\b", "systemd went into {0} mode"),
        (r"Cannot open access to console, the root account is locked", "systemd went into emergency mode"),
    ),
    services=_SERVICES,
    starting=_STARTING,
    managing=r"(?<![.\w])(?:systemctl|service|invoke-rc\.d)\b",
    unit=r"(?:^|/)(?:etc|lib)/systemd/system/([^/]+)\.service(?:\.d/.*)?$",
    at_boot=("etc/systemd/", "usr/lib/systemd/", "etc/tmpfiles.d/", "usr/lib/tmpfiles.d/"),
)
