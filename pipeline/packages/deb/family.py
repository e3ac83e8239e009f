"""Who builds what of Debian's packages."""

from __future__ import annotations

from pipeline.packages.family import Family, Maker

_UNPACKING = ("dpkg-deb", "tar", "zstd")
#: Where a rename is refused, those that change a root work on a copy of it.
_CHANGING = ("cp", *_UNPACKING)

#: dpkg-query(1): what is left of "rc", "pn" and "un" are settings, or nothing; "ii" is installed, wanted and no error.
#: One that was never unpacked to its end has no version.
_LISTING = r"""
list_packages() {
    dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' |
        sed -e '/ rc *$/d' -e '/ pn *$/d' -e '/ un *$/d' -e 's/^\([^ ]*\)  /\1 - /' -e 's/ ii *$/ whole/' -e 's/ *$//'
}
"""

#: systemctl(1), environment: with SYSTEMD_OFFLINE nothing that scripts ask of the running systemd is done, so services
#: start when all that configures them is there.  dpkg takes away nothing that others need.
#: deb-conffiles(5), dpkg-query(1): a conffile's line ends with its checksum, and with words about what becomes of it.
_CHANGING_MACHINE = r"""
add_packages() {
    export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true SYSTEMD_OFFLINE=1
    dpkg --configure --pending || return
    set -- "$1"/*.deb
    [ -e "$1" ] || return 0
    apt-get -q --assume-yes --no-install-recommends --no-remove -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root -o DPkg::Use-Pty=false \
        -o DPkg::Options::=--force-confnew install "$@"
}
take_packages() {
    export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
    [ $# = 0 ] || dpkg --purge "$@"
}
settings_in() {
    for file in "$1"/*.deb; do
        [ -e "$file" ] || continue
        case $(dpkg-query -W -f '${db:Status-Status}' "$(dpkg-deb -f "$file" Package)" 2>/dev/null) in
            '' | not-installed | config-files) dpkg-deb -I "$file" conffiles 2>/dev/null | grep '^/' ;;
        esac
    done
}
settings_of() {
    [ $# != 0 ] || return 0
    dpkg-query -W -f '${Conffiles}\n' "$@" 2>/dev/null |
        sed -n 's/^ \(\/.*\) \([0-9a-f]\{32\}\)\( [a-z-]*\)*$/\2 \1/p' |
        while read -r sum path; do
            case $(md5sum <"$path") in
                '' | "$sum "*) echo "same $path" ;;
                *) echo "changed $path" ;;
            esac
        done 2>/dev/null
}
"""

DEB = Family(
    name="deb",
    called="Debian package",
    suffix=".deb",
    magic=b"!<arch>\n",
    database="var/lib/dpkg",
    listing=_LISTING,
    changing=_CHANGING_MACHINE,
    mirrors="pipeline.packages.deb.mirrors:bases",
    releases="pipeline.packages.deb.mirrors:releases",
    index=Maker("pipeline.packages.deb.index:build", ("apt-get", "apt-config", "gpgv")),
    lock=Maker("pipeline.packages.deb.resolve:build", ("apt-get",)),
    fetch=Maker("pipeline.packages.deb.fetch:build", ("apt-config",)),
    root=Maker("pipeline.packages.deb.root:build", _UNPACKING),
    layer=Maker("pipeline.packages.deb.layer:build", _CHANGING),
    under_test=Maker("pipeline.packages.deb.under_test:build", _CHANGING),
    unpacked=Maker("pipeline.packages.deb.unpacked:build", _UNPACKING),
)
