# What is done on a VM container that clusters share, for one of them.  POSIX sh text, run there as root.  What only its
# engine knows stands in xen.sh or qemu.sh, which is set in front of it, and so are
#   cluster    its name
#   folder     what belongs to it lies there: disks/, boot/ (kernels), saved/ (memory), and the lists of what was made
#   run        a word for this start of the cluster, to know it from other starts
# and the name and words of one of these functions behind it.
# shellcheck disable=SC2154
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

top=${folder:+${folder%/*}}
top=${top:-/var/lib/xen-oscar}
store=$top/.store

refuse() {
    echo "$1" >&2
    exit 1
}

# Nobody else lists what is there; but the engine may be another user, who has to get through to its disks.
make_top() {
    mkdir -p "$top" "$store" && chmod 0711 "$top" "$store" || exit
}

# require_programs: what is done there besides the engine's own business
require_programs() {
    for program in python3 rsync ip flock lsblk virsh; do
        command -v "$program" >/dev/null || refuse "$program is missing there"
    done
}

# One at a time: what is left of a killed run may still be clearing up.
alone() {
    make_top
    exec 9>"$top/.$cluster.lock"
    flock -w 60 9 || refuse "somebody else has been working on $cluster there for a minute"
}

# require_memory MIB: libvirt would only say that the domain could not be created
require_memory() {
    free=$(free_memory)
    [ "$free" -ge "$1" ] || refuse "$1 MiB of memory are needed, $free MiB are free there: \
end other clusters, give the machines less, or the container more"
}

# require_device DEVICE MIB MACHINE: all that is on it will be lost, so nobody else may use it
require_device() {
    [ -b "$1" ] || refuse "$1, the disk of $3, is no block device there"
    has=$(($(lsblk --nodeps --bytes --noheadings --output SIZE "$1") >> 20))
    [ "$has" -ge "$2" ] || refuse "$1 has $has MiB, the file systems of $3 need $2 MiB"
    used=$(lsblk --noheadings --raw --output MOUNTPOINTS "$1" | grep . | head -n 1)
    [ -z "$used" ] || refuse "$1, the disk of $3, is in use there: it is mounted at $used"
    used=$(python3 -c "$device_program" "$1" true 2>&1) || refuse "$1, the disk of $3, is in use there: $used"
}

# One at a time looks for files of the store, or removes some.
alone_in_store() {
    make_top
    exec 8>"$store/.lock"
    flock -w 60 8 || refuse "somebody else has been working on $store there for a minute"
}

# want FILE: say "there" if the store has it.  From now on it stays, also if it has yet to come
want() {
    alone_in_store
    mkdir -p "$folder/wanted" && ln -sf "$store/$1" "$folder/wanted/$1" || exit
    [ ! -e "$store/$1" ] || { touch "$store/$1" && echo there; }
}

# change FILE FOLDER: it becomes what FOLDER/clusters has, of which each line of FOLDER/pieces says from where, to where
# and how many, in clusters of 64 KiB; the folder goes
change() {
    while read -r from to count; do
        dd if="$2/clusters" of="$1" bs=64K skip="$from" seek="$to" count="$count" conv=notrunc status=none </dev/null \
            || refuse "$1 could not be written"
    done <"$2/pieces" && rm -rf "$2" || exit
}

# taken FILE: it is no longer wanted by this cluster
taken() {
    rm -f "$folder/wanted/$1"
}

# is_used FILE: whether a cluster has that file of the store or wants it, or it comes from somewhere; one that broke
# off goes on for a day
is_used() {
    [ -n "$(find "$top" -maxdepth 3 -lname "$store/${1%%.*}" -print -quit)" ] \
        || case $1 in
            *.part) [ -n "$(find "$store/$1" -mtime -1)" ] ;;
            *) false ;;
        esac
}

# require_room MIB: what no cluster uses goes first, the longest unused before all
require_room() {
    alone_in_store
    while free=$(df --output=avail -BM "$top" | tail -n 1 | tr -dc 0-9) && [ "$free" -lt "$1" ]; do
        oldest=
        for file in $(ls -tr "$store"); do
            is_used "$file" || { oldest=$store/$file && break; }
        done
        [ -n "$oldest" ] || refuse "$1 MiB are needed in $top, $free MiB are free there"
        rm -f "$oldest" || exit
    done
}

# prepare OWNER MACHINE=UUID...: the folder is there, and nobody else has a cluster of that name
prepare() {
    alone
    [ ! -e "$folder/run" ] || refuse "$cluster is there already, started by $(cat "$folder/owner"): give yours another \
name.  If nobody has it any more: end its machines there, and remove $folder"
    rm -rf "$folder"
    mkdir -p "$folder/disks" "$folder/boot" "$folder/console" "$folder/report" \
        && chmod 0711 "$folder" "$folder/disks" "$folder/boot" && echo "$1" >"$folder/owner" && : >"$folder/bridges" \
        && echo "$run" >"$folder/run" || exit
    shift
    : >"$folder/machines" && enlist "$@"
}

# enlist MACHINE=UUID...: what ends with the cluster, by what only a domain of ours has
enlist() {
    for machine; do
        remove_logs "${machine%%=*}" # of a host that was switched off under it
        echo "${machine%%=*} ${machine#*=}"
    done >>"$folder/machines"
}

# provide MACHINE.DISK MIB throwaway|kept OWNER: a disk for data is there, and has that size; what is on it stays.  Those
# that are kept lie beside all clusters' folders, and belong to whoever had the first one there
provide() {
    file=$folder/disks/$1
    if [ "$3" = kept ]; then
        all=$top/.kept/$cluster
        mkdir -p "$all" && chmod 0711 "$top/.kept" "$all" || exit
        # whole or not there; of two that come at once one is first
        [ -e "$all/owner" ] || { echo "$4" >"$all/owner.$$" && { ln "$all/owner.$$" "$all/owner" 2>/dev/null || :; } \
            && rm "$all/owner.$$"; } || exit
        [ "$(cat "$all/owner")" = "$4" ] || refuse "$all has disks that are kept for $(cat "$all/owner"): give your \
cluster another name; or if they are yours, remove $all/owner there"
        ln -sfn "$all/$1" "$file" && file=$all/$1 || exit
    elif [ -h "$file" ]; then
        rm "$file" || exit # it was to be kept before
    fi
    has=0 # of MiB, one that is begun counts; of what a link leads to, as when it was moved elsewhere
    [ ! -e "$file" ] || has=$((($(stat -L -c %s "$file") + 1048575) >> 20))
    [ "$has" -le "$2" ] || refuse "$file has $has MiB there, and the recipe says $2, what is beyond would be lost: say \
size = \"${has}M\", or remove the file, and what is on it with it"
    truncate -s ">$2M" "$file" || exit
}

# tell_kept OWNER: the disks that are kept there for that owner, as MACHINE.DISK, a line each
tell_kept() {
    all=$top/.kept/$cluster
    [ "$(cat "$all/owner" 2>/dev/null)" = "$1" ] || return 0
    for file in "$all"/*.*; do
        [ ! -e "$file" ] || echo "${file##*/}"
    done
}

