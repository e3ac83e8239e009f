# The first process of a cluster's namespaces: prepares them, starts libvirtd, then reaps children until it is killed.
#
# usage: init.sh CAPABILITIES NETWORK[=ADDRESS/PREFIX]...      (standard output is the line to the parent)
#
# A shell and not Python, because it stays for as long as the cluster lives, and a shell costs a megabyte and a half.
# It says `ready` and which process it is once libvirtd takes connections.  When nobody listens any more the write fails,
# and all ends again.  /run/xen-oscar shows what of the run folder is libvirt's and the machines' (namespace.py).
# It must reap: with a first process that does not, ended QEMUs stay as zombies and libvirt waits 40 s for each.

set -eu
umask 022

capabilities=$1
shift

# /proc is still the parent's, so this is our process id as the parent sees it; field 22 is when we started
identify() {
    pid=$1
    shift 21
    start=$1
}
read -r stat </proc/self/stat
# shellcheck disable=SC2086
identify $stat
read -r boot </proc/sys/kernel/random/boot_id

mount -t proc proc /proc
# who makes another user namespace has all power in it, which many a fault of the kernel needed
echo 0 >/proc/sys/user/max_user_namespaces || :
# shows this namespace's network cards; where that is forbidden, libvirtd complains about the host's, and works
mount -t sysfs sysfs /sys 2>/dev/null || :

mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
for place in /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt; do
    mount -t tmpfs -o mode=0755,size=64m tmpfs "$place"
done
mkdir -p /var/cache/libvirt/qemu
if [ -d "$capabilities" ]; then
    cp -r "$capabilities" /var/cache/libvirt/qemu/capabilities || rm -rf /var/cache/libvirt/qemu/capabilities
fi

# QEMU's user is root here, nobody or the one who started the cluster outside, and nothing may need extended attributes, cgroups or a /dev of its
# own, which a user's namespace does not give.  Consoles and report channels go through virtlogd and not straight to
# their files: a machine may print as long and as fast as it likes, and each has 8 MiB of the disk at most.  It never
# waits for a reader, also when the disk is full.
cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
memory_backing_dir = "/run/xen-oscar/ram"
END
cat >/etc/libvirt/virtlogd.conf <<'END'
max_size = 4194304
max_backups = 1
log_outputs = "3:file:/run/xen-oscar/libvirtd.log"
END
# A run that somebody has stopped (Ctrl-Z) for a while answers nothing, and shall not lose its connection by that.
cat >/etc/libvirt/libvirtd.conf <<'END'
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
keepalive_interval = -1
log_outputs = "3:file:/run/xen-oscar/libvirtd.log"
END

ip link set lo up
for network in "$@"; do
    bridge=${network%%=*}
    ip link add "$bridge" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    case $network in
        *=?*) ip address add "${network#*=}" dev "$bridge" ;;
    esac
    ip link set "$bridge" up
done

# it takes six descriptors for each machine
(
    ulimit -S -n 16384 2>/dev/null || :
    exec virtlogd --daemon >&2
)
libvirtd --daemon >&2

# What libvirt finds out about QEMU takes it a second or more: ask for it, and keep it for the next start.
if [ ! -d "$capabilities" ]; then
    {
        new=$capabilities.$pid
        virsh --quiet --connect qemu:///system capabilities \
            && cp -r /var/cache/libvirt/qemu/capabilities "$new" \
            && mv -T "$new" "$capabilities" || rm -rf "$new"
    } >/dev/null 2>&1 &
fi

# Whoever brings the cluster up holds the lease meanwhile (namespace.py made it and says `held`).  A holder that ends
# without having said `kept` leaves half a cluster behind, which ends with it.  Opened for both first, because opening
# it to read waits for a holder, and the one who started this may be dead by now: that then shows as the file's end.
exec 6<>/run/xen-oscar/lease 5</run/xen-oscar/lease 6>&-
trap 'exit 1' TERM
(
    exec 0<&5 5<&-
    while :; do
        held=0
        while read -r word; do
            case $word in
                held) held=$((held + 1)) ;;
                kept) held=$((held - 1)) ;;
            esac
        done
        [ "$held" = 0 ] || break
        exec 0</run/xen-oscar/lease
    done
    kill -TERM 1
) >/dev/null &
exec 5<&-

echo "ready $pid $start $boot"
exec >/dev/null

# `wait` collects whatever ends meanwhile, orphans included; the sleep only gives it something to wait for
while :; do
    sleep infinity &
    wait $!
done
