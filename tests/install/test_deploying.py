"""What docs/deploying.md shows, done: with the unit's, the image's and the DaemonSet's own words."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from distributions import ROOT
from exec_tracing import until
from machines import DOCKER, Privileges, Started, capability, in_container, in_sandbox

DOCS = ROOT / "docs" / "deploying"
PAGE = (ROOT / "docs" / "deploying.md").read_text()
NOBODY = 61234  # a uid that no other process has
kernel = pytest.mark.kernel
needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")


def unit() -> dict[str, list[str]]:
    """The values of each of its settings."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)", (DOCS / "purebpf-trace-exec.service").read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def service() -> tuple[list[str], Privileges]:
    settings = unit()
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == ["yes"]
    assert settings["AmbientCapabilities"] == settings["CapabilityBoundingSet"]
    (names,) = settings["AmbientCapabilities"]
    (command,) = settings["ExecStart"]
    return shlex.split(command), Privileges(frozenset(map(capability, names.split())), NOBODY, ambient=True)


def image() -> tuple[list[str], list[str]]:
    """ENTRYPOINT and CMD."""
    text = (DOCS / "Containerfile").read_text()
    assert re.findall("^COPY (.*)", text, re.MULTILINE) == ["purebpf.pyz /purebpf.pyz"]
    return tuple(json.loads(re.findall(f"^{word} (.*)", text, re.MULTILINE)[0]) for word in ("ENTRYPOINT", "CMD"))


def daemonset() -> dict[str, Any]:
    """Its pod."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which reads the DaemonSet")
    manifest = yaml.safe_load((DOCS / "daemonset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("apps/v1", "DaemonSet")
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == manifest["spec"]["selector"]["matchLabels"]
    return template["spec"]


def lines(title: str) -> list[str]:
    """The commands of a section of the page, joined where they go on in the next line."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    block = "\n".join(re.findall("^    (.*)", section, re.MULTILINE))
    return block.replace("\\\n", " ").splitlines()


@pytest.fixture
def marker(tmp_path: Path) -> str:
    """A program of this test alone."""
    path = tmp_path / "marker"
    path.symlink_to("/bin/true")
    return str(path)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """As LogsDirectory= makes it: the service's own."""
    (name,) = unit()["LogsDirectory"]
    folder = tmp_path / "log"
    (folder / name).mkdir(parents=True)
    os.chown(folder / name, NOBODY, NOBODY)
    return folder


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.terminate()
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def sees(process: subprocess.Popen[str], marker: str) -> dict[str, Any]:
    """The event that it prints of a program that is executed until it ends, after one event."""

    def ended() -> bool:
        subprocess.run([marker], check=True)
        return process.poll() is not None

    until(ended, "event")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def system_python() -> str:
    """That of the unit."""
    python = service()[0][0]
    program = "import sys; sys.exit(sys.version_info < (3, 9))"
    if not Path(python).exists() or subprocess.run([python, "-c", program]).returncode:
        pytest.skip(f"{python} is missing, or older than 3.9")
    return python


def archived(privileges: list[str], pyz: Path, arguments: list[str]) -> Started:
    """Start the archive with these privileges. It is handed over open, for its folder is this test's alone."""
    command = [*privileges, system_python(), "-I", "/proc/self/fd/0", *arguments]
    with pyz.open("rb") as archive:
        return Started(command, archive)


@kernel
@needs_setpriv
def test_the_service_traces_with_what_its_unit_gives_it(pyz: Path, logs: Path, marker: str) -> None:
    system_python()
    command, privileges = service()
    with in_sandbox(command, privileges, pyz, logs) as process:
        written = logs / command[-1][len("/var/log/") :]

        def seen() -> bool:
            subprocess.run([marker], check=True)
            assert process.poll() is None, process.communicate()
            return written.exists() and marker in written.read_text()

        until(seen, "line of the log")
        assert stopped(process) == (-15, "", "")
    assert (written.stat().st_uid, written.stat().st_mode & 0o777) == (NOBODY, 0o600)


@kernel
@needs_setpriv
@pytest.mark.parametrize("missing", ["bpf", "perfmon"])
def test_the_service_cannot_do_with_one_capability_less(pyz: Path, logs: Path, missing: str) -> None:
    system_python()
    command, privileges = service()
    lesser = Privileges(privileges.capabilities - {missing}, NOBODY, ambient=True)
    with in_sandbox(command, lesser, pyz, logs) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, "")
    assert f"lacks CAP_{missing.upper()}" in err


@kernel
@needs_setpriv
def test_capabilities_that_are_not_ambient_are_none_to_other_users_than_root(pyz: Path, logs: Path) -> None:
    """Why the container's process has uid 0: engines make none ambient."""
    command, privileges = service()
    with in_sandbox([system_python(), *command[1:]], Privileges(privileges.capabilities, NOBODY), pyz, logs) as process:
        assert "lacks CAP_BPF and CAP_PERFMON" in process.communicate(timeout=60)[1]
    assert process.returncode == 5


