# Makes a Xen host of a Debian machine.  POSIX sh text, run there as root with `go=yes` or `go=` in front of it.
#
# Whatever has to be done is found by looking at the machine, so a second run finds nothing, and a run that was broken
# off is finished by the next one.  It prints a line for each thing to do; with go=yes it does it as well.  It never
# reboots.
# shellcheck disable=SC1091,SC2086,SC2154
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

log=/var/log/xen-oscar-setup.log
grub=/etc/default/grub.d/zz-xen-oscar.cfg
ordered=/etc/systemd/system/libvirtd.service.d/xen-oscar.conf
models='/usr/share/libvirt/cpu_map/x86_kvm64.xml /usr/share/libvirt/cpu_map/x86_qemu64.xml'
count=0

refuse() {
    echo "$1" >&2
    exit 1
}

# need WORDS FUNCTION: there is something to do
need() {
    count=$((count + 1))
    echo "    $1"
    [ "$go" = yes ] || return 0
    echo "# $1" >>"$log"
    if ! "$2" >>"$log" 2>&1; then
        tail -n 10 "$log" >&2
        refuse "this did not work: $1; all of what was said is in $log there, and the next run goes on from here"
    fi
}

# --- is this a machine that can become one?

[ "$(id -u)" = 0 ] || refuse 'only root can set a Xen host up'
ID='' ID_LIKE=''
[ ! -r /etc/os-release ] || . /etc/os-release
case " $ID $ID_LIKE " in
    *' debian '* | *' ubuntu '*) ;;
    *) refuse "this is neither Debian nor Ubuntu but ${ID:-unknown}: install Xen and libvirt there by hand" ;;
esac
command -v apt-get >/dev/null || refuse 'there is no apt-get here, so nothing can be installed'
architecture=$(dpkg --print-architecture)
[ "$architecture" = amd64 ] || refuse "this machine is $architecture; clusters on Xen are made for amd64"
xen=no
if [ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ]; then
    # dom0 has no identifier of its own
    [ "$(tr -d 0- </sys/hypervisor/uuid 2>/dev/null)" = '' ] \
        || refuse 'this machine is itself a guest of Xen: set up the machine that it runs on'
    xen=dom0
fi
if ! command -v update-grub >/dev/null || [ ! -e /boot/grub/grub.cfg ]; then
    refuse 'this machine does not boot with GRUB, which starts the hypervisor'
fi
for file in /sys/firmware/efi/efivars/SecureBoot-*; do
    [ ! -e "$file" ] || [ "$(od -An -t u1 -j 4 -N 1 "$file" | tr -d ' ')" != 1 ] \
        || refuse "Secure Boot is on, with which Debian's Xen does not start: switch it off in the firmware"
done

memory=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)
echo "found: ${PRETTY_NAME:-$ID}, kernel $(uname -r), $memory MiB of memory, $(nproc) processors, \
$([ $xen = dom0 ] && echo 'running as dom0' || echo 'without a hypervisor')"

# --- packages

installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]
}

missing=''
for package in xen-system-amd64 libvirt-daemon-system libvirt-daemon-driver-xen libvirt-clients rsync iproute2; do
    installed $package || missing="$missing $package"
done
# a kernel for virtual machines ("cloud") cannot be dom0's
if ! grep -qs '^CONFIG_XEN_DOM0=y' /boot/config-*; then
    missing="$missing $([ "$ID" = ubuntu ] && echo linux-image-generic || echo linux-image-amd64)"
fi

add_packages() {
    dpkg --configure -a \
        && apt-get -q update \
        && apt-get -q -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install $missing
}

echo 'to do:'
[ -z "$missing" ] || need "install$missing, and what they need" add_packages

# --- Xen's daemons and libvirt

keep_consoles() {
    sed -i '/^XENCONSOLED_ARGS=/d' /etc/default/xen \
        && printf '# What machines write to their consoles is kept in /var/log/xen/console.\n%s\n' \
            'XENCONSOLED_ARGS="--log=guest"' >>/etc/default/xen
}

grep -Eqs '^XENCONSOLED_ARGS=.*--log=(guest|all)' /etc/default/xen \
    || need 'keep what machines write to their consoles (/etc/default/xen)' keep_consoles

mask_xendomains() {
    systemctl mask xendomains.service
}

[ "$(readlink /etc/systemd/system/xendomains.service)" = /dev/null ] \
    || need 'mask xendomains, which starts machines by itself and which libvirt does not suffer beside it' mask_xendomains

order_libvirtd() {
    mkdir -p "${ordered%/*}" \
        && printf '# libvirt looks for Xen only once.\n[Unit]\nWants=xen.service\nAfter=xen.service\n' >"$ordered" \
        && { [ ! -d /run/systemd/system ] || systemctl daemon-reload; }
}

[ -s "$ordered" ] || need "start libvirt after Xen's daemons ($ordered)" order_libvirtd

