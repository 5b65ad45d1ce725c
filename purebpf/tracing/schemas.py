"""Rows under the names that others have published, so that what stores and searches them need not be taught ours.

ecs    Elastic Common Schema 9.4 (elastic/ecs, schemas/*.yml)
ocsf   Open Cybersecurity Schema Framework 1.4, Process Activity, class 1007 (ocsf/ocsf-schema, events/system/process_activity.json)
otel   OpenTelemetry: OTLP in JSON, one LogsData a line (opentelemetry-proto, logs.proto; the Collector's otlpjsonfile receiver),
       with attributes of the semantic conventions 1.4x (process.*)

What they have no name for is below "purebpf" ("unmapped" in OCSF). Values that are not known are left out. Bytes that are not UTF-8
are shown as \\xNN: the flat JSON has them exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from ..kernel import mounts
from .event import Row
from .shell import command

_OWN = (
    *("argv_truncated", "argv_bytes", "argv_captured", "argv_fault", "filename_fault", "script", "args_source", "env_truncated"),
    *("syscall", "signal", "core_dumped", "lifetime_ns", "cgroup_id", "pid_ns", "monotonic_ns", "count"),
)  # fmt: skip


@lru_cache(None)
def _host() -> tuple[str, str, str]:
    """Name, boot id, kernel."""
    boot = mounts.text("/proc/sys/kernel/random/boot_id").strip()
    name = os.uname()
    return name.nodename, boot, name.release


@lru_cache(None)
def _version() -> str:
    from .. import __version__

    return __version__


def _own(row: Row) -> Row:
    return {name: row.get(name) for name in _OWN}


def _entity(pid: int, start_ns: int) -> str:
    """Names a process for good: pids come again, a pid with its start does not before the machine does."""
    return f"{_host()[1]}-{pid}-{start_ns}"


def _start(row: Row) -> datetime:
    age = timedelta(microseconds=(row["monotonic_ns"] - row["start_ns"]) / 1000)
    return datetime.fromisoformat(row["time"]) - age


def nested(names: Mapping[str, Any]) -> Row:
    """{"a.b": 1} as {"a": {"b": 1}}, without what is None, and fit for JSON readers."""
    out: Row = {}
    for name, value in names.items():
        if value is None or value == {}:
            continue
        *above, last = name.split(".")
        place = out
        for part in above:
            place = place.setdefault(part, {})
        place[last] = _plain(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        )
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items() if item is not None}
    return value


def ecs(row: Row) -> Row:
    """An ECS document."""
    host, boot, kernel = _host()
    lost = row["event"] == "lost"
    names = {
        "@timestamp": row["time"],
        "ecs.version": "9.4.0",
        "event.kind": "pipeline_error" if lost else "event",
        "event.category": ["process"],
        "event.type": ["info"] if lost else ["end" if row["event"] == "exit" else "start"],
        "event.action": row["event"],
        "event.outcome": "failure" if lost or row.get("errno") else "success",
        "event.module": "purebpf",
        "event.dataset": f"purebpf.{row['event']}",
        "host.name": host,
        "host.boot.id": boot,
        "host.os.kernel": kernel,
        "purebpf": _own(row),
    }
    return nested(names if lost else {**names, **_ecs_process(row)})


def _ecs_process(row: Row) -> Row:
    env = row.get("env")
    ended = row["event"] == "exit"
    return {
        "process.pid": row["pid"],
        "process.vpid": row["ns_pid"],
        "process.thread.id": row["tid"],
        "process.entity_id": _entity(row["pid"], row["start_ns"]),
        "process.name": row["comm"],
        "process.executable": row["filename"],
        "process.args": row["argv"],
        "process.args_count": row["argc"],
        "process.command_line": command(row) if row["argv"] else None,
        "process.working_directory": row.get("cwd"),
        "process.env_vars": [f"{name}={value}" for name, value in env.items()] if env else None,
        "process.start": _start(row).isoformat(),
        "process.end": row["time"] if ended else None,
        "process.exit_code": row.get("exit_code"),
        "process.parent.pid": row["ppid"],
        "process.parent.name": row["parent_comm"],
        "process.user.id": str(row["uid"]),
        "process.group.id": str(row["gid"]),
        "user.id": str(row["uid"]),
        "error.code": row.get("errno"),
        "container.id": row["container_id"],
    }


_OCSF_CLASS = 1007
_LAUNCH, _TERMINATE, _OTHER = 1, 2, 99  # activity_id
_EXEC = 3  # launch_type_id
_INFORMATIONAL, _LOW = 1, 2  # severity_id
_SUCCESS, _FAILURE = 1, 2  # status_id


def ocsf(row: Row) -> Row:
    """An OCSF Process Activity. Losses are of activity 99, "Lost": the class has no better one, and the stream must have them."""
    host, boot, _kernel = _host()
    activity = {"exec": _LAUNCH, "exit": _TERMINATE}.get(row["event"], _OTHER)
    failed = bool(row.get("errno")) or activity == _OTHER
    names = {
        "activity_id": activity,
        "activity_name": "Lost" if activity == _OTHER else None,
        "category_uid": 1,
        "class_uid": _OCSF_CLASS,
        "type_uid": _OCSF_CLASS * 100 + activity,
        "severity_id": _LOW if failed else _INFORMATIONAL,
        "status_id": _FAILURE if failed else _SUCCESS,
        "status_code": row.get("errno"),
        "launch_type_id": _EXEC if activity == _LAUNCH else None,
        "time": _milliseconds(datetime.fromisoformat(row["time"])),
        "metadata.version": "1.4.0",
        "metadata.product.name": "purebpf",
        "metadata.product.vendor_name": "purebpf",
        "metadata.product.version": _version(),
        "device.hostname": host,
        "device.boot_uid": boot,
        "device.type_id": 0,
        "device.os": {"name": "Linux", "type_id": 200},
        "exit_code": row.get("exit_code"),
        "count": row.get("count"),
        "unmapped": {name: value for name, value in _own(row).items() if name != "count"},
    }
    return nested(names if activity == _OTHER else {**names, **_ocsf_process(row)})


def _ocsf_process(row: Row) -> Row:
    env = row.get("env")
    parent = {"pid": row["ppid"], "name": row["parent_comm"]}
    executable = row["filename"]
    return {
        "actor.process": parent,
        "process.pid": row["pid"],
        "process.tid": row["tid"],
        "process.uid": _entity(row["pid"], row["start_ns"]),
        "process.name": row["comm"],
        "process.cmd_line": command(row) if row["argv"] else None,
        "process.file": {"name": executable.rpartition("/")[2], "path": executable, "type_id": 1}
        if executable
        else None,
        "process.created_time": _milliseconds(_start(row)),
        "process.terminated_time": _milliseconds(datetime.fromisoformat(row["time"]))
        if row["event"] == "exit"
        else None,
        "process.working_directory": row.get("cwd"),
        "process.environment_variables": [{"name": n, "value": v} for n, v in env.items()] if env else None,
        "process.parent_process": parent,
        "process.user.uid": str(row["uid"]),
        "process.group.uid": str(row["gid"]),
        "process.auid": row["loginuid"],
        "process.namespace_pid": row["ns_pid"],
        "process.container": {"uid": row["container_id"]} if row["container_id"] else None,
    }


def _milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


_INFO, _WARN = 9, 13  # SeverityNumber


def otel(row: Row) -> Row:
    """LogsData with one record, in OTLP's JSON (64-bit integers are strings there, as in all JSON of Protocol Buffers)."""
    host, boot, _kernel = _host()
    lost = row["event"] == "lost"
    when = datetime.fromisoformat(row["time"])
    nanoseconds = str((when - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(microseconds=1) * 1000)
    names = {f"purebpf.{name}": value for name, value in _own(row).items()}
    record = {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": _WARN if lost or row.get("errno") else _INFO,
        "eventName": f"purebpf.{row['event']}",
        "body": {"stringValue": _plain(f"lost {row['count']} events" if lost else command(row))},
        "attributes": _attributes(names if lost else {**_otel_process(row), **names}),
    }
    resource = {"host.name": host, "os.type": "linux", "purebpf.boot.id": boot}
    scope = {"name": "purebpf", "version": _version()}
    logs = [{"scope": scope, "logRecords": [record]}]
    return {"resourceLogs": [{"resource": {"attributes": _attributes(resource)}, "scopeLogs": logs}]}


def _otel_process(row: Row) -> Row:
    env: dict[str, str] = row.get("env") or {}
    return {
        "process.pid": row["pid"],
        "process.vpid": row["ns_pid"],
        "process.parent_pid": row["ppid"],
        "thread.id": row["tid"],
        "process.executable.path": row["filename"],
        "process.command": row["argv"][0] if row["argv"] else None,
        "process.command_args": row["argv"],
        "process.args_count": row["argc"],
        "process.title": row["comm"],
        "process.creation.time": _start(row).isoformat(),
        "process.exit.time": row["time"] if row["event"] == "exit" else None,
        "process.exit.code": row.get("exit_code"),
        "process.user.id": row["uid"],
        "process.working_directory": row.get("cwd"),
        "process.linux.cgroup": row["cgroup"],
        "container.id": row["container_id"],
        "error.type": row.get("errno"),
        "purebpf.parent_comm": row["parent_comm"],
        "purebpf.gid": row["gid"],
        "purebpf.loginuid": row["loginuid"],
        **{f"process.environment_variable.{name}": value for name, value in env.items()},
    }


def _attributes(names: Mapping[str, Any]) -> list[Row]:
    return [{"key": _plain(name), "value": _any(value)} for name, value in names.items() if value is not None]


def _any(value: Any) -> Row:
    """AnyValue of common.proto."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {"stringValue": _plain(value)}


SCHEMAS: dict[str, Callable[[Row], Row]] = {"ecs": ecs, "ocsf": ocsf, "otel": otel}
