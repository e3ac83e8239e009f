"""What is done on a machine while an OPKG comes and goes, in namespaces in which /etc and the like are a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.checks.collect import FOLDER
from pipeline.cluster.onmachine import as_found
from pipeline.packages.families import FAMILIES
from tests import debpackages, rpmsuite
from tests.namespaced import inside

SCRIPT = Path(__file__).parents[2] / "pipeline/cluster/onmachine.sh"
#: Its family and flavour do nothing; services are files in etc/services.
NONE = """
take_packages() { echo "taken $*"; }
settings_of() { :; }
list_started() { :; }
services_in() { ls "$1/etc/services" 2>/dev/null; }
stop_services() { [ $# = 0 ] || echo "stopped $*" >>/opt/stopped; }
heed_services() { :; }
mark=M mounts=/etc limit=10
export OSCAR_PACKAGE_HOME=/opt/$opkg
"""
#: What an OPKG, or a machine, has below /etc: text of a file, None for an empty folder, "-> TARGET" for a link.
Content = dict[str, str | None]


def call(text: str, opkg: str = "tool", status: int = 0, family: str = "") -> str:
    """Call functions; what they print."""
    script = f"opkg={opkg} tree=$(cat {FOLDER}/tree.pl)\n{NONE}{family}{SCRIPT.read_text()}\n{text}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    said = os.fsdecode(done.stdout)
    assert done.returncode == status, said + os.fsdecode(done.stderr)
    return said


def tree(top: Path = Path("/etc")) -> Content:
    """What stands there; of folders only empty ones."""
    found: Content = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
        elif not any(path.iterdir()):
            found[name] = None
    return found


def put(content: Content, top: Path = Path("/etc")) -> None:
    for name, text in content.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir()
        elif text.startswith("-> "):
            path.unlink(missing_ok=True)
            path.symlink_to(text.removeprefix("-> "))
        else:
            path.write_text(text)


def receive(opkg: str, content: Content) -> None:
    """The OPKG as its recipe has it by now comes to the machine."""
    coming = Path("/opt/coming") / opkg
    put(content, coming / "root/etc")
    (coming / "home").mkdir()
    call(f"tar -c -C /opt/coming {opkg} | receive {opkg}", opkg)
    shutil.rmtree(coming)


def install(opkg: str, content: Content) -> str:
    receive(opkg, content)
    return call("furnish", opkg)


def remove(opkg: str) -> list[str]:
    said = call("unfurnish && forget", opkg).splitlines()
    return sorted(line.removeprefix("M ") for line in said)


def own_places() -> None:
    for place in ("/etc", "/opt", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    call("begin")


def come_and_go() -> None:
    own_places()
    put({"was": "was\n", "kept": "kept\n", "real/was": "was\n", "linked": "-> real"})
    Path("/etc/real").chmod(0o750)
    Path("/etc/was").chmod(0o640)
    before = tree()
    call("settle; begin")
    ours: Content = dict.fromkeys(("was", "linked/was", "new/deep/file", "edited"), "ours\n")
    receive("tool", {**ours, "new/link": "-> deep/file"})
    for _ in range(2):  # it can be repeated
        call("furnish")
    now = tree()
    assert now["was"] == now["real/was"] == now["new/deep/file"] == "ours\n"
    assert now["linked"] == "-> real", "a link to a folder stays one"
    assert Path("/etc/real").stat().st_mode & 0o777 == 0o750, "a folder that is there keeps its mode"
    Path("/etc/kept").unlink()
    changed = as_found(call("finish"), "M")
    assert changed["etc/kept"] is None
    assert changed["etc/was"] is not None and changed["etc/was"].size == 5 and changed["etc/was"].md5
    for number in range(2000):
        Path("/etc", f"{'long' * 40}{number}").touch()
    changed = as_found(call("finish"), "M")
    assert len([one for one in changed.values() if one and one.type == "f"]) == 2004, "in several pieces"
    for file in Path("/etc").glob("long*"):
        file.unlink()
    assert call("last_phase never-came") == ""
    call("settle")
    put({"kept": "kept\n", "edited": "somebody's\n"})
    assert call("unfurnish && take a b").splitlines() == ["M changed /etc/edited", "taken a b"]
    call("forget")
    assert tree() == {**before, "edited": "somebody's\n"}
    assert Path("/etc/was").stat().st_mode & 0o777 == 0o640
    assert call("unfurnish") == "", "what is not there is no matter"


def another_recipe() -> None:
    """What an OPKG has no more goes when it comes again, and what it has only now is known to have replaced
    something."""
    own_places()
    put({"motd": "was\n", "both": "was\n", "back": "was\n"})
    before = tree()
    first: Content = {
        "gone/file": "1\n",
        "both": "1\n",
        "back": "1\n",
        "services/old": "",
        "services/same": "",
        "f": "",
    }
    install("tool", first)
    put({"both": "edited\n"})
    second: Content = {"motd": "2\n", "both": "2\n", "services/same": "", "services/new": "", "f/now-a-folder": "2\n"}
    for _ in range(2):
        install("tool", second)
        assert tree() == {**second, "back": "was\n"}
    assert Path("/opt/stopped").read_text() == "stopped old\n", "what goes on runs on"
    assert remove("tool") == []
    assert tree() == before

    install("tool", first)
    put({"back": "edited\n", "gone/file": "edited\n"})
    assert sorted(install("tool", second).splitlines()) == ["M changed /etc/back", "M changed /etc/gone/file"]
    remove("tool")
    receive("tool", first)
    receive("tool", second)  # one broke off before it placed anything
    assert remove("tool") == []


def tried_in_place() -> None:
    own_places()
    put({"old": "1\n", "same": "1\n", "file": "1\n", "folder/in": "1\n", "folder/own": "own\n", "services/gone": ""})
    Path("/etc/same").chmod(0o600)
    os.utime("/etc/old", (5, 5))
    brought: Content = {"old": "2\n", "file/deep": "2\n", "new/deep": "2\n", "link": "-> old", "same": "1\n"}
    named: Content = {"file": None, "new": None, **brought}
    os.link("/etc/old", "/etc/linked")

    def bring() -> list[str]:
        names = ["services/gone", "services", "folder/in", "folder"]
        top = Path("/opt/trying/compute")
        shutil.rmtree(top, ignore_errors=True)
        put(brought, top / "root/etc")
        for path in (top / "root").rglob("*"):  # neither time nor size tells that /etc/old is another one
            os.utime(path, (5, 5), follow_symlinks=False)
        (top / "root/etc/same").chmod(0o644)
        put({"services/gone": ""}, top / "gone/etc")
        (top / "names").write_text("".join(f"etc/{name}\0" for name in named))
        (top / "removed").write_text("".join(f"etc/{name}\0" for name in names))
        call("tar -c -C /opt/trying compute | receive_tried")
        return sorted(line for line in call("bring_tried compute").splitlines() if line.startswith("M "))

    said = bring()
    assert tree() == {**brought, "folder/own": "own\n", "linked": "1\n"}, "what it does not name stays"
    assert Path("/etc/same").stat().st_mode & 0o777 == 0o644
    assert Path("/opt/stopped").read_text() == "stopped gone\n"
    assert {"M removed /etc/folder/in", "M removed /etc/services/gone", "M brought /etc/old"} <= set(said)
    assert {"M brought /etc/same", "M brought /etc/new/deep"} <= set(said)
    assert bring() == [], "only what differs is brought"
    put({"old": "somebody's\n"})
    assert bring() == ["M brought /etc/old"]
    looked = call("failed_services() { :; }; tell_services() { :; }; look_tried compute")
    for wanted in ("M services", "M dmesg", " /etc/old\n", "M end"):
        assert wanted in looked, looked


def broken_off() -> None:
    """A removal that broke off leaves alone what somebody wrote since, wherever that was."""
    own_places()
    put({"a": "was\n", "b": "was\n"})
    before = tree()
    install("tool", {"a": "ours\n", "b": "ours\n", "c": "ours\n"})
    call("unfurnish")
    put({"a": "new\n"})
    assert remove("tool") == []
    assert tree() == {**before, "a": "new\n"}
    put({"a": "was\n", "d/b": "was\n"})
    install("tool", {"a": "ours\n", "d/b": "ours\n", "e": "ours\n"})
    subprocess.run(["mount", "--bind", "/etc/d/b", "/etc/d/b"], check=True)
    call("unfurnish", status=1)
    subprocess.run(["umount", "/etc/d/b"], check=True)
    assert tree()["d/b"] == "ours\n"
    put({"a": "new\n"})
    remove("tool")
    assert tree() == {**before, "a": "new\n", "d/b": "was\n"}


def shared() -> None:
    """A file that several OPKGs have comes back as it was, whichever goes first."""
    own_places()
    for text_of_other in ("other\n", "tool\n"):
        for again in ([], ["tool"], ["other"]):
            for order in (["tool", "other"], ["other", "tool"]):
                put({"file": "was\n"})
                text = {"tool": "tool\n", "other": text_of_other}
                for opkg in ("tool", "other", *again):
                    install(opkg, {"file": text[opkg], "folder/file": text[opkg]})
                remove(order[0])
                assert tree() == {"file": text[order[1]], "folder/file": text[order[1]]}, (again, order)
                remove(order[1])
                assert tree() == {"file": "was\n"}, (again, order)


def odd_names() -> None:
    """Names of any bytes come back."""
    own_places()
    names = ["\u00fc", "back\\slash\\n", "\udcff", "a b", "-n", "*", "\u2028", "new\nline", "\t"]
    before: Content = {name: f"was {number}\n" for number, name in enumerate(names)}
    put(before)
    install("tool", {**dict.fromkeys(names, "ours\n"), **{f"{name}-made/{name}": "ours\n" for name in names}})
    put({"back\\slash\\n": "edited\n"})
    found = as_found(call("finish"), "M")
    assert {f"etc/{name}" for name in names if "\n" not in name} == {
        name for name, one in found.items() if one and one.type == "f" and "-made" not in name
    }
    assert remove("tool") == ["changed /etc/back\\slash\\n"], "is told as it is"
    assert tree() == {**before, "back\\slash\\n": "edited\n"}


def folders_and_files() -> None:
    """Nothing is placed where one side has a folder and the other does not."""
    own_places()
    put({"file": "was\n", "empty": None, "full/file": "was\n", "linked": "-> full", "to-file": "-> file"})
    before = tree()
    good: Content = {"linked": "-> empty", "to-file": "ours\n", "full/more": "ours\n"}
    bad: list[tuple[str, Content]] = [
        ("/etc/file is no folder here", {"file/x": "ours\n"}),
        ("/etc/to-file is no folder here", {"to-file/x": "ours\n"}),
        ("/etc/empty is a folder here", {"empty": "ours\n"}),
        ("/etc/full is a folder here", {"full": "-> elsewhere"}),
        ("/etc/linked is a folder here", {"linked": "ours\n"}),
    ]
    for told, content in bad:
        receive("tool", {"good": "ours\n", **content})
        assert told in call("furnish", status=1)
        assert tree() == before
        assert remove("tool") == []
        assert tree() == before
    install("tool", good)
    assert tree() == {**before, **good}
    install("tool", {**good, "linked": "ours\n", "to-file": "-> empty"})  # what is its own may become anything
    remove("tool")
    assert tree() == before


def services_that_were_there() -> None:
    """A service that an OPKG has only replaced goes on."""
    own_places()
    put({"services/was": "was\n"})
    install("tool", {"services/was": "ours\n", "services/new": "ours\n"})
    assert remove("tool") == []
    assert tree() == {"services/was": "was\n"}
    assert Path("/opt/stopped").read_text() == "stopped new\n"


def without_a_command() -> None:
    """What is missing is told before anything is done."""
    own_places()
    call("settle")
    Path("/opt/bin").mkdir()
    for tool in (*Path("/usr/bin").iterdir(), *Path("/usr/sbin").iterdir()):
        if tool.name not in ("cmp", "md5sum"):
            Path("/opt/bin", tool.name).unlink(missing_ok=True)
            Path("/opt/bin", tool.name).symlink_to(tool)
    assert call("PATH=/opt/bin; begin", status=1) == "there is no command md5sum\n"
    assert not any(Path("/var/lib/xen-oscar/opkgs").iterdir())
    Path("/opt/bin/md5sum").symlink_to("/usr/bin/md5sum")
    assert call("PATH=/opt/bin; begin") == ""
    install("tool", {"file": "ours\n"})
    assert call("PATH=/opt/bin; unfurnish") == "", "which system has which commands is no matter"
    assert tree() == {}


def one_at_a_time() -> None:
    """What goes on of a call whose caller was killed is waited for; what it has started is not."""
    own_places()
    os.mkfifo("/opt/fifo")
    script = f"opkg=tool {NONE}{SCRIPT.read_text()}\nalone && {{ echo; cat /opt/fifo; }} 9>&-"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None and first.stdout.readline() == b"\n"
        second = "limit=1; alone || exit; { echo mine; } 9>&-"
        assert call(second, status=1) == "what an earlier call has begun here goes on after 1 s\n"
        Path("/opt/fifo").write_text("")
    assert call(second) == "mine\n"
    process = call("limit=1; alone || exit; { sleep 60 >/dev/null 2>&1 & echo $!; } 9>&-")
    try:
        assert call(second) == "mine\n"
    finally:
        os.kill(int(process), 9)


def broken_off_and_noted() -> None:
    """What was changed between a call that broke off and the next one is not taken for ours; what was to be started by
    then still is."""
    own_places()
    call("settle")
    functions = """
        list_started() { sort /etc/enabled; }
        start_besides() { list_started | comm -13 "$1" - | sed "s/^/started /"; }
    """
    put({"enabled": "a\n"})
    call("begin", family=functions)
    put({"enabled": "a\nb\n", "ours": ""})
    assert as_found(call("finish"), "M").keys() == {"etc", "etc/enabled", "etc/ours"}
    call("noted")
    put({"theirs": ""})
    call("begin", family=functions)
    put({"ours-too": ""})
    assert as_found(call("finish"), "M").keys() == {"etc", "etc/ours-too"}
    assert call("start", family=functions) == "M started b\n"
    call("settle; begin", family=functions)
    assert call("start", family=functions) == ""


def telling() -> None:
    """What cannot be told is no change."""
    own_places()
    put({"file": "was\n"})
    put({"find": "#!/bin/sh\nkill -9 $$\n"}, Path("/opt/bin"))
    Path("/opt/bin/find").chmod(0o755)
    for breaks in (
        "tree='die qq(no tree\\n)'",
        "tree='kill 9, $$'",
        "list_names() { return 1; }",
        "list_names() { echo 1 /etc/file; }; PATH=/opt/bin:$PATH",
    ):
        said = call(f"{breaks}; finish 2>&1", status=1)
        assert "M end" not in said
        with pytest.raises(ValueError, match="it did not come to its end"):
            as_found(said, "M")


def settings(family: str, folder: str) -> None:
    """Settings that stood before a package come back when it goes, and those that somebody has changed since stay."""
    own_places()
    for place in ("dpkg/info", "dpkg/updates", "dpkg/triggers", "rpm"):
        Path("/var/lib", place).mkdir(parents=True)
    Path("/var/lib/dpkg/status").touch()
    before: Content = {"tool/was": "was\n", "tool/was-changed": "was\n"}
    put(before)
    Path("/etc/tool/was").chmod(0o640)
    functions = FAMILIES[family].changing
    if family == "deb":  # apt-get wants more of a system
        functions += 'add_packages() { dpkg --force-confnew --install "$1"/*.deb; }\n'
    # a package is called as its OPKG
    for _ in range(2):  # it can be repeated
        call(f"mkdir -p $state/.packages && cp {folder}/tool?1* $state/.packages && packages", family=functions)
        now = tree(Path("/etc/tool"))
        assert {now[name] for name in ("was", "was-changed", "new", "new-changed")} == {"package\n"}
    put({"tool/was-changed": "edited\n", "tool/new-changed": "edited\n"})
    call("take nowhere", family=functions)
    assert tree(Path("/etc/tool"))["was-changed"] == "edited\n"
    said = call("take tool", family=functions).splitlines()
    told = sorted(line for line in said if line.startswith("M "))
    assert told == ["M changed /etc/tool/new-changed", "M changed /etc/tool/was-changed"]
    now = {name: text for name, text in tree(Path("/etc/tool")).items() if not name.endswith((".rpmsave", ".rpmorig"))}
    assert now == {"was": "was\n", "was-changed": "edited\n", "new-changed": "edited\n"}
    assert Path("/etc/tool/was").stat().st_mode & 0o777 == 0o640
    assert not any(path.is_file() for path in Path("/var/lib/xen-oscar/opkgs/.settings").rglob("*"))
    assert call("take tool", family=functions).count("M ") == 0, "what is not there is no matter"


def scripts_of_rpms(folder: str) -> None:
    """rpm ends well where a script does not, and knows nothing of it later."""
    own_places()
    Path("/var/lib/rpm").mkdir()

    def add(package: str, status: int) -> str:
        text = f"receive </dev/null; mkdir $state/.packages && cp {folder}/{package}-1* $state/.packages && packages"
        return call(text, status=status, family=FAMILIES["rpm"].changing)

    assert "%post(fails-1-1.noarch) scriptlet failed, exit status 3" in add("fails", 1)
    put({"fails": "edited\n"})
    assert "fails-1-1" in add("fails", 1), "it is not there"
    put({"let-through": ""})
    add("fails", 0)
    ran = Path("/etc/ran").read_text()
    assert ran == "1\n1\n1\n", "each was the first installation"
    assert tree()["fails"] == "edited\n"
    add("fails", 0)
    assert Path("/etc/ran").read_text() == ran, "it is there"
    assert "not found" in add("lacks", 1)
    assert "user nobody-at-all does not exist - using root" in add("nobodys", 1)
    assert "nowhere is needed by needs-1-1.noarch" in add("needs", 1)
    add("keeps", 0)
    assert "%preun(keeps-1-1.noarch) scriptlet failed" in call("take keeps", status=1, family=FAMILIES["rpm"].changing)
    assert call("rpm --query keeps") == "keeps-1-1.noarch\n"
    put({"let-go": ""})
    call("take keeps fails", family=FAMILIES["rpm"].changing)
    assert tree()["fails"] == "edited\n"


@pytest.mark.parametrize(
    "what",
    [
        come_and_go,
        another_recipe,
        tried_in_place,
        broken_off,
        shared,
        odd_names,
        folders_and_files,
        services_that_were_there,
        without_a_command,
        one_at_a_time,
        broken_off_and_noted,
        telling,
    ],
    ids=lambda one: one.__name__,
)
def test_files(what: Callable[[], None]) -> None:
    inside(what)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_of_packages(family: str, tmp_path: Path) -> None:
    paths = [f"/etc/tool/{name}" for name in ("was", "was-changed", "new", "new-changed")]
    files = dict.fromkeys(paths, "package\n")
    if family == "deb":
        debpackages.make(tmp_path, "tool", files={**files, "DEBIAN/conffiles": "".join(f"{path}\n" for path in paths)})
    else:
        suite = rpmsuite.make(tmp_path / "suite")
        shutil.copy(suite.rpm("tool", files=files, listed=[f"%config {path}" for path in paths]), tmp_path)
    inside(settings, family, tmp_path)


def test_scripts_of_rpms(tmp_path: Path) -> None:
    suite = rpmsuite.make(tmp_path / "suite")
    shell = "Provides: /bin/sh\n"
    for name, scripts, tags, owner in (
        ("fails", "%post\necho $1 >>/etc/ran\n[ -e /etc/let-through ] || exit 3\n", shell, ""),
        ("lacks", "%post\nnowhere || :\n", shell, ""),
        ("nobodys", "", "", "%attr(0644,nobody-at-all,root) "),
        ("needs", "", "Requires: nowhere\n", ""),
        ("keeps", "%preun\n[ -e /etc/let-go ]\n", shell, ""),
    ):
        listed = [f"%config(noreplace) {owner}/etc/{name}"]
        made = suite.rpm(name, files={f"/etc/{name}": "package\n"}, listed=listed, scripts=scripts, tags=tags)
        shutil.copy(made, tmp_path)
    inside(scripts_of_rpms, tmp_path)