# discard OWNER MACHINE.DISK...: they go, and what is on them, also of one that was moved elsewhere
discard() {
    all=$top/.kept/$cluster
    [ "$(cat "$all/owner" 2>/dev/null)" = "$1" ] || refuse "$all is not yours"
    shift
    for disk; do
        ! file=$(readlink -e "$all/$disk") || rm -f "$file" || exit
        rm -f "$all/$disk" || exit
    done
    [ -n "$(ls "$all" | grep -vx owner)" ] || rm -rf "$all"
}

# remove MACHINE...: the files of machines that have ended
remove() {
    for machine; do
        rm -f "$folder/disks/$machine" "$folder/disks/$machine."* "$folder/saved/$machine" && remove_logs "$machine" || exit
    done
}

# make_room_to_save MACHINE MIB: for the machine's memory
make_room_to_save() {
    mkdir -p -m 0700 "$folder/saved" && rm -f "$folder/saved/$1" || exit
    free=$(df --output=avail -BM "$folder/saved" | tail -n 1 | tr -dc 0-9)
    [ "$free" -ge "$2" ] || refuse "$1 needs $2 MiB in $folder/saved, $free are free"
}

# remove_saved MACHINE
remove_saved() {
    rm -f "$folder/saved/$1"
}

# make_bridge NAME [ADDRESS CIDR HINT]
make_bridge() {
    ip link show "$1" >/dev/null 2>&1 \
        || ip link add "$1" type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
        || refuse "a bridge cannot be made there: has its kernel the module bridge?"
    echo "$1" >>"$folder/bridges"
    if [ -n "${2-}" ]; then
        taken=$(ip -4 -o address show to "$3" | grep -v " $1 " | awk '{print $2}')
        [ -z "$taken" ] || refuse "$3 is taken there by $taken: $4"
        ip address replace "$2/${3#*/}" dev "$1" || exit
    fi
    ip link set "$1" up || exit
}

# require_bridges: they were made when the cluster was started, and may be gone since
require_bridges() {
    [ "$(cat "$folder/run" 2>/dev/null)" = "$run" ] \
        || refuse "$cluster is no longer there: doit stop:$cluster, then doit cluster:$cluster"
    while read -r bridge; do
        [ -d "/sys/class/net/$bridge/bridge" ] || refuse "the bridge $bridge is missing there: \
doit stop:$cluster, then doit cluster:$cluster"
    done <"$folder/bridges"
}

# fill DEVICE FILE: the device becomes what the file is, and is nobody else's meanwhile
fill() {
    said=$(python3 -c "$device_program" "$1" dd if="$2" of="$1" bs=4M conv=fsync status=none 2>&1) \
        || refuse "$1 cannot be filled: $said"
}

# clear: machines, bridges and files of this start of the cluster, if they are still there
clear() {
    alone
    [ "$(cat "$folder/run" 2>/dev/null)" = "$run" ] || return 0
    if [ -e "$folder/machines" ]; then
        # one virsh for all, which goes on where one of them is off or gone
        sed 's/.* //; s/.*/destroy &; undefine &/' "$folder/machines" \
            | virsh --quiet --connect "$uri" >/dev/null 2>&1
        while read -r machine _; do
            remove_logs "$machine"
        done <"$folder/machines"
    fi
    if [ -e "$folder/bridges" ]; then
        while read -r bridge; do
            ip link delete "$bridge" 2>/dev/null
        done <"$folder/bridges"
    fi
    rm -rf "$folder"
}

# follow LABEL SEEN ...: what these machines write from there on (console/MACHINE, report/MACHINE), and what the host's
# kernel says, in pieces, until standard input ends; see follow.py
follow() {
    count=$#
    while [ "$count" -gt 0 ]; do
        set -- "$@" "$1" "$(log_of "$1")" "$2"
        shift 2
        count=$((count - 2))
    done
    exec python3 -c "$follow_program" "$@"
}

# tell_logs: what the engine, libvirt and the kernel said last
tell_logs() {
    engine_logs | while read -r file; do
        [ -s "$file" ] && printf '\n--- %s\n' "$file" && tail -n 40 "$file"
    done
    engine_says
    printf '\n--- dmesg\n'
    dmesg | tail -n 40
}
