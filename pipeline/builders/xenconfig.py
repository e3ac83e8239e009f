"""Configurations for Xen's xl: each is read by libxl itself before it becomes an artifact.

`xl create -n` prints as JSON how it understands a configuration.  It wants a hypervisor at hand for that, which a
preloaded shim (`libxl_shim.c`) pretends to be, so it runs on any machine, inside of a tool root with Xen's own tools.
That JSON is held against the model of the domain, setting by setting: a slip that libxl takes for something else, or
passes over as a setting that it does not know, is found as well as one that it refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.builders import domains
from pipeline.description import Machine
from pipeline.drivers import site, xl_config
from pipeline.drivers.domain import Domain
from pipeline.errors import BuildError
from pipeline.layers.tools import tools
from pipeline.sandbox import Bind
from pipeline.step import Job

_SHIM = Path(__file__).with_name("libxl_shim.c")

#: All of them in one sandbox.  What libxl accepts leaves its NAME.json, what it says about it is in NAME.words.
_SCRIPT = """\
tcc -shared -nostdlib -o /tmp/shim.so /tmp/libxl_shim.c || exit 1
cd /tmp/in
for file in *.cfg; do
    name=/tmp/out/${file%.cfg}
    LD_PRELOAD=/tmp/shim.so /usr/lib/xen-*/bin/xl create -n "$file" >"$name.json" 2>"$name.words" || rm "$name.json"
done
"""


def build(job: Job) -> None:
    """Builder: run.cfg of one machine, install.cfg as well if it is a compute node, and libxl's JSON of each."""
    given = job.params
    machine, place = Machine.from_json(given["machine"]), site.shared(given["cluster"])
    by_purpose = domains.of(given["cluster"], given["architecture"], machine, "xen", place)
    models = {str(purpose): domain for purpose, domain in by_purpose.items()}
    for name, model in models.items():
        (job.out / f"{name}.cfg").write_text(xl_config.render(model), encoding="utf-8")
    check(job, models)


def check(job: Job, models: Mapping[str, Domain]) -> None:
    """Have libxl read `job.out`/NAME.cfg, and add NAME.json; raises BuildError for what it refuses or takes amiss."""
    if not job.inputs:
        raise BuildError(
            "no distribution names the packages of Xen's tools, which check configurations",
            hint='xl = ["tcc", "xen-utils-4.17"] under [packages] in a file of recipes/distros',
        )
    results = job.work / "results"
    results.mkdir()
    with tools(job) as tool:
        tool.run(
            ["sh", "-c", _SCRIPT],
            Bind(_SHIM, "/tmp/libxl_shim.c"),
            Bind(job.out, "/tmp/in"),
            Bind(results, "/tmp/out", writable=True),
        )
    mistakes = []
    for name, model in models.items():
        text = (job.out / f"{name}.cfg").read_text(encoding="utf-8")
        answer = results / f"{name}.json"
        if not answer.exists():
            mistakes.append(_refusal(f"{name}.cfg", text, (results / f"{name}.words").read_text(errors="replace")))
            continue
        understood = answer.read_bytes()
        (job.out / answer.name).write_bytes(understood)
        mistakes += [
            f"{name}.cfg:{_line_of(text, key)}: {key}: {what}"
            for key, what in xl_config.differences(model, json.loads(understood))
        ]
    if mistakes:
        raise BuildError(
            "\n".join(mistakes),
            log=job.log,
            hint="Xen would make another machine or none of it; pipeline/drivers/xl_config.py wrote it",
        )


def _refusal(file: str, text: str, words: str) -> str:
    """libxl's complaint, with the line that it is about: it names one only where it can't read on."""
    lines = [line for line in words.splitlines() if line and not line.startswith("Parsing config")]
    complaint = " ".join(line for line in lines if not line.startswith("Failed to parse")) or "libxl gives no reason"
    told = re.match(rf"{re.escape(file)}(?::(\d+))?: ", complaint)
    line = int(told[1]) if told and told[1] else _line_about(text, complaint)
    return f"{file}:{line}: {complaint[told.end() :] if told else complaint}"


def _line_about(text: str, complaint: str) -> int:
    """The line that holds all that the complaint quotes, or whose setting it names; else the first."""
    quotes = re.findall(r"[\"`]([^\"`']+)[\"']", complaint)
    for number, line in enumerate(text.splitlines(), 1):
        if quotes and all(quote in line for quote in quotes):
            return number
    named = [key for key in re.findall(r"^\w+", text, re.MULTILINE) if re.search(rf"\b{key}\b", complaint)]
    return _line_of(text, named[0]) if named else 1


def _line_of(text: str, key: str) -> int:
    """The line of a setting; the first where it is missing."""
    return next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key} =")), 1)
