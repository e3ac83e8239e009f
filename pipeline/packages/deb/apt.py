"""A private apt: state, cache and configuration in a folder of its own, nothing of the host's but its network ways."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.run import Completed, run

#: Seconds that one request may take, and how often it is tried again.
_PATIENCE = {"Acquire::http::Timeout": "20", "Acquire::https::Timeout": "20", "Acquire::Retries": "2"}
#: What of the host's configuration says how to reach mirrors, and whether old snapshots of them are welcome.
_HOST_WAYS = re.compile(
    r'(Acquire::(?:[a-z+]+::[^"]*[Pp]roxy[^"]*|https::[^"]*|Check-Valid-Until|Check-Date'
    r'|ForceIPv[46])) "(.*)";'
)


class Apt:
    """apt-get with everything it reads and writes below `folder`; `keyring` are the keys that it trusts.

    What is a path is given to it as an argument: a configuration file has no way to write every path.
    """

    def __init__(
        self,
        folder: Path,
        *,
        architecture: str,
        sources: Sequence[str],
        lists: Path,
        keyring: bytes = b"",
        status: str = "",
        preferences: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        for place in ("cache/archives/partial", "state"):
            (folder / place).mkdir(parents=True)
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text(status)
        (folder / "preferences").write_text(preferences)
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in sources))
        # apt-key takes paths apart at spaces: what it works with can't lie below any folder
        self._plain = tempfile.TemporaryDirectory(prefix="xen-oscar-apt-", dir="/tmp")
        keys = Path(self._plain.name, "keys")
        keys.mkdir()
        (keys / ("keyring.asc" if keyring.startswith(b"-----") else "keyring.gpg")).write_bytes(keyring)
        self._paths = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::State::lists": lists,
            "Dir::Cache": folder / "cache",
            "Dir::Etc": folder,
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::trustedparts": keys,
            "Dir::Log": folder,
        }
        values = {
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::trusted": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "APT::Install-Recommends": "false",
            "APT::Get::Assume-Yes": "true",
            "APT::Get::Remove": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Debug::NoLocking": "true",
            **(options or {}),
        }
        self._config = folder / "apt.conf"
        self._config.write_text("".join(f"{name} {_word(value)};\n" for name, value in values.items()))

    def get(self, *words: str, timeout: float) -> Completed:
        """Run apt-get to its end, whatever its exit status."""
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        places = [word for name, path in self._paths.items() for word in ("-o", f"{name}={path}")]
        return run(
            ["apt-get", "-q", *places, *words],
            timeout=timeout,
            check=False,
            env={"APT_CONFIG": str(self._config), "TMPDIR": self._plain.name, **proxies},
        )


def _word(value: str) -> str:
    """A value as apt's configuration has it: in quotes, with %22 for those that it has itself (ParseQuoteWord)."""
    return urllib.parse.quote(value) if '"' in value else f'"{value}"'


def network_options() -> dict[str, str]:
    """Options for an apt that reaches mirrors as the host's own does (through its proxy, for example)."""
    dump = run(["apt-config", "dump"], check=False).stdout
    return {**dict(_HOST_WAYS.findall(dump)), **_PATIENCE}


def proxies() -> dict[str, str]:
    """The proxies that the host's apt uses, as environment variables."""
    options = network_options()
    found = {f"{scheme}_proxy": options.get(f"Acquire::{scheme}::Proxy", "") for scheme in ("http", "https")}
    return {name: value for name, value in found.items() if value not in ("", "DIRECT", "false")}


def complaint(output: str) -> str:
    """What apt has to say about a failure, without what it did before."""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("The following packages have unmet dependencies"):
            return "\n".join(lines[number:])
    return "\n".join(line for line in lines if re.match(r"[EW]: |Err:|  ", line)) or "\n".join(lines[-8:])
