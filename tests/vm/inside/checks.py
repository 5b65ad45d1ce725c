"""What is tried in a guest, with its own Python and, but for the tests, nothing else than purebpf.pyz."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ET

from host import ask

PYZ = "/opt/purebpf.pyz"
TESTS = "/opt/purebpf/tests"
BTF = "/sys/kernel/btf/vmlinux"
with open("/proc/cmdline") as line:
    OPTIONS = dict(re.findall(r"purebpf\.(\w+)=(\S*)", line.read()))
LACKS = ("numpy", "clang", "libbpf", "bcc", "chromium")  # what no guest has


def report(name: str, value: object) -> None:
    """Tell the machine that runs this one."""
    print(f"[{time.monotonic():7.1f}] {name}: {str(value)[:600]}", flush=True)
    ask({"result": name, "value": value})


def machine() -> dict:
    """What this is."""
    return {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "byte_order": sys.byteorder,
        "page_size": resource.getpagesize(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "btf": os.path.exists(BTF),
    }


def traces() -> dict:
    """Programs of unique names are executed by a shell and shown. Also how soon the first was, and how much memory."""
    names = [f"/tmp/{uuid.uuid4().hex}" for _ in range(5)]
    for name in names:
        os.symlink("/bin/true", name)
    script = " ; ".join(f"{name} {name}" for name in names)
    begin = time.monotonic()
    command = [sys.executable, PYZ, "trace-exec", "--json", "--", "sh", "-c", script]
    tracer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [tracer.stdout.readline()]
    first = time.monotonic() - begin
    lines += tracer.stdout
    errors = tracer.stderr.read()
    _, status, usage = os.wait4(tracer.pid, 0)
    shown = {row["filename"]: row["argv"] for row in map(json.loads, filter(None, lines))}
    return {
        # Without BTF the arguments are looked up in /proc, which is too late for most.
        "found": sum(name in shown and (shown[name] == [name, name] or not os.path.exists(BTF)) for name in names),
        "of": len(names),
        "status": os.waitstatus_to_exitcode(status),
        "errors": errors,
        "first_event_seconds": round(first, 2),
        "peak_memory_kib": usage.ru_maxrss,
    }


def commands() -> dict:
    """Each command out of the archive: its status and what it says on standard error."""
    prebuilt, kind = f"{PYZ}/purebpf/prebuilt", "bpf.o" if sys.byteorder == "little" else "bpfeb.o"
    tried = {
        "--version": ["--version"],
        "probe": ["probe"],
        "inspect": ["inspect", f"{prebuilt}/execve.{kind}", "--code"],
        "run": ["run", f"{prebuilt}/execve.{kind}", "--duration", "0.2"],
        "trace-open": ["trace-open", "--", "/bin/true"],
        "trace-connect": ["trace-connect", "--", "/bin/true"],
    }
    found = {}
    for name, arguments in tried.items():
        done = subprocess.run([sys.executable, PYZ, *arguments], capture_output=True, text=True, timeout=300)
        found[name] = [done.returncode, done.stderr, len(done.stdout)]
    return found


def features() -> dict:
    """The features that tests need, by their names for readers: is it there, and should this Linux have it?"""
    sys.path[:0] = ["/opt/purebpf", f"{TESTS}/kernel", "/opt/site"]
    from features import FEATURES, present

    return {feature.what: [present(name), feature.expected] for name, feature in FEATURES.items() if name not in LACKS}


def tests() -> dict:
    """pytest's verdicts. Each skip says what is missing."""
    environment = {
        **os.environ,
        "PYTHONPATH": "/opt/site:/opt/purebpf",
        "PUREBPF_NO_SKIPS": "1",
        "PUREBPF_LACKS": ",".join(LACKS),
        "PUREBPF_EXAMPLES": "0.05",
        "PUREBPF_PATIENCE": "300",
    }
    options = ["-m", "kernel and not volume", "-v", "-p", "no:cacheprovider", "--tb=short", "--durations=30"]
    options.append("--hypothesis-profile=emulated")
    command = [sys.executable, "-m", "pytest", *options, "--junit-xml=/tmp/tests.xml", *OPTIONS["tests"].split(",")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as done:
        for said in done.stdout:
            print(f"[{time.monotonic():7.1f}] {said}", end="", flush=True)
    if not os.path.exists("/tmp/tests.xml"):  # pytest died
        return {"status": done.returncode, "passed": 0, "failed": [], "skipped": []}
    return {"status": done.returncode, **verdicts("/tmp/tests.xml")}


def verdicts(path: str) -> dict:
    """Out of pytest's report."""
    found = {"passed": 0, "failed": [], "skipped": []}
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found["failed"].append(name)
        elif skipped is not None:
            found["skipped"].append([name, skipped.get("message")])
        else:
            found["passed"] += 1
    return found


def odd() -> dict:
    """What cannot be undone, so comes last: status and standard error of trace-exec."""

    def trace(*before: str) -> list:
        command = [*before, sys.executable, PYZ, "trace-exec", "--json", "--", "/bin/true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return [done.returncode, done.stderr]

    found = {}
    with open("/proc/sys/kernel/unprivileged_bpf_disabled", "w") as setting:
        setting.write("1")
    found["unprivileged"] = trace("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for mode in ("integrity", "confidentiality"):
        with open("/sys/kernel/security/lockdown", "w") as setting:
            setting.write(mode)
        found[mode] = trace()
    return found


def main() -> None:
    """All of it."""
    for name in ("clang", "gcc", "cc"):
        os.symlink("compiler", f"/opt/inside/{name}")
    os.chmod("/opt/inside/compiler", 0o755)
    checks = (machine, tests) if "only_tests" in OPTIONS else (machine, traces, commands, features, tests, odd)
    for check in checks:
        report(check.__name__, check())
    report("end", round(time.monotonic()))


main()
