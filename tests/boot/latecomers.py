"""Two OPKGs that come to a cluster while it runs: `late` requires `early`, and has a script for each of the phases, by
new names and by old ones.  Every script writes down on its machine that it ran, and with what environment.  What is
looked at on any machines is the same; that of Debian looks at more."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests import rpmsuite
from tests.boot.checkout import Checkout

_CONFIG = """<?xml version="1.0"?>
<oscar>
  <name>{name}</name><summary>Comes while the cluster runs</summary><license>GPL</license><group>System/Test</group>
  {requires}
  <commonDeps>{packages}</commonDeps>
  <changelog><versionEntry version="1.0-1"><changelogEntry authorName="T" date="2026-11-21T00:00:00Z">
    <item>First version.</item></changelogEntry></versionEntry></changelog>
</oscar>
"""
_SAYS = """#!/bin/sh
set -e
name=$(basename "$0")
echo "$name $OSCAR_MEMBERSHIP $OSCAR_PACKAGE_HOME $(cat /etc/late.conf 2>/dev/null)" >>/root/late
case $name in *-post-install) chkconfig --add late 2>/dev/null || systemctl --quiet enable late.service ;; esac
"""
_UNIT = """[Unit]
Description=Late
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'hello >/run/late'
ExecStop=/bin/rm /run/late
[Install]
WantedBy=multi-user.target
"""
_INIT_SCRIPT = """#!/bin/sh
# chkconfig: 345 85 15
# description: late
case $1 in
    start) hello >/var/run/late && touch /var/lock/subsys/late ;;
    stop) rm -f /var/run/late /var/lock/subsys/late ;;
    status) [ -e /var/lock/subsys/late ] ;;
esac
"""
_TEST = """#!/bin/sh
. /etc/oscar/cluster.sh
for node in $OSCAR_NODES; do ssh "$node" 'cat /run/late || cat /var/run/late' || exit; done
"""

#: By the names that the scripts have in the folder.
PHASES = (
    "setup",
    "pre_configure",
    "api-post-configure",
    "server-post-install",
    "client-post-install",
    "post_rpm_nochroot",
    "post_clients",
    "api-post-deploy",
    "api-pre-uninstall",
    "client-pre-uninstall",
    "server-pre-uninstall",
    "post_client_rpm_uninstall",
    "post_server_rpm_uninstall",
    "api-post-uninstall",
)


def write(opkgs: Path) -> None:
    """Both OPKGs, in the folder of all."""
    _write(opkgs / "early", {}, requires="", packages="<requires><pkg>hello</pkg></requires>")
    files = {
        "files/common/etc/late.conf": "late",
        "files/common-systemd/etc/systemd/system/late.service": _UNIT,
        "files/common-sysvinit/etc/init.d/late": _INIT_SCRIPT,
        "files/client/etc/motd": "Late.\n",
        "testing/test_root": _TEST,
        **{f"scripts/{name}": _SAYS for name in PHASES},
    }
    _write(opkgs / "late", files, requires="<requires><pkg>early</pkg></requires>", packages="")


def publish(mirror: Path, repository: str, checksum: str = "sha256") -> None:
    """Their package, in a repository of a fixture of RPM packages, besides what that has."""
    with tempfile.TemporaryDirectory() as folder:
        suite = rpmsuite.make(Path(folder))
        suite.root = mirror
        suite.files[repository] = sorted((mirror / repository).rglob("*.rpm"))
        files = {"/usr/bin/hello": "#!/bin/sh\necho 'Hello, world!'\n", "/etc/hello.conf": "package\n"}
        suite.rpm("hello", repository=repository, files=files, listed=["%config(noreplace) /etc/hello.conf"])
        suite.publish(repository, checksum=checksum)


def come_and_go(cluster: Checkout, name: str) -> None:
    """They come to machines of RPM packages, which are up, and go again."""
    seen = """
        cat /etc/motd /etc/late.conf /etc/hello.conf
        rpm --query hello
        ls /usr/bin/hello /etc/init.d/late /etc/rc.d/rc3.d/*late /etc/systemd/system/*/late.service /usr/lib/oscar
        cat /run/late || cat /var/run/late
        md5sum /etc/profile
    """

    def opkg(word: str, *opkgs: str) -> str:
        done = cluster.run(cluster.command("opkg", word, name, *opkgs), timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def on_node() -> str:
        return cluster.ssh(name, "node1", f"{{ {seen} }} 2>/dev/null")

    write(cluster.folder / "recipes/opkgs")
    cluster.ssh(name, "node1", "echo was >/etc/hello.conf")
    before = on_node()
    told = opkg("install", "late")
    assert "compute nodes: OPKG early: packages hello 1-1\n" in told
    assert "node1: late" in told
    found = on_node()
    assert all(line in found for line in ("Late.\n", "late", "hello-1-1.noarch\n", "Hello, world!\n")), found
    told = opkg("remove", "late", "early")
    assert "changed since" not in told.replace("/etc/hello.conf was changed since", "")
    left = on_node()
    assert left == before, left
    assert len(cluster.ssh(name, "head", "cat /root/late").splitlines()) == 10
    assert len(cluster.ssh(name, "node1", "cat /root/late").splitlines()) == 3


def _write(folder: Path, files: dict[str, str], **words: str) -> None:
    for path, text in {"config.xml": _CONFIG.format(name=folder.name, **words), **files}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
