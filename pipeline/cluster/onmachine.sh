# What is done on one machine that runs while an OPKG comes to it or goes, or a change of one is tried.  POSIX sh and what
# every small system has.
#
# Given: opkg, mark (what starts a line that is ours), mounts (the mount points), limit (seconds for a script), tree (the
# text of tree.pl); the functions of the package family and of the flavour; and what scripts find in their environment.
# Each function can be repeated after it broke off at any place.
#
# /var/lib/xen-oscar/opkgs has, while something is done, what there was before (`.before`: names and the times of their
# last change of any kind, which nobody can set; `.started`: what a boot would start); and for each OPKG a folder with
# home/ and root/ as they came, placed/ with what of its root/ stands on the machine, replaced/ with the files that were
# there instead, folders/ with those of its folders, empty, that were there.  `.settings` has the files that stood where
# packages brought settings, by path; `.going` names the settings of packages that are on their way out.

export LC_ALL=C
umask 022
state=/var/lib/xen-oscar/opkgs
tried=/var/lib/xen-oscar/tried
own=$state/$opkg
home=$OSCAR_PACKAGE_HOME

# What a call has begun here goes on when its caller was killed: the next one waits until it has ended.  The kernel gives
# up the lock with the shell that holds it; what a call starts (`9>&-`) never has it.
alone() {
    mkdir -p -m 700 "$state" && exec 9>"$state/.lock" && perl -e '
        my ($limit, $exclusive) = (@ARGV, 2);
        $SIG{ALRM} = sub { print "what an earlier call has begun here goes on after $limit s\n"; exit 1 };
        alarm $limit;
        open my $lock, ">&=9" or die "no lock: $!\n";
        flock $lock, $exclusive or die "no lock: $!\n"' "$limit"
}

list_names() {
    find $mounts -xdev ! -path '*
*' -printf '%C@ %p\n' | grep -v -E ' (/tmp|/var/(tmp|log|cache|lib/xen-oscar/opkgs))(/|$)' | sort
}

# What there was before; one that was broken off has left that for the next, what a boot would start in any case: what has
# come to that since was not started yet.  A command that is missing is told before anything is done, and is never an
# answer.
begin() {
    for tool in comm cp find grep md5sum mv perl readlink sed sort tar timeout tr xargs; do
        command -v "$tool" >/dev/null || { echo "there is no command $tool" && return 1; }
    done
    mkdir -p -m 700 "$state"
    begin_starting || return
    [ -e "$state/.before" ] || { list_names >"$state/.new" && mv "$state/.new" "$state/.before"; }
}

begin_starting() {
    [ -e "$state/.started" ] || { list_started >"$state/.new" && mv "$state/.new" "$state/.started"; }
}

# receive NAME ...: standard input is what these OPKGs bring.
receive() {
    rm -rf "$state/.packages" || return
    for name; do
        mkdir -p -m 700 "$state/$name" && rm -rf "$state/$name/home" "$state/$name/root" || return
        mkdir "$state/$name/home" "$state/$name/root" || return
    done
    tar -x -p -f - -C "$state" --numeric-owner
}

# keep PATH and restore PATH: a file that stands where a package has settings, and that stays when the package goes.
keep() {
    rm -f "$state/.settings$1" || return
    [ -e "$1" ] || return 0
    mkdir -p "$state/.settings${1%/*}" && cp -a "$1" "$state/.settings$1"
}

restore() {
    [ -e "$state/.settings$1" ] || return 0
    [ -e "$1" ] || { mkdir -p "${1%/*}/" && cp -a "$state/.settings$1" "$1"; } || return
    rm -f "$state/.settings$1"
}

packages() {
    mkdir -p "$state/.packages" || return
    settings_in "$state/.packages" </dev/null | while read -r path; do keep "$path" || exit; done || return
    add_packages "$state/.packages" </dev/null 2>&1 || return
    rm -rf "$state/.packages"
}

bring_home() {
    mkdir -p "${home%/*}" && rm -rf "$home" && cp -a "$own/home" "$home" && chmod 755 "$home"
}

take_home() {
    rm -rf "$home"
    rmdir -p "${home%/*}" 2>/dev/null || :
}

# For scripts that find calls with names, which may have any bytes.
with_names='
exists() { [ -e "$1" ] || [ -h "$1" ]; }
is_folder() { [ -d "$1" ] && [ ! -h "$1" ]; }
same() {
    if [ -h "$1" ] && [ -h "$2" ]; then
        [ "$(readlink "$1")" = "$(readlink "$2")" ]
    else
        [ ! -h "$1" ] && [ ! -h "$2" ] && [ -f "$1" ] && [ -f "$2" ] &&
            [ "$(md5sum <"$1")" = "$(md5sum <"$2")" ]
    fi
}
state=$1 own=$2 mark=$3 tree=$4
shift 4
'