FILTERS = ["--tree {pid}", "--ppid {pid}", "--user 0", "--exits --cwd --env HOME --ppid {pid}", "-x --ppid {pid}"]


@kernel
@needs_setpriv
@pytest.mark.parametrize("options", FILTERS)
def test_filters_need_no_other_capability(pyz: Path, marker: str, options: str) -> None:
    """What is looked at is root's, and who looks is not."""
    words = [*options.format(pid=os.getpid()).split(), "--filename", marker, "--json", "-n", "1"]
    with archived(service()[1].command(), pyz, ["trace-exec", *words]) as process:
        assert sees(process, marker)["filename"] == marker


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze (systemd) is not installed")
def test_the_unit_is_as_little_exposed_as_the_page_says() -> None:
    """systemd's own judgement. Another release may weigh otherwise, so it is not to the point."""
    command = ["systemd-analyze", "security", "--offline=true", str(DOCS / "purebpf-trace-exec.service")]
    done = subprocess.run(command, capture_output=True, text=True)
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)
    (said,) = re.findall(r"gives\s+it ([\d.]+) \(systemd", PAGE)
    assert abs(float(exposure) - float(said)) < 0.5


@kernel
@needs_setpriv
@pytest.mark.parametrize("host_pid", [False, True], ids=["own-pids", "host-s-pids"])
def test_the_image_traces_with_the_capabilities_of_the_page(
    pyz: Path, tmp_path: Path, marker: str, host_pid: bool
) -> None:
    _make, _build, docker = lines("Container")
    words = shlex.split(docker)
    assert words[:2] + words[-1:] == ["docker", "run", "purebpf"]
    assert words[words.index("--cap-drop") + 1] == "ALL"
    added = {capability(words[index + 1]) for index, word in enumerate(words) if word == "--cap-add"}
    check_container(pyz, tmp_path, marker, added, host_pid)


@kernel
@needs_setpriv
def test_the_image_traces_with_docker_s_own_capabilities_and_two(pyz: Path, tmp_path: Path, marker: str) -> None:
    check_container(pyz, tmp_path, marker, {*DOCKER, "bpf", "perfmon"}, host_pid=False)


def check_container(
    pyz: Path, tmp_path: Path, marker: str, capabilities: set[str], host_pid: bool, arguments: list[str] | None = None
) -> None:
    """It sees an exec of the machine, outside of the container."""
    entrypoint, default = image()
    command = [*entrypoint, *(arguments or default), "--filename", marker, "-n", "1"]
    root = tmp_path / "root"
    root.mkdir()
    with in_container(command, Privileges(frozenset(capabilities)), pyz, root, host_pid) as process:
        assert sees(process, marker)["ppid"] == os.getpid()


@kernel
@needs_setpriv
def test_the_pod_traces_with_its_security_context(pyz: Path, tmp_path: Path, marker: str) -> None:
    pod = daemonset()
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert (context["runAsUser"], context["capabilities"]["drop"]) == (0, ["ALL"])
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    added = {capability(name) for name in context["capabilities"]["add"]}
    check_container(pyz, tmp_path, marker, added, pod.get("hostPID", False), container["args"])


@kernel
@needs_setpriv
def test_pids_are_refused_in_a_container_s_own_namespace(pyz: Path, tmp_path: Path) -> None:
    entrypoint, _default = image()
    with in_container(
        [*entrypoint, "trace-exec", "--tree", "1"], Privileges(frozenset({"bpf", "perfmon"})), pyz, tmp_path
    ) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert "--pid=host" in err


@kernel
@needs_setpriv
@pytest.mark.parametrize("tracer", ["trace-exec", "trace-open", "trace-connect"])
def test_least_privilege_is_a_command_that_works(pyz: Path, tracer: str) -> None:
    (command,) = lines("Least privilege")
    words = shlex.split(command)
    assert words[:2] == ["sudo", "setpriv"]
    assert words[words.index("--reuid") + 1] == "nobody"
    assert words[-3:] == ["python3", "purebpf.pyz", "trace-exec"]
    with archived(words[1:-3], pyz, [tracer, "--json", "--duration", "0.1"]) as process:
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_the_check_of_the_contents_finds_what_was_changed(pyz: Path, tmp_path: Path, clean: dict[str, str]) -> None:
    commands = [line for line in lines("Is it what the source says?") if "zipfile" in line or line.startswith("diff")]
    assert len(commands) == 3
    (tmp_path / "dist").mkdir()
    shutil.copy(pyz, tmp_path / "dist/purebpf.pyz")
    shutil.copy(pyz, tmp_path / "purebpf.pyz")
    script = " && ".join(commands)
    same = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=clean)
    assert (same.returncode, same.stdout) == (0, "")
    (tmp_path / "build/theirs/purebpf/cli.py").write_text("changed")
    other = subprocess.run(["sh", "-c", commands[-1]], cwd=tmp_path, capture_output=True, text=True, env=clean)
    assert other.returncode == 1
    assert "cli.py" in other.stdout
