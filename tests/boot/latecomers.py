"""Two OPKGs that come to a cluster while it runs: `late` requires `early`, and has a script for each of the phases, by
new names and by old ones.  Every script writes down on its machine that it ran, and with what environment."""

from __future__ import annotations

from pathlib import Path

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
case $name in *-post-install) systemctl --quiet enable late.service ;; esac
"""
_UNIT = """[Unit]
Description=Late
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'hello >/run/late'
[Install]
WantedBy=multi-user.target
"""
_TEST = """#!/bin/sh
. /etc/oscar/cluster.sh
for node in $OSCAR_NODES; do ssh "$node" cat /run/late || exit; done
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
        "files/common/etc/systemd/system/late.service": _UNIT,
        "files/client/etc/motd": "Late.\n",
        "testing/test_root": _TEST,
        **{f"scripts/{name}": _SAYS for name in PHASES},
    }
    _write(opkgs / "late", files, requires="<requires><pkg>early</pkg></requires>", packages="")


def _write(folder: Path, files: dict[str, str], **words: str) -> None:
    for path, text in {"config.xml": _CONFIG.format(name=folder.name, **words), **files}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
