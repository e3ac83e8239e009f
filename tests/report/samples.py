"""A verdict with everything that a report can meet, hostile output included."""

from __future__ import annotations

from pipeline.checks.result import Result, Verdict
from pipeline.report.model import Artifact, Phase, Task, Timeline

HOSTILE = (
    '<script>alert("x")</script> & \x1b[31mred\x1b[0m \x00\x08 ]]> "quoted" \'single\'\n'
    "</pre></details><img src=http://evil.example/x onerror=alert(1)>\n"
    "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\nafter\ud800\n"
)

FAILED = Verdict(
    "debian12",
    1763700000.0,
    21.5,
    (
        Result("host name", "oscarhead", "passed", "oscarhead"),
        Result("packages", "node1", "failed", f"2 missing: {HOSTILE}", HOSTILE, 1763700000.0, 0.0),
        Result("image files", "node1", "passed", "9000 entries compared", "", 1763700000.0, 9.5),
        Result("services", "node2", "error", "services cannot be read: nothing"),
        Result("clock", "node2", "skipped", "no answer to ssh"),
        Result(
            "opkg slurm test_user", "oscarhead", "passed", "one job ran on: node1 node2", "out\n", 1763700001.0, 6.5
        ),
    ),
)
PASSED = Verdict("debian12", 1763700000.0, 21.5, tuple(item for item in FAILED.results if item.outcome == "passed"))

TIMELINE = Timeline(
    (
        Phase("oscarhead", "boot", 1763699900.0, 1763699914.0, "READY"),
        Phase("node1", "install", 1763699915.0, 1763699945.0, HOSTILE),
        Phase("node1", "image", 1763699920.0, 1763699940.0),
        Phase("node2", "install", 1763699915.0, 1763699950.0, "FAIL partition: no disk", failed=True),
    ),
    (
        Task("root:debian12", "reused", "", 0.0, size_bytes=123456),
        Task("image:debian12", "built", HOSTILE, 4.5, 1763699890.0, 400 << 20),
        Task("boot:debian12", "failed", "no machine is running", 30.0, 1763699900.0),
    ),
)
ARTIFACTS = (Artifact("image:debian12", "ab" * 32, 400 << 20), Artifact("disk:debian12/<head>", "cd" * 32))
