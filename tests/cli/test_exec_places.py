"""Where an executed process is: its directory, through mounts and chroots, and its control group and container."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exec_tracing import Row

from purebpf.tracing.containers import hierarchy

pytestmark = pytest.mark.kernel
TRUE = "/bin/true"
Run = Callable[..., list[Row]]
Case = Callable[..., Row]

# ---- --cwd


def test_the_directory_is_there_and_the_root_is_a_slash(run: Run, tmp_path: Path) -> None:
    assert run([TRUE], cwd=tmp_path)[0]["cwd"] == str(tmp_path)
    assert run([TRUE], cwd="/")[0]["cwd"] == "/"
    assert run([TRUE], cwd="/proc/self/../sys/kernel")[0]["cwd"] == "/proc/sys/kernel"


def test_a_failed_exec_has_its_directory(case: Case, tmp_path: Path) -> None:
    assert case("plain", "/nonexistent", cwd=tmp_path)["cwd"] == str(tmp_path)


@pytest.mark.parametrize("name", ["\n\x1b\udcff", "n" * 255, "日" * 85, " ", "…"])
def test_any_name_of_a_directory(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / name / "in").mkdir(parents=True)
    row = run([TRUE], cwd=tmp_path / name / "in")[0]
    assert os.path.samefile(row["cwd"], tmp_path / name / "in") if name.isprintable() else "cwd_b64" in row


def directory(top: Path, depth: int, name: str) -> int:
    """A descriptor of a directory so deep that its path may be too long to be named."""
    fd = os.open(top, os.O_PATH)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


@pytest.mark.parametrize(("depth", "name"), [(40, "d"), (55, "d"), (200, "d"), (15, "x" * 200), (30, "x" * 250)])
def test_a_deep_directory_is_whole_or_begins_with_an_ellipsis(depth: int, name: str, run: Run, tmp_path: Path) -> None:
    fd = directory(tmp_path, depth, name)
    row = run([TRUE], preexec_fn=lambda: os.fchdir(fd))[0]
    path = os.readlink(f"/proc/self/fd/{fd}") if depth * len(name) < 4000 else str(tmp_path) + f"/{name}" * depth
    os.close(fd)
    shutil.rmtree(tmp_path)
    if row["cwd"].startswith("…/"):
        assert path.endswith(row["cwd"][1:])
        assert depth > 50 or len(path) > 3800
        assert row["cwd"].count("/") > 50 or len(row["cwd"]) > 3500
    else:
        assert row["cwd"] == path


def test_a_directory_that_was_deleted_has_the_path_that_it_had(run: Run, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def enter() -> None:
        os.chdir(gone)
        os.rmdir(gone)

    assert run([TRUE], preexec_fn=enter)[0]["cwd"] == str(gone)


def test_a_directory_below_a_mount_and_a_mount_in_it(run: Run, tmp_path: Path) -> None:
    script = f"mount -t tmpfs t {tmp_path} && mkdir -p {tmp_path}/a/b && mount -t tmpfs t {tmp_path}/a/b && cd {tmp_path}/a/b && mkdir c && cd c && exec /bin/true in-mount"
    rows = run(["unshare", "--mount", "/bin/sh", "-c", script])
    assert rows[-2]["argv"] == ["/bin/true", "in-mount"]
    assert rows[-2]["cwd"] == f"{tmp_path}/a/b/c"


def test_a_bind_mount_is_where_it_is_mounted(run: Run, tmp_path: Path) -> None:
    for name in ("source/below", "target"):
        (tmp_path / name).mkdir(parents=True)
    script = f"mount --bind {tmp_path}/source {tmp_path}/target && cd {tmp_path}/target/below && exec /bin/true"
    assert run(["unshare", "--mount", "/bin/sh", "-c", script])[-2]["cwd"] == f"{tmp_path}/target/below"


def test_in_a_chroot_the_path_begins_at_its_root(run: Run, cases: str, tmp_path: Path) -> None:
    for folder in ("root/a/b", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(cases, tmp_path / "root/cases")
    if b"not a dynamic" not in subprocess.run(["ldd", cases], stderr=subprocess.PIPE).stderr:
        pytest.skip("there is no libc.a: a dynamic program does not start in an empty root")

    def enter(folder: str) -> None:
        os.chroot(tmp_path / "root")
        os.chdir(folder)

    command = ["/cases", "threads", ""]
    assert run(command, preexec_fn=lambda: enter("/a/b"))[0]["cwd"] == "/a/b"
    assert run(command, preexec_fn=lambda: enter("/"))[0]["cwd"] == "/"


def test_outside_the_root_the_path_is_that_of_the_file_system(run: Run, cases: str, tmp_path: Path) -> None:
    """A process that entered a chroot, but not its directory: /proc/PID/cwd says (unreachable) there."""
    (tmp_path / "root").mkdir()
    shutil.copy(cases, tmp_path / "root/cases")
    row = run(["/cases", "threads", ""], cwd=tmp_path, preexec_fn=lambda: os.chroot(tmp_path / "root"))[0]
    assert row["cwd"].endswith(str(tmp_path))


# ---- control groups


@pytest.fixture
def cgroup() -> Iterator[Callable[[str], Path]]:
    """Makes control groups, which are gone afterwards."""
    root = hierarchy()
    if root is None:
        pytest.skip("the version 2 hierarchy is not mounted")
    made: list[Path] = []

    def make(name: str) -> Path:
        path = Path(root)
        for part in f"purebpf-test-{os.getpid()}/{name}".split("/"):
            path /= part
            if not path.exists():
                path.mkdir()
                made.append(path)
        return path

    yield make
    for path in reversed(made):
        path.rmdir()


def entering(folder: Path) -> Callable[[], object]:
    return lambda: (folder / "cgroup.procs").write_text("0")


def inside(folder: Path) -> str:
    """As /proc/PID/cgroup has it."""
    return "/" + str(folder.relative_to(hierarchy() or "/"))


def test_the_control_group_is_that_of_proc(run: Run, cgroup: Callable[[str], Path], tmp_path: Path) -> None:
    folder = cgroup("a/b c")
    script = "cat /proc/self/cgroup >$0; exec /bin/true"
    rows = run(["/bin/sh", "-c", script, str(tmp_path / "seen")], preexec_fn=entering(folder))
    said = [line[3:] for line in (tmp_path / "seen").read_text().splitlines() if line.startswith("0::")]
    assert [row["cgroup"] for row in rows] == said * len(rows) == [inside(folder)] * len(rows)
    assert {row["cgroup_id"] for row in rows} == {folder.stat().st_ino}
    assert {row["container_id"] for row in rows} == {None}


def test_our_own_control_group(run: Run) -> None:
    said = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    assert [run([TRUE])[0]["cgroup"]] == said


CONTAINER = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    [
        f"system.slice/docker-{CONTAINER}.scope",
        f"docker/{CONTAINER}",
        f"machine.slice/libpod-{CONTAINER}.scope/container",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{CONTAINER}.scope",
        f"docker/{'f' * 64}/docker/{CONTAINER}/init.scope",
    ],
)
def test_the_container_is_that_of_the_control_group(name: str, run: Run, cgroup: Callable[[str], Path]) -> None:
    rows = run([TRUE], preexec_fn=entering(cgroup(name)))
    assert [row["container_id"] for row in rows] == [CONTAINER] * 2


@pytest.mark.parametrize("name", ["/".join("abcdefghijklmnop"), "n" * 200, "/".join(["x" * 126] * 9)])
def test_a_long_path_of_a_control_group_is_whole_or_seen_to_be_cut(
    name: str, run: Run, cgroup: Callable[[str], Path]
) -> None:
    folder = cgroup(name)
    row = run([TRUE], preexec_fn=entering(folder))[0]
    assert row["cgroup_id"] == folder.stat().st_ino
    assert row["cgroup"] == inside(folder) or "…" in row["cgroup"]