# withdraw TREE: take away what it has placed and TREE does not have, and have back what that had replaced.  What somebody
# has changed stays.  So does what another OPKG has replaced: that one gets what it replaced itself.
# Services that go with it end first, but for those that were there before; one that does not end well is none that runs
# any more: that stops nothing.
withdraw() {
    cd "$own/placed" || return
    { services_in "$1"; services_in "$own/replaced"; } | sort -u >"$state/.said"
    stop_services $(services_in . | sort -u | comm -23 - "$state/.said") </dev/null 2>&1 || :
    find . -mindepth 1 -depth -exec sh -c "$with_names"'
        for path; do
            there=/${path#./} was=$own/replaced/$path stood=$own/folders/$path
            if is_folder "$path"; then
                if ! is_folder "$tree/$path"; then
                    # where it holds something else, others that have it take it away in the end
                    [ -d "$stood" ] || rmdir "$there" 2>/dev/null || rmdir "$state"/*/"folders/$path" 2>/dev/null
                    rmdir "$path" "$stood" 2>/dev/null
                fi
                continue
            fi
            over=
            for other in "$state"/*; do
                if [ "$other" != "$own" ] && same "$path" "$other/replaced/$path"; then over=$other; fi
            done
            if [ "$over" ]; then
                rm -f "$over/replaced/$path" || exit
                ! exists "$was" || mv "$was" "$over/replaced/$path" || exit
                printf "%s\n" "$mark kept $there"
            elif exists "$tree/$path" && ! is_folder "$tree/$path"; then
                continue
            elif exists "$there" && ! same "$path" "$there" && ! same "$own/root/$path" "$there"; then
                printf "%s\n" "$mark changed $there"
            elif exists "$was"; then
                back=${there%/*}/.xen-oscar-back
                mkdir -p "${there%/*}/" && rm -f "$back" && cp -a "$was" "$back" || exit
                rm -f "$there" && mv "$back" "$there" || exit
            else
                rm -f "$there" || exit
            fi
            rm -f "$path" "$was" || exit
        done
        :' sh "$state" "$own" "$mark" "$1" {} +
}

# A folder that is there already keeps what it has, and a link to one stays a link; where one side has a folder and the
# other does not, nothing is placed.  What an OPKG had placed before, and has no more, goes.
furnish() {
    mkdir -p "$own/placed" && withdraw "$own/root" || return
    cd "$own/root" || return
    find . -mindepth 1 -exec sh -c "$with_names"'
        wrong=0
        for path; do
            there=/${path#./}
            if ! exists "$there" || same "$own/placed/$path" "$there"; then
                continue
            elif is_folder "$path"; then
                [ -d "$there" ] || { printf "%s\n" "$there is no folder here, and one in the OPKG" && wrong=1; }
            elif is_folder "$there" || { [ -d "$there" ] && [ ! -h "$path" ]; }; then
                printf "%s\n" "$there is a folder here, and none in the OPKG" && wrong=1
            fi
        done
        exit $wrong' sh "$state" "$own" "$mark" "" {} + || return
    find . -mindepth 1 -exec sh -c "$with_names"'
        for path; do
            there=/${path#./} was=$own/replaced/$path placed=$own/placed/$path
            ! exists "$placed" || continue
            if is_folder "$path"; then
                [ ! -d "$there" ] || mkdir -p "$own/folders/$path" || exit
                mkdir "$placed" || exit
            else
                rm -f "$was" || exit
                ! exists "$there" || { mkdir -p "${was%/*}" && cp -a "$there" "$was"; } || exit
                ln "$path" "$placed" || exit
            fi
        done' sh "$state" "$own" "$mark" "" {} + || return
    tar -c -f - --numeric-owner -C "$own/root" . \
        | tar -x -p -f - --numeric-owner --no-overwrite-dir --keep-directory-symlink -C / || return
    cp -a -l -f "$own/root/." "$own/placed/"
}

# phase NAME: run its script; the status is the script's, and 124 if it took too long.
phase() {
    cd "$home" || return
    timeout -k 5 "$limit" "$home/scripts/$1" </dev/null 2>&1
}

# last_phase NAME: the same when the OPKG goes; where it has never come there is nothing to run.
last_phase() {
    [ -e "$own/home/scripts/$1" ] || return 0
    [ -e "$home/scripts/$1" ] || bring_home || return
    phase "$1"
}

start() {
    start_besides "$state/.started" >"$state/.said" 2>&1 </dev/null
    status=$?
    sed "s/^started /$mark &/" "$state/.said"
    return $status
}

# Take its files away.
unfurnish() {
    [ -d "$own/placed" ] || return 0
    withdraw /dev/null && rm -rf "$own/placed" "$own/replaced" "$own/folders"
}

# take NAME ...: packages.  Settings that somebody has changed stay; for others what stood there before comes back.
take() {
    settings_of "$@" </dev/null >>"$state/.going" || return
    sed -n 's/^changed //p' "$state/.going" | while read -r path; do
        [ ! -e "$path" ] || keep "$path" || exit
    done || return
    take_packages "$@" </dev/null 2>&1 || return
    sed 's/^[a-z]* //' "$state/.going" | while read -r path; do restore "$path" || exit; done || return
    sed -n "s/^changed /$mark &/p" "$state/.going" | sort -u
    rm -f "$state/.going"
    heed_services </dev/null 2>&1
}

forget() { rm -rf "$own"; }

# Tell what has changed since `begin`, as it is now.  Names are told as tree.pl tells them; of those that are gone find
# says so.
finish() {
    list_names >"$state/.now" || return
    comm -3 "$state/.before" "$state/.now" | sed 's/^[[:space:]]*[0-9.]* //' | sort -u >"$state/.changed"
    printf '\n%s names\n' "$mark"
    perl -pe 's/([^!-<>-\[\]-~\n])/sprintf "\\x%02x", ord $1/ge' "$state/.changed" || return
    tr '\n' '\0' <"$state/.changed" | tell_names || return
    printf '\n%s end\n' "$mark"
}

# Tell what these names are, which end in NUL.
tell_names() {
    xargs -0 -r sh -c '
        tree=$1 mark=$2
        shift 2
        perl -e "$tree" "$mark" 0 "$@" -maxdepth 0' sh "$tree" "$mark" 2>"$state/.said" || {
        grep -v '^find: ' "$state/.said" >&2
        return 1
    }
}

# What `finish` told is written down.
noted() { rm -f "$state/.before" "$state/.said" "$state/.now" "$state/.changed"; }

# And all that was to be done has been done.
settle() { noted && rm -f "$state/.started"; }

# What is tried lies in a folder for each membership: root/ has files for the machine's root, `names` lists what is brought
# of it and `removed` what goes, deepest first, each name ended by NUL; gone/ has names of files that go, `services` has
# the names of services that are to heed it.

# since_now: what the kernel has said so far is no matter of this try.
since_now() { cut -d ' ' -f 1 /proc/uptime >"$state/.since"; }

# receive_tried: on the head node standard input is all of it.
receive_tried() {
    since_now && mkdir -p -m 700 "$tried" && find "$tried" -mindepth 1 -delete || return
    tar -x -p -f - -C "$tried" --numeric-owner --xattrs --xattrs-include='*'
}

# fetch_tried MEMBERSHIP ADDRESS: a node gets what of that it does not have, from the image server.
fetch_tried() {
    since_now && mkdir -p -m 700 "$tried/$1" && rsync --contimeout=60 --timeout=120 -aHAXS --numeric-ids --checksum --delete \
        "rsync://$2/tried/$1/" "$tried/$1/" </dev/null 2>&1
}

# bring_tried MEMBERSHIP: what differs on the machine becomes what is tried.
bring_tried() {
    here=$tried/$1
    stop_services $(services_in "$here/gone") </dev/null 2>&1 || :
    xargs -0 -r sh -c '
        for path; do
            if [ -d "/$path" ] && [ ! -h "/$path" ]; then
                rmdir "/$path" 2>/dev/null || : # it holds something of the machine
            elif [ -e "/$path" ] || [ -h "/$path" ]; then
                rm -f "/$path" || exit
                printf "%s\n" "$0 removed /$path"
            fi
        done' "$mark" <"$here/removed" || return
    rsync -aHAXS --numeric-ids --checksum --force --no-implied-dirs --from0 --files-from="$here/names" \
        --out-format="%i /%n" "$here/root/" / </dev/null >"$state/.said" 2>&1 || {
        cat "$state/.said"
        return 1
    }
    sed -n "s|^[<>ch.][fLSD][^ ]* |$mark brought |p" "$state/.said"
}

# heed_tried MEMBERSHIP: what runs and is named starts again; what it does on its way out is the older one's doing.
heed_tried() {
    restart_named "$tried/$1/services" >"$state/.said" 2>&1 </dev/null
    status=$?
    sed "s/^restarted /$mark &/" "$state/.said"
    [ "$status" = 0 ] && since_now
}

# start_tried: what a boot would start by now, and before did not.
start_tried() { start && rm -f "$state/.started"; }

# look_tried MEMBERSHIP: sections as the collector tells them, of what a try can reach.
look_tried() {
    printf '\n%s hostname\n' "$mark"
    cat /proc/sys/kernel/hostname
    printf '\n%s services\n' "$mark"
    failed=$(failed_services </dev/null 2>&1)
    echo "$failed"
    printf '\n%s servicelog\n' "$mark"
    [ -z "$failed" ] || tell_services $(echo "$failed" | cut -d ' ' -f 2) </dev/null 2>&1
    printf '\n%s dmesg\n' "$mark"
    # and the first line, which says that there is a log
    dmesg 2>&1 | perl -ne 'BEGIN { $since = shift } print if $. == 1 || !/^(?:<\d+>)?\[ *([\d.]+)/ || $1 >= $since' \
        "$(cat "$state/.since")"
    cat "$tried/$1/names" "$tried/$1/removed" | tr '\0\n' '\n\0' | sed 's|^|/|' | tr '\0\n' '\n\0' | tell_names || return
    printf '\n%s end\n' "$mark"
}
