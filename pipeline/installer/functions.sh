# What the installer knows how to do with text: no mounts, no network, no disks, so that it can be tested anywhere.

# fact NAME: the value of NAME= on the kernel command line (the last one counts), nothing when it is not there.
# The command line is the one source of facts that every hypervisor and every boot loader can give.
fact() {
    value=
    for word in $(cat "${CMDLINE:-/proc/cmdline}"); do
        case $word in
            "$1="*) value=${word#*=} ;;
        esac
    done
    echo "$value"
}

# mac_address WORD: a MAC as the kernel writes it, from PXELINUX's 01-52-54-00-AA-BB-CC or the plain form.
mac_address() {
    word=$(echo "$1" | tr 'A-Z-' 'a-z:')
    case $word in
        ??:??:??:??:??:??:??) word=${word#*:} ;;
    esac
    echo "$word"
}

# client_of MAC FILE: the line of the clients table (mac name address prefix image) that belongs to a MAC.
client_of() {
    while read -r mac rest; do
        [ "$mac" = "$1" ] && echo "$rest" && return 0
    done <"$2"
    return 1
}

# partition_of DISK NUMBER: the device of a partition; disks whose name ends in a digit put a p in between.
partition_of() {
    case $1 in
        *[0-9]) echo "$1p$2" ;;
        *) echo "$1$2" ;;
    esac
}

# percent PART WHOLE: how much of WHOLE (bytes) is done, 99 at most: 100 is said by whoever knows that it ended.
percent() {
    done=$(($1 / 1024 * 100 / ($2 / 1024 + 1)))
    [ "$done" -gt 99 ] && done=99
    echo "$done"
}