enable_libvirtd() {
    systemctl enable libvirtd.service
}

[ -e /etc/systemd/system/multi-user.target.wants/libvirtd.service ] \
    || need 'start libvirt when the machine starts' enable_libvirtd

make_folder() {
    mkdir -p /var/lib/xen-oscar && chmod 0700 /var/lib/xen-oscar
}

[ -d /var/lib/xen-oscar ] || need 'make /var/lib/xen-oscar, where disks of clusters lie' make_folder

# --- GRUB: Xen's entries before all others, the first one is started

divert_entries() {
    dpkg-divert --local --rename --divert /etc/grub.d/08_linux_xen --add /etc/grub.d/20_linux_xen
}

[ -e /etc/grub.d/08_linux_xen ] \
    || need "put Xen's entries first in GRUB's menu (/etc/grub.d/08_linux_xen, by dpkg-divert)" divert_entries

# an eighth of the memory, within bounds, and never more than half
dom0=$((memory / 8))
[ $dom0 -ge 1024 ] || dom0=1024
[ $dom0 -le 4096 ] || dom0=4096
[ $dom0 -le $((memory / 2)) ] || dom0=$((memory / 2))
limit="dom0_mem=${dom0}M,max:${dom0}M"
words="$dom0 MiB are for dom0, all else is for machines"
for file in /etc/default/grub /etc/default/grub.d/*.cfg; do
    if [ "$file" != "$grub" ] && grep -Eqs '^[^#]*dom0_mem=' "$file"; then
        limit='' words="the memory of dom0 stays as $file has it"
    fi
done

set_default() {
    mkdir -p "${grub%/*}" && {
        echo "# The first entry, Xen's (/etc/grub.d/08_linux_xen).  Made by Xen-OSCAR, and never changed by it again."
        echo 'XEN_OVERRIDE_GRUB_DEFAULT=0'
        echo 'GRUB_DEFAULT=0'
        [ -z "$limit" ] || echo "GRUB_CMDLINE_XEN=\"\$GRUB_CMDLINE_XEN $limit\""
    } >"$grub"
}

grep -qs '^GRUB_DEFAULT=0' "$grub" || need "let GRUB start Xen ($grub); $words" set_default

# whether the first entry of the menu starts a hypervisor, and is the default
starts_xen() {
    grep -q '^ *set default="0"' /boot/grub/grub.cfg \
        && awk '/^(menuentry|submenu) / {entries++} entries == 1' /boot/grub/grub.cfg \
        | grep -Eq '^[[:space:]]*(multiboot2?|xen_hypervisor)[[:space:]].*/xen' \
        && { [ ! -s "$grub" ] || ! grep -q '^GRUB_CMDLINE_XEN=' "$grub" || grep -q dom0_mem= /boot/grub/grub.cfg; }
}

write_menu() {
    update-grub && {
        starts_xen || { echo "the first entry of /boot/grub/grub.cfg does not start Xen" && false; }
    }
}

starts_xen || need 'write the menu anew (update-grub)' write_menu

# --- libvirt on processors of which its models know nothing: seen under QEMU's emulation

forget_sep() {
    for model in $models; do
        dpkg-divert --local --rename --divert "$model.distrib" --add "$model" || return
        sed "/<feature name='sep'\/>/d" "$model.distrib" >"$model" || return
    done
    systemctl reset-failed libvirtd.service # it may have been started in vain too often
    systemctl restart libvirtd.service
}

if [ $xen = dom0 ] && [ $count = 0 ] && ! virsh --quiet --connect xen:///system nodeinfo >/dev/null 2>&1 \
    && [ ! -e "${models##* }.distrib" ] \
    && journalctl --quiet --boot --unit libvirtd.service 2>/dev/null | grep -q 'Cannot find suitable CPU model'; then
    need "take the feature sep, which this processor lacks, out of libvirt's models of processors" forget_sep
fi

[ $count != 0 ] || echo '    nothing'

if cat /lib/modules/*/modules.builtin /lib/modules/*/modules.dep 2>/dev/null | grep -q '/net/bridge/bridge\.ko'; then
    echo 'bridges: the kernel has them; every cluster makes its own, and takes it away again'
else
    echo 'bridges: no kernel here has them (module bridge), and clusters need them'
fi

# --- what comes next

if [ $xen = dom0 ]; then
    after='what GRUB was told counts from the next start on'
else
    after='Xen runs after a reboot, which is yours to start: reboot'
fi
if [ $count != 0 ]; then
    [ "$go" = yes ] && echo "done; $after" || echo "nothing was changed; --yes does it, and then: $after"
elif [ $xen != dom0 ]; then
    echo "all is set up; $after"
elif virsh --quiet --connect xen:///system nodeinfo >/dev/null 2>&1; then
    echo 'this is a Xen host: Xen and libvirt answer'
else
    refuse 'Xen runs and all is set up, but libvirt does not answer at xen:///system: journalctl -u libvirtd'
fi
