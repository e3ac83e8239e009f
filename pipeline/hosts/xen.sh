# What is particular to a VM container that runs Xen; see host.sh, which uses it.
# shellcheck disable=SC2034,SC2154,SC2317
uri=xen:///system

require_engine() {
    [ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ] && grep -q control_d /proc/xen/capabilities 2>/dev/null \
        || refuse 'this machine does not run Xen, or is no dom0: doit xenhost-setup makes a Xen host of a Debian machine'
}

# say_engine: in a few words
say_engine() {
    version=$(xl info xen_version) && free=$(xl info free_memory) || exit
    echo "Xen $version, $free MiB free"
}

# carries: how many processors machines may use, and how they run on them
carries() {
    processors=$(xl info nr_cpus) || exit
    echo "$processors kvm"
}

# require_kind pv|pvh|hvm MACHINE
require_kind() {
    word=hvm
    [ "$1" != pv ] || word=pv
    case " $(xl info virt_caps) " in
        *" $word "*) ;;
        *) refuse "$2 is of type \"$1\", which this host does not run (xl info: virt_caps): set xen.machines.$2.type" ;;
    esac
}

# free_memory: MiB that machines can have
free_memory() {
    free=$(xl info free_memory)
    # where dom0's memory is not fixed, it is made smaller
    case $(xl info xen_commandline) in
        *dom0_mem=*) ;;
        *) free=$((free + $(xl list 0 | awk 'NR == 2 {print $3}') - 1024)) ;;
    esac
    echo "$free"
}

# log_of console/MACHINE: where xenconsoled keeps what it writes
log_of() {
    mkdir -p /var/log/xen/console || exit
    echo "/var/log/xen/console/guest-$cluster-${1#console/}.log"
}

# remove_logs MACHINE
remove_logs() {
    rm -f "$(log_of "console/$1")"
}

# engine_logs: files in which one may find why a machine did not start
engine_logs() {
    ls /var/log/xen/xen-hotplug.log /var/log/libvirt/libxl/libxl-driver.log \
        /var/log/libvirt/libxl/"$cluster"-*.log /var/log/xen/bootloader.*.log 2>/dev/null
}

engine_says() {
    printf '\n--- xl dmesg\n'
    xl dmesg | tail -n 40
}
