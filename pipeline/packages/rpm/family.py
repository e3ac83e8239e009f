"""Who builds what of RPM packages."""

from __future__ import annotations

from pipeline.packages.family import Family, Maker

#: What this machine's rpm is given where it installs, and a distribution or an administrator may change.
_CONFIGURATION = ("file:/usr/lib/rpm/macros", "file:/usr/lib/rpm/rpmrc")
_UNPACKING = ("rpm2archive", "tar", "zstd")

#: rpm(8): what is in the database is whole; gpg-pubkey are keys and no packages; an epoch of 0 is none, as
#: in metadata and locks.
_LISTING = r"""
list_packages() {
    RPM_FORCE_DEBIAN=1 rpm -qa --qf '%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} whole\n' 2>/dev/null |
        sed '/^gpg-pubkey /d; s/ 0:/ /' | sort
}
"""

#: Signatures were checked when the files were fetched.  systemctl(1), environment: with SYSTEMD_OFFLINE nothing that
#: scripts ask of the running systemd is done.  Of a file whose content has changed the third letter that verifying
#: tells is a 5.
#:
#: A script that fails, finds no command, or files of nobody: rpm goes on, and ends well; while a root is made that is
#: an error, too (`install`).  Nor does rpm know whether the scripts of a package have run.  So all that was to come
#: when an addition broke off comes anew: its scripts find a first installation, its files are met as anybody's.
_CHANGING_MACHINE = r"""
add_packages() {
    export SYSTEMD_OFFLINE=1
    folder=$1 begun=$1.begun
    touch "$begun"
    set --
    for file in "$folder"/*.rpm; do
        [ -e "$file" ] || continue
        package=$(rpm --query --package --nosignature --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$file") || return
        if rpm --query --quiet "$package"; then
            grep -qxF "$package" "$begun" || continue
            rpm --erase --justdb --nodeps --noscripts "$package" >&2 || return
        fi
        echo "$package" && set -- "$@" "$file" || return
    done >>"$begun"
    if [ $# != 0 ]; then
        rpm --upgrade --nosignature "$@" >"$begun.said" 2>&1
        status=$?
        cat "$begun.said"
        [ $status = 0 ] || return 1
        ! grep -Eq -e '^(error|warning): %[a-z]+\(.*\) scriptlet failed, ' \
            -e '^warning: (user|group) .* does not exist - using root$' \
            -e '^[^ ]*/rpm-tmp\.[^ ]*: (line )?[0-9]+: .*: (command )?not found$' "$begun.said" || return 1
    fi
    rm -f "$begun" "$begun.said"
}
take_packages() {
    for package; do
        shift
        ! rpm --query --quiet "$package" || set -- "$@" "$package"
    done
    [ $# = 0 ] || rpm --erase "$@"
}
settings_in() {
    for file in "$1"/*.rpm; do
        [ -e "$file" ] || continue
        rpm --query --quiet "$(rpm --query --package --nosignature --qf '%{NAME}' "$file")" ||
            rpm --query --package --nosignature --configfiles "$file" | grep '^/'
    done
}
settings_of() {
    for package; do
        rpm --query --quiet "$package" || continue
        rpm --query --configfiles "$package" | sed -n 's/^\//same &/p'
        rpm --verify --nodeps "$package" | sed -n 's/^..5[^ ]* *c *\//changed \//p'
    done
}
"""

RPM = Family(
    name="rpm",
    called="RPM package",
    suffix=".rpm",
    magic=b"\xed\xab\xee\xdb",
    database="var/lib/rpm",
    listing=_LISTING,
    changing=_CHANGING_MACHINE,
    mirrors="pipeline.packages.rpm.mirrors:bases",
    releases="pipeline.packages.rpm.mirrors:releases",
    index=Maker("pipeline.packages.rpm.index:build", ("bsdtar", "gpgv", "python:createrepo-c", "python:zstandard")),
    lock=Maker("pipeline.packages.rpm.resolve:build", ("python:solv",)),
    fetch=Maker("pipeline.packages.rpm.fetch:build", ("bsdtar", "rpm", "rpmkeys")),
    root=Maker("pipeline.packages.rpm.root:build", ("ldd", "rpm", *_CONFIGURATION, *_UNPACKING)),
    layer=Maker("pipeline.packages.rpm.layer:build", ("cp", "tar", "zstd")),
    under_test=Maker("pipeline.packages.rpm.under_test:build", ("cp", "rpm", "tar", "zstd")),
    unpacked=Maker("pipeline.packages.rpm.unpacked:build", _UNPACKING),
)
