# What is particular to a VM container that runs QEMU under the machine's own libvirt; see host.sh, which uses it.
# shellcheck disable=SC2034,SC2154,SC2317
uri=qemu:///system

# require_engine: libvirt says whether it has QEMU
require_engine() {
    [ "$(id -u)" = 0 ] || refuse 'bridges and disks are made there as root: use a URI that leads to root'
    virsh --connect "$uri" version >/dev/null 2>&1 \
        || refuse "libvirt does not answer there at $uri: is it installed, and does it run?  virsh --connect $uri version"
}

# say_engine: in a few words
say_engine() {
    find_accelerator
    virsh --connect "$uri" version | sed -n 's/^Running hypervisor: //p' | tr '\n' ' '
    echo "with $found, $(free_memory) MiB free"
}

# carries: how many processors machines may use, and how they run on them
carries() {
    find_accelerator
    echo "$(nproc) $found"
}

# find_accelerator: sets found=kvm where a real kernel boots with it, which in clouds and containers it often does not
# though libvirt lists it, and tcg elsewhere.  Tried with a kernel of the host's own, if it has one; that it does not
# boot is believed for an hour, as the host may have been busy
find_accelerator() {
    found=tcg
    virsh --connect "$uri" domcapabilities --virttype kvm >/dev/null 2>&1 || return 0
    found=kvm
    emulator=$(virsh --connect "$uri" domcapabilities --virttype kvm | sed -n 's|^ *<path>\(.*\)</path>.*|\1|p' \
        | head -n 1)
    kernel=$(ls -t /boot/vmlinuz-* 2>/dev/null | head -n 1)
    [ -r "$kernel" ] || return 0
    key="$(cat /proc/sys/kernel/random/boot_id) $(stat -c %Y "$emulator")"
    make_top
    case $(cat "$top/.accelerator" 2>/dev/null) in
        "$key kvm") return 0 ;;
        "$key tcg") [ -z "$(find "$top/.accelerator" -mmin +60)" ] && found=tcg && return 0 ;;
    esac
    case $(timeout 20 "$emulator" -accel kvm -cpu host -m 256 -nodefaults -no-user-config -display none \
        -serial stdio -no-reboot -kernel "$kernel" -append 'console=ttyS0 panic=-1' </dev/null 2>/dev/null) in
        *'Kernel panic - not syncing: VFS: Unable to mount root fs'*) ;;
        *) found=tcg ;;
    esac
    echo "$key $found" >"$top/.accelerator.$$" && mv "$top/.accelerator.$$" "$top/.accelerator" || exit
}

# require_kind pv|pvh|hvm MACHINE: the words are Xen's, and QEMU's machines are all alike
require_kind() {
    :
}

# free_memory: MiB that machines can have
free_memory() {
    awk '/^(MemAvailable|SwapFree):/ {free += $2} END {print int(free / 1024)}' /proc/meminfo
}

# log_of console/MACHINE|report/MACHINE: where libvirt keeps what it writes there
log_of() {
    case $1 in
        console/*) echo "$folder/$1.log" ;;
        *) echo "$folder/$1" ;;
    esac
}

# remove_logs MACHINE: and older ones, which virtlogd has set aside
remove_logs() {
    rm -f "$folder/console/$1.log" "$folder/console/$1.log".[0-9] "$folder/report/$1" "$folder/report/$1".[0-9]
}

# engine_logs: files in which one may find why a machine did not start
engine_logs() {
    ls /var/log/libvirt/qemu/"$cluster"-*.log 2>/dev/null
}

engine_says() {
    :
}
