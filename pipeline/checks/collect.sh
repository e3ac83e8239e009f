# The facts about one machine, in one go and in sections.  POSIX sh and what every small system has.
#
# Given: mark (what starts a section line), mounts (the mount points), sums (`given` on a compute node; on the head node
# when its disk was made, in seconds since 1970), tree (the text of tree.pl); and the functions of its package family
# and of its flavour.  On a compute node standard input is the head node's answer to the clock reading, and then the
# image's checksums: nobody else may read it.

section() { printf '\n%s %s\n' "$mark" "$1"; }

if [ "$sums" = given ]; then
    # The head node answers with its own reading.  It was taken between these two, however slow the way is.
    before=$(date +%s.%N)
    echo "$before"
    read -r head
    after=$(date +%s.%N)
    section clock
    echo "$before $head $after"
fi
section hostname
cat /proc/sys/kernel/hostname
section kernel
uname -r
section hardware
grep -c '^processor' /proc/cpuinfo
grep '^MemTotal:' /proc/meminfo
section addresses
ip -o -4 address show 2>&1
section macs
for card in /sys/class/net/*; do
    read -r mac <"$card/address" && echo "${card##*/} $mac"
done 2>/dev/null
section blocks
for disk in /sys/block/*; do
    name=${disk##*/}
    case $name in loop* | ram* | zram* | nbd*) continue ;; esac
    read -r device <"$disk/dev" && read -r size <"$disk/size" && echo "$name $name $device $size 0"
    for part in "$disk/$name"*; do
        [ -e "$part/partition" ] || continue
        read -r device <"$part/dev" && read -r size <"$part/size" && read -r number <"$part/partition" \
            && echo "${part##*/} $name $device $size $number"
    done
done
section labels
for disk in /sys/block/*; do
    name=${disk##*/}
    [ -e "$disk/${name}1" ] || [ -e "$disk/${name}p1" ] || continue
    printf '%s ' "$name"
    od -A n -v -t x1 -N 512 "/dev/$name" 2>/dev/null | tr -d ' \n'
    echo
done
section mounts
cat /proc/self/mountinfo
section sizes
df -P -k 2>/dev/null
section swaps
cat /proc/swaps
section packages
list_packages </dev/null 2>&1
section services
failed=$(failed_services </dev/null 2>&1)
echo "$failed"
section servicelog
[ -z "$failed" ] || tell_services $(echo "$failed" | cut -d ' ' -f 2) </dev/null 2>&1
section dmesg
dmesg 2>&1
perl -e "$tree" "$mark" "$sums" $mounts 2>&1
section end
