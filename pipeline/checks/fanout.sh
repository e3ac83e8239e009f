# On the head node: the facts of every machine, in one round; the nodes answer side by side.
#
# Given: mark, collector (the text of collect.sh), image (path of the SIS image without a suffix).  What follows
# calls `gather NODE ASSIGNMENTS` for each node and then `finish HEAD`.

[ -r "$image.sums" ] && sums=$image.sums || sums=/dev/null
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

gather() {
    {
        getent hosts "$1"
        LC_ALL=C ping -c 1 -W 10 "$1" 2>&1
        echo "status $?"
    } > "$work/$1.ping" &
    mkfifo "$work/$1.in"
    {
        ssh -o BatchMode=yes -o ConnectTimeout=30 -o LogLevel=ERROR "$1" "$2
$collector" < "$work/$1.in" 2> "$work/$1.err"
        echo "$?" > "$work/$1.status"
    } | {
        exec 9> "$work/$1.in"
        # The first line is the node's clock; it is answered with ours at once.
        read -r clock
        { date +%s.%N; cat "$sums"; } >&9 2> /dev/null &
        exec 9>&-
        cat
    } > "$work/$1.out" &
    gathered="$gathered $1"
}

section() { printf '\n%s %s\n' "$mark" "$1"; }

finish() {
    section "machine $1"
    (mounts=; eval "$collector") < /dev/null
    wait
    section tree
    cat "$image.tree"
    for node in $gathered; do
        section "machine $node"
        for fact in ping status err; do
            section "$fact"
            cat "$work/$node.$fact"
        done
        cat "$work/$node.out"
    done
}
