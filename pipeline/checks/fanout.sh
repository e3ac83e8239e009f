# On the head node: the facts of every machine, in one round.  So many nodes as `lanes` says answer side by side, and
# what one has answered is passed on, and taken away here, before the next is asked: neither the memory of ssh clients
# nor what nodes say grows with their number.
#
# Given: mark, collector (collect.sh, and before it what that is given for any machine), lanes.  What follows calls
# `node NAME IMAGE ASSIGNMENTS` for each node (IMAGE: the path of its SIS image) and then `finish HEAD ASSIGNMENTS`; before a
# node `more NAME FORMAT`, for printf, where it has checksums besides its image's.

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
: >"$work/queue"
# opened for both, so that neither end waits for the other nor sees the end of the file
mkfifo "$work/gathered" && exec 8<>"$work/gathered" || exit 1

more() { printf "$2" >"$work/$1.more"; }

node() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$work/queue"; }

section() { printf '\n%s %s\n' "$mark" "$1"; }

# gather NAME IMAGE ASSIGNMENTS
gather() {
    [ -r "$2.sums" ] && sums=$2.sums || sums=/dev/null
    {
        getent hosts "$1"
        LC_ALL=C ping -c 1 -W 10 "$1" 2>&1
        echo "status $?"
    } >"$work/$1.ping" &
    mkfifo "$work/$1.in"
    {
        ssh -o BatchMode=yes -o ConnectTimeout=60 -o LogLevel=ERROR "$1" "$3
$collector" <"$work/$1.in" 2>"$work/$1.err"
        echo "$?" >"$work/$1.status"
    } | {
        exec 9>"$work/$1.in"
        # The first line is the node's clock; it is answered with ours at once.
        read -r clock
        {
            date +%s.%N
            cat "$sums"
            [ ! -e "$work/$1.more" ] || cat "$work/$1.more"
        } >&9 2>/dev/null &
        exec 9>&-
        cat
    } >"$work/$1.out"
    wait
    echo "$1" >&8
}

# Ask the next node; false where there is none.
ask() {
    read -r node image given <&7 || return 1
    gather "$node" "$image" "$given" 7<&- &
    asked=$((asked + 1))
}

pass_on() {
    section "machine $1"
    for fact in ping status err; do
        section "$fact"
        cat "$work/$1.$fact"
    done
    cat "$work/$1.out"
    section over
    rm -f "$work/$1".*
}

finish() {
    exec 7<"$work/queue"
    asked=0
    while [ "$asked" -lt "$lanes" ] && ask; do :; done
    section "machine $1"
    (
        eval "$2"
        eval "$collector"
    ) </dev/null
    section over
    while [ "$asked" -gt 0 ]; do
        read -r gathered <&8
        asked=$((asked - 1))
        pass_on "$gathered"
        ask || :
    done
}
