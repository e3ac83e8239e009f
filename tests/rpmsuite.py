"""A tiny RPM distribution, made on the spot: packages by rpmbuild, their metadata by createrepo_c, signed on demand.

Its base is a busybox and this machine's rpm with the libraries that it wants, so that packages can really be installed
by the suite's own rpm; it is merged into /usr as today's distributions are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURE = "x86_64"
#: Where the tiny suite's rpm keeps its database.
DATABASE = "/var/lib/rpm"

_SPEC = """\
Name: {name}
{epoch}Version: {version}
Release: {release}
Summary: for a test
License: GPL
Vendor: fixture
{machine}AutoReqProv: no
{tags}
%description
for a test
%install
cp -a {tree}/. %{{buildroot}}/
{scripts}
%files
{files}
"""
_MACROS = {
    "_build_id_links": "none",
    "_binary_payload": "w3.zstdio",
    "debug_package": "%{nil}",
    "__os_install_post": "%{nil}",
    "_buildhost": "fixture",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
}


@dataclass
class Suite:
    """Its repositories lie below `root`; `folder` is for what packages are made in."""

    root: Path
    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)

    def rpm(
        self,
        name: str,
        version: str = "1",
        *,
        repository: str = "base",
        release: str = "1",
        architecture: str = "noarch",
        epoch: str = "",
        files: Mapping[str, str] | None = None,
        tree: Path | None = None,
        listed: Sequence[str] = (),
        scripts: str = "",
        tags: str = "",
    ) -> Path:
        """Make a package: of texts by path, or of a tree; `listed` are lines of %files, `scripts` sections of the spec,
        `tags` more lines of its head."""
        work = self.folder / f"{name}-{version}-{release}.{architecture}"
        tree = tree or work / "tree"
        for path, text in (files if files is not None else {f"/usr/share/{name}/data": f"{name} {version}\n"}).items():
            place = tree / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(0o755 if text.startswith("#!") else 0o644)
        tree.mkdir(parents=True, exist_ok=True)
        found = [
            f"/{path.relative_to(tree)}" for path in sorted(tree.rglob("*")) if path.is_symlink() or not path.is_dir()
        ]
        spec = self.folder / f"{name}-{version}.spec"
        spec.write_text(
            _SPEC.format(
                name=name,
                epoch=f"Epoch: {epoch}\n" if epoch else "",
                version=version,
                release=release,
                machine="BuildArch: noarch\n" if architecture == "noarch" else "",
                tags=tags,
                tree=tree,
                scripts=scripts,
                files="\n".join([*listed, *found]),
            )
        )
        target = self.root / repository / "Packages"
        target.mkdir(parents=True, exist_ok=True)
        macros = {
            **_MACROS,
            "_topdir": self.folder / "top",
            "_rpmdir": target,
            "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        }
        defined = [word for macro, value in macros.items() for word in ("--define", f"{macro} {value}")]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "RPM_FORCE_DEBIAN": "1"}
        _run("rpmbuild", "-bb", "--quiet", f"--target={architecture}", *defined, spec, env=environment)
        made = target / f"{name}-{version}-{release}.{architecture}.rpm"
        self.files.setdefault(repository, []).append(made)
        return made

    def publish(self, repository: str = "base", comps: str = "", checksum: str = "sha256") -> Path:
        """Write the metadata of a repository; its folder.  `checksum` "sha" is SHA-1 by its name of 2005."""
        import createrepo_c as cr

        legacy, checksum = checksum == "sha", "sha256" if checksum == "sha" else checksum

        folder = self.root / repository
        shutil.rmtree(folder / "repodata", ignore_errors=True)
        (folder / "repodata").mkdir(parents=True)
        kinds = {"primary": cr.PrimaryXmlFile, "filelists": cr.FilelistsXmlFile, "other": cr.OtherXmlFile}
        paths = {kind: folder / "repodata" / f"{kind}.xml.gz" for kind in kinds}
        open_files = {kind: make(str(paths[kind]), cr.GZ_COMPRESSION) for kind, make in kinds.items()}
        packages = self.files.get(repository, [])
        for file in open_files.values():
            file.set_num_of_pkgs(len(packages))
        for path in packages:
            package = cr.package_from_rpm(str(path), checksum_type=getattr(cr, checksum.upper()))
            package.location_href = str(path.relative_to(folder))
            package.time_file = 0
            for file in open_files.values():
                file.add_pkg(package)
        for file in open_files.values():
            file.close()
        if legacy:
            _make_legacy(packages, list(paths.values()))
        if comps:
            paths["group"] = folder / "repodata" / "comps.xml"
            paths["group"].write_text(comps)
        repomd = cr.Repomd()
        for kind, path in paths.items():
            record = cr.RepomdRecord(kind, str(path))
            record.fill(getattr(cr, checksum.upper()))
            repomd.set_record(record)
        text = repomd.xml_dump()
        if legacy:
            text = text.replace('type="sha256"', 'type="sha"')
            for path in paths.values():
                whole = path.read_bytes()
                for content in (whole, gzip.decompress(whole) if path.suffix == ".gz" else whole):
                    text = text.replace(hashlib.sha256(content).hexdigest(), hashlib.sha1(content).hexdigest())
        (folder / "repodata/repomd.xml").write_text(text)
        return folder

    def base(self) -> None:
        """The packages of which a root can be made: filesystem, setup, busybox and rpm."""
        links = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
        tree = self.folder / "filesystem"
        for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "root", "var/lib", "var/tmp", "dev", "proc",
                     "run", "sys", "tmp"):  # fmt: skip
            (tree / name).mkdir(parents=True, exist_ok=True)
        for name, target in links.items():
            (tree / name).symlink_to(target)
        folders = [f"%dir /{path.relative_to(tree)}" for path in sorted(tree.rglob("*")) if path.is_dir()]
        modes = ["%attr(0700,root,root) %dir /root", "%attr(1777,root,root) %dir /tmp"]
        kept = [line for line in folders if line.split()[-1] not in ("/root", "/tmp", *(f"/{one}" for one in links))]
        self.rpm("filesystem", "3", architecture=ARCHITECTURE, files={}, tree=tree, listed=[*kept, *modes])
        users = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:2:2::/:/bin/sh\n"
        files = {"/etc/passwd": users, "/etc/group": "root:x:0:\ndaemon:x:2:\n"}
        self.rpm("setup", "2", files=files, listed=["%config(noreplace) /etc/passwd"])
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox-static is missing"
        shell = self.folder / "shell"
        (shell / "usr/bin").mkdir(parents=True)
        shutil.copy(busybox, shell / "usr/bin/busybox")
        for name in ("sh", "cat", "cp", "mkdir", "chmod", "chown", "touch", "id", "sleep", "test", "rm", "ls", "grep"):
            (shell / "usr/bin" / name).symlink_to("busybox")
        provides = "Provides: /bin/sh /usr/bin/sh\nRequires(pre): filesystem setup"
        self.rpm("busybox", "1.35", architecture=ARCHITECTURE, files={}, tree=shell, tags=provides)
        self.rpm("rpm", "4.18", architecture=ARCHITECTURE, files={}, tree=self._rpm_itself(), tags="Requires: busybox")

    def _rpm_itself(self) -> Path:
        tree = self.folder / "rpm-itself"
        programs = [Path(found) for name in ("rpm", "rpmdb", "rpmkeys") if (found := shutil.which(name))]
        listed = "".join(_run("ldd", program) for program in programs)
        libraries = sorted(set(re.findall(r"(/\S+\.so\S*)", listed)))
        for path in [*map(str, programs), *libraries]:
            real = Path(path)
            place = tree / "usr" / str(Path(os.path.realpath(real.parent)) / real.name).removeprefix("/usr").lstrip("/")
            if real.name.startswith("ld-linux"):
                place = tree / "usr/lib64" / real.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real, place)
        shutil.copytree("/usr/lib/rpm", tree / "usr/lib/rpm", symlinks=True)
        for path in list((tree / "usr/lib/rpm").rglob("*")):
            if path.is_symlink() or (path.is_file() and path.name.endswith((".sh", ".py", ".pl"))):
                path.unlink()
        return tree


def _make_legacy(packages: Sequence[Path], files: Sequence[Path]) -> None:
    """Have metadata name packages by their SHA-1: today's createrepo_c makes none."""
    texts = {file: gzip.decompress(file.read_bytes()) for file in files}
    for path in packages:
        content = path.read_bytes()
        old, new = (hashlib.new(name, content).hexdigest().encode() for name in ("sha256", "sha1"))
        texts = {file: text.replace(old, new) for file, text in texts.items()}
    for file, text in texts.items():
        file.write_bytes(gzip.compress(text.replace(b'checksum type="sha256"', b'checksum type="sha"'), mtime=0))


def make(folder: Path) -> Suite:
    """An empty one, whose repositories are in `folder`/mirror."""
    assert shutil.which("rpmbuild"), "rpmbuild is missing: ./bootstrap true"
    (folder / "made").mkdir(parents=True)
    return Suite(folder / "mirror", folder / "made")


def _run(*argv: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, env=env, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
