# What is done on one machine that runs while an OPKG comes to it or goes.  POSIX sh and what every small system has.
#
# Given: opkg, mark (what starts a line that is ours), mounts (the mount points), limit (seconds for a script), tree (the
# text of tree.pl); the functions of the package family and of the flavour; and what scripts find in their environment.
# Each function can be repeated after it broke off at any place.
#
# /var/lib/xen-oscar/opkgs has, while something is done, what there was before (`.before`: names and the times of their
# last change of any kind, which nobody can set; `.started`: what a boot would start); and for each OPKG a folder with
# home/ and root/ as they came, `replaced.tar` with what its files have replaced, `made` with the folders that were not
# there.

export LC_ALL=C
umask 022
state=/var/lib/xen-oscar/opkgs
own=$state/$opkg
home=$OSCAR_PACKAGE_HOME

list_names() {
    find $mounts -xdev ! -path '*
*' -printf '%C@ %p\n' | grep -v -E ' (/tmp|/var/(tmp|log|cache|lib/xen-oscar/opkgs))(/|$)' | sort
}

# What there was before; one that was broken off has left that for the next.
begin() {
    mkdir -p -m 700 "$state"
    [ -e "$state/.before" ] || {
        list_started >"$state/.started"
        list_names >"$state/.before.new" && mv "$state/.before.new" "$state/.before"
    }
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

packages() {
    mkdir -p "$state/.packages" && add_packages "$state/.packages" </dev/null 2>&1 || return
    rm -rf "$state/.packages"
}

bring_home() {
    mkdir -p "${home%/*}" && rm -rf "$home" && cp -a "$own/home" "$home" && chmod 755 "$home"
}

take_home() {
    rm -rf "$home"
    rmdir -p "${home%/*}" 2>/dev/null || :
}

# A folder that is there already keeps what it has, and a link to one stays a link.
furnish() {
    cd "$own/root" || return
    [ -e "$own/replaced.tar" ] || {
        find . -mindepth 1 -type d -exec sh -c 'for path; do [ -e "/$path" ] || echo "/${path#./}"; done' sh {} + \
            >"$own/made" || return
        find . ! -type d -exec sh -c '
            for path; do
                if [ -e "/$path" ] || [ -h "/$path" ]; then printf "%s\0" "$path"; fi
            done' sh {} + | tar -c -p -f "$own/replaced.new" -C / --numeric-owner --no-recursion --null -T - || return
        mv "$own/replaced.new" "$own/replaced.tar" || return
    }
    tar -c -f - --numeric-owner -C "$own/root" . \
        | tar -x -p -f - --numeric-owner --no-overwrite-dir --keep-directory-symlink -C /
}

# phase NAME: run its script; the status is the script's, and 124 if it took too long.
phase() {
    cd "$home" || return
    timeout -k 5 "$limit" "$home/scripts/$1" </dev/null 2>&1
}

# last_phase NAME: the same when the OPKG goes; where it has never come there is nothing to run.
last_phase() {
    [ -d "$own/home" ] || return 0
    [ -d "$home" ] || bring_home || return
    phase "$1"
}

start() {
    start_besides "$state/.started" >"$state/.said" 2>&1 </dev/null
    status=$?
    sed "s/^started /$mark &/" "$state/.said"
    return $status
}

# Take its files away; those that somebody has changed stay, and so do those that `kept`, lines, says others have.
# Services that it has files for end first; one that does not end well is none that runs any more: that stops nothing.
unfurnish() {
    [ -e "$own/replaced.tar" ] || return 0
    cd "$own/root" || return
    stop_services $(services_in .) </dev/null 2>&1 || :
    printf '%s\n' "$kept" >"$own/kept"
    find . ! -type d -exec sh -c '
        own=$1 mark=$2
        shift 2
        for path; do
            there=/${path#./} same=
            if [ -h "$path" ] && [ -h "$there" ]; then
                [ "$(readlink "$path")" != "$(readlink "$there")" ] || same=yes
            elif [ ! -h "$path" ] && [ ! -h "$there" ]; then
                ! cmp -s "$path" "$there" || same=yes
            fi
            if [ ! -e "$there" ] && [ ! -h "$there" ]; then
                :
            elif grep -q -x -F -e "$there" "$own/kept"; then
                echo "$mark kept $there"
            elif [ "$same" ]; then
                rm -f "$there" || exit
                printf "%s\0" "$path" >>"$own/taken"
            else
                echo "$mark changed $there"
            fi
        done' sh "$own" "$mark" {} + || return
    # what its files had replaced comes back
    tar -t -f "$own/replaced.tar" | sort >"$own/list" || return
    [ ! -e "$own/taken" ] || tr '\0' '\n' <"$own/taken" | sort -u | comm -12 - "$own/list" >"$own/back"
    [ ! -s "$own/back" ] || tar -x -p -f "$own/replaced.tar" -C / --numeric-owner -T "$own/back" || return
    sort -r "$own/made" | while read -r folder; do rmdir "$folder" 2>/dev/null || :; done
}

# take NAME ...: packages.
take() {
    take_packages "$@" </dev/null 2>&1 || return
    heed_services </dev/null 2>&1
}

forget() { rm -rf "$own"; }

# Tell what has changed since `begin`, as it is now.
finish() {
    list_names | comm -3 "$state/.before" - | sed 's/^[[:space:]]*[0-9.]* //' | sort -u >"$state/.changed"
    printf '\n%s names\n' "$mark"
    cat "$state/.changed"
    tr '\n' '\0' <"$state/.changed" | xargs -0 -r sh -c '
        tree=$1 mark=$2
        shift 2
        perl -e "$tree" "$mark" 0 "$@" -maxdepth 0 2>/dev/null' sh "$tree" "$mark"
    printf '\n%s end\n' "$mark"
}

# What `finish` told is written down.
settle() { rm -f "$state/.before" "$state/.started" "$state/.said" "$state/.changed"; }
