"""Where and when a number was measured: device, cores, commit."""

import datetime
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def commit():
    """The commit that is checked out, with a "+" when a source that is compiled was changed since."""
    changed = git("status", "--porcelain", "--", "ir", "compiler", "codegen", "runtime", "bench/*.cpp", "bench/*.h")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def provenance():
    return {
        "device": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }
