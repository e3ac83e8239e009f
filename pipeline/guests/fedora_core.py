"""Red Hat's kin of 2005, Fedora Core 4 above all: SysVinit, `service` and `chkconfig`, a ramdisk by mkinitrd.

Source: the initscripts 8.11 of Fedora Core 4 (sysconfig.txt; rc.d/rc: who has started has a file in
/var/lock/subsys), mkinitrd 4.2 (nash finds a root by its label), OpenSSH 4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from pipeline.description import Cluster, Machine
from pipeline.guests.guest import OWN, Guest, Known

#: A service that starts leaves a file of its name in /var/lock/subsys: one that should run and has none did not start.
#: Of one that has, its own `status` tells whether it died since (LSB: 1 and 2; 3 where the file has another name).
_SERVICES = r"""
failed_services() {
    level=$(/sbin/runlevel | cut -d ' ' -f 2)
    for link in /etc/rc.d/rc$level.d/S*; do
        name=${link##*/S??} script=/etc/rc.d/init.d/${link##*/S??}
        # by its name, or by a variable that has it
        grep -Eq "/var/lock/subsys/([\$]|$name)" "$script" || continue
        if [ ! -e "/var/lock/subsys/$name" ]; then
            echo "failed $name"
        elif grep -q 'status)' "$script"; then
            "$script" status >/dev/null 2>&1
            case $? in 1 | 2 | 3) echo "failed $name" ;; esac
        fi
    done
}
tell_services() {
    for name in "$@"; do
        "/etc/rc.d/init.d/$name" status
        grep -h "$name" /var/log/messages | tail -n 20
    done
}
"""


_STARTING = r"""
list_started() {
    for link in /etc/rc.d/rc3.d/S*; do
        echo "${link##*/S??}"
    done | sort -u
}
start_besides() {
    for link in /etc/rc.d/rc3.d/S*; do # in the order of a boot
        name=${link##*/S??}
        grep -qxF "$name" "$1" && continue
        /sbin/service "$name" start </dev/null || return 1
        echo "started $name"
    done
}
restart_named() {
    for lock in /var/lock/subsys/*; do
        name=${lock##*/}
        { [ -x "/etc/rc.d/init.d/$name" ] && grep -qxF "$name" "$1"; } || continue
        /sbin/service "$name" restart </dev/null || return 1
        echo "restarted $name"
    done
}
services_in() {
    for place in etc/rc.d/init.d etc/init.d; do # the second is a link to the first
        ls "$1/$place" 2>/dev/null
    done
}
stop_services() {
    for name in "$@"; do
        /sbin/service "$name" stop
        /sbin/chkconfig --del "$name"
    done
}
heed_services() { :; }
"""


#: Its udev 058 expects the sysfs of its time.
_START_UDEV = """\
#!/bin/bash
# In place of udev, which is too old for this kernel: that makes the devices itself, and the ramdisk has loaded drivers.
grep -q ' /dev ' /proc/mounts || mount -n -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -n -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -n -t tmpfs tmpfs /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
"""


def _networks(cluster: Cluster, machine: Machine) -> Mapping[str, str]:
    """For `ifup`: sysconfig.txt of initscripts."""
    general = ["NETWORKING=yes", f"HOSTNAME={machine.name}.{cluster.domain}"]
    files = {}
    for card in machine.interfaces:
        network = cluster.network(card.network)
        mask = ipaddress.ip_interface(f"{card.address}/{card.prefix}").netmask
        files[f"/etc/sysconfig/network-scripts/ifcfg-{card.name}"] = (
            f"DEVICE={card.name}\nBOOTPROTO=static\nIPADDR={card.address}\nNETMASK={mask}\nONBOOT=yes\n"
        )
        if network.host_address and machine.role == "head":
            general.append(f"GATEWAY={network.host_address}")
    return {"/etc/sysconfig/network": "\n".join(general) + "\n", **files}


GUEST = Guest(
    networks=_networks,
    known=(
        Known("etc/sysconfig/network", OWN, "the node's name"),
        Known("etc/sysconfig/network-scripts/ifcfg-eth*", OWN, "the node's address"),
        Known("etc/machine-id", OWN, "identity of the node"),
        Known("var/run/**", ("content", "metadata", "missing", "added"), "while the system runs"),
        Known("var/lock/**", ("content", "metadata", "missing", "added"), "while the system runs"),
        Known("etc/mtab", OWN, "what is mounted"),
        Known("etc/adjtime", OWN, "how the clock drifts"),
        Known("etc/blkid.tab*", OWN, "partitions that were seen"),
        Known("etc/ld.so.cache", ("content", "metadata", "added"), "written when the machine starts"),
    ),
    fatal=(
        (r"Give root password for maintenance", "its start-up went into a maintenance shell"),
        (r"\*\*\* An error occurred during the (file system check|RAID startup)", "its {0} failed"),
    ),
    services=_SERVICES,
    starting=_STARTING,
    managing=r"(?<![.\w])(?:chkconfig|service)\b",
    unit=r"(?:^|/)etc/(?:rc\.d/)?init\.d/([^/]+)$",
    at_boot=("etc/rc.d/",),
    init="sysvinit",
    devices="pc",
    filesystem="ext3",
    own_ramdisk=True,
    by_label=True,
    key="rsa",
    ssh={
        "HostKeyAlgorithms": "+ssh-rsa",
        "PubkeyAcceptedAlgorithms": "+ssh-rsa",
        "KexAlgorithms": "+diffie-hellman-group14-sha1",
    },
    on_another_kernel={"/sbin/start_udev": _START_UDEV},
)
