"""Rows under published names. The names stand here as they were published; what is ours is below "purebpf"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purebpf.tracing.lines import json_line
from purebpf.tracing.schemas import SCHEMAS

# elastic/ecs 9.4, generated/csv/fields.csv
ECS = [
    "@timestamp",
    "ecs.version",
    "event.kind",
    "event.category",
    "event.type",
    "event.action",
    "event.outcome",
    "event.module",
    "event.dataset",
    "host.name",
    "host.boot.id",
    "host.os.kernel",
    "process.pid",
    "process.vpid",
    "process.thread.id",
    "process.entity_id",
    "process.name",
    "process.executable",
    "process.args",
    "process.args_count",
    "process.command_line",
    "process.working_directory",
    "process.env_vars",
    "process.start",
    "process.end",
    "process.exit_code",
    "process.parent.pid",
    "process.parent.name",
    "process.user.id",
    "process.group.id",
    "user.id",
    "error.code",
    "container.id",
]
# ocsf/ocsf-schema, events/system/process_activity.json and what it extends, objects/process.json, profiles/container.json
OCSF = [
    "activity_id",
    "activity_name",
    "category_uid",
    "class_uid",
    "type_uid",
    "severity_id",
    "status_id",
    "status_code",
    "launch_type_id",
    "time",
    "metadata.version",
    "metadata.product.name",
    "metadata.product.vendor_name",
    "metadata.product.version",
    "device.hostname",
    "device.boot_uid",
    "device.type_id",
    "device.os.name",
    "device.os.type_id",
    "exit_code",
    "count",
    "actor.process.pid",
    "actor.process.name",
    "process.pid",
    "process.tid",
    "process.uid",
    "process.name",
    "process.cmd_line",
    "process.file.name",
    "process.file.path",
    "process.file.type_id",
    "process.created_time",
    "process.terminated_time",
    "process.working_directory",
    "process.environment_variables",
    "process.parent_process.pid",
    "process.parent_process.name",
    "process.user.uid",
    "process.group.uid",
    "process.auid",
    "process.namespace_pid",
    "process.container.uid",
]
# PyPI: opentelemetry-semantic-conventions 0.66b2
OTEL = [
    "process.pid",
    "process.vpid",
    "process.parent_pid",
    "thread.id",
    "process.executable.path",
    "process.command",
    "process.command_args",
    "process.args_count",
    "process.title",
    "process.creation.time",
    "process.exit.time",
    "process.exit.code",
    "process.user.id",
    "process.working_directory",
    "process.linux.cgroup",
    "container.id",
    "error.type",
    "host.name",
    "os.type",
]

text = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))
number = st.integers(0, 2**32 - 1)
rows = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["exec", "exit"]), "time": st.just("2026-11-24T01:38:30.123456+01:00"),
        "monotonic_ns": st.integers(10**12, 10**13), "start_ns": st.integers(0, 10**12), "pid": number, "tid": number,
        "ppid": number, "parent_comm": text, "uid": number, "gid": number, "loginuid": st.none() | number, "comm": text,
        "filename": st.none() | text, "argv": st.none() | st.lists(text), "argc": st.none() | number, "errno": st.none() | st.just("ENOENT"),
        "retval": st.just(0), "cgroup_id": number, "cgroup": text, "container_id": st.none() | text, "pid_ns": number, "ns_pid": number,
    },
    optional={
        "cwd": text, "env": st.dictionaries(text, text, max_size=2), "exit_code": st.none() | number, "signal": st.just("SIGKILL"),
"lifetime_ns": number,
    },
)  # fmt: skip
CUT = {"argv_truncated": True, "argv_bytes": 9, "argv_captured": 3}
rows = rows | rows.map(lambda row: {**row, **CUT})
LOST = {"event": "lost", "time": "2026-11-24T01:38:30.123456+01:00", "monotonic_ns": 5, "count": 12}


def names(value: Any, prefix: str = "") -> Iterator[str]:
    """Those of all leaves, with dots."""
    for name, item in value.items():
        if isinstance(item, dict) and not prefix.startswith(("purebpf", "unmapped")):
            yield from names(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def leaves(value: Any) -> Iterator[Any]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from leaves(item)
    if not isinstance(value, (dict, list)):
        yield value


@pytest.mark.parametrize("schema", SCHEMAS)
@given(row=rows | st.just(LOST))
def test_every_row_is_json_without_nulls_and_in_unicode(schema: str, row: dict[str, Any]) -> None:
    line = json_line(SCHEMAS[schema](row))
    assert "_b64" not in line
    json.dumps(json.loads(line), ensure_ascii=False).encode()  # no lone surrogates
    assert None not in leaves(json.loads(line))


@given(rows | st.just(LOST))
def test_names_are_those_of_ecs(row: dict[str, Any]) -> None:
    assert {n for n in names(SCHEMAS["ecs"](row)) if not n.startswith("purebpf")} <= {*ECS}


@given(rows | st.just(LOST))
def test_names_are_those_of_ocsf(row: dict[str, Any]) -> None:
    assert {n for n in names(SCHEMAS["ocsf"](row)) if not n.startswith("unmapped")} <= {*OCSF}


@given(rows | st.just(LOST))
def test_names_are_those_of_opentelemetry(row: dict[str, Any]) -> None:
    logs = SCHEMAS["otel"](row)["resourceLogs"][0]
    record = logs["scopeLogs"][0]["logRecords"][0]
    used = {a["key"] for a in [*logs["resource"]["attributes"], *record["attributes"]]}
    own = ("purebpf.", "process.environment_variable.")
    assert {name for name in used if not name.startswith(own)} <= {*OTEL}


def test_a_failed_exec_is_a_failure_everywhere() -> None:
    row = {
        **dict.fromkeys(("pid", "tid", "ppid", "uid", "gid", "pid_ns", "ns_pid", "cgroup_id", "argc"), 1),
        **dict.fromkeys(("loginuid", "container_id")), "event": "exec", "time": "2026-11-24T01:38:30.123456+01:00",
        "monotonic_ns": 2_000_000_000, "start_ns": 1_000_000_000, "comm": "sh", "parent_comm": "sh", "cgroup": "/",
        "filename": "/x", "argv": ["x"], "retval": -2, "errno": "ENOENT", "syscall": "execve",
    }  # fmt: skip
    ecs, ocsf = SCHEMAS["ecs"](row), SCHEMAS["ocsf"](row)
    assert (ecs["event"]["outcome"], ecs["error"]["code"]) == ("failure", "ENOENT")
    assert (ocsf["status_id"], ocsf["status_code"], ocsf["type_uid"]) == (2, "ENOENT", 100701)
    assert ocsf["time"] == round(datetime.fromisoformat(row["time"]).timestamp() * 1000)
    assert ocsf["time"] - ocsf["process"]["created_time"] == 1000
    record = SCHEMAS["otel"](row)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["timeUnixNano"] == str(ocsf["time"] // 1000) + "123456000"
    assert {"key": "error.type", "value": {"stringValue": "ENOENT"}} in record["attributes"]
