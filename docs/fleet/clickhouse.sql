-- One row for each line of `trace-exec --json --exits`. Fields that a line does not have take their default; what was added later
-- is skipped: INSERT … SETTINGS input_format_skip_unknown_fields = 1.
CREATE TABLE execs
(
    event LowCardinality(String),
    time DateTime64(6, 'UTC'),
    monotonic_ns UInt64,
    start_ns UInt64,
    pid UInt32,
    tid UInt32,
    ppid UInt32,
    parent_comm LowCardinality(String),
    uid UInt32,
    gid UInt32,
    loginuid Nullable(UInt32),
    comm LowCardinality(String),
    filename Nullable(String),
    argv Array(String),
    argc Nullable(UInt32),
    retval Int32,
    errno LowCardinality(Nullable(String)),
    syscall LowCardinality(Nullable(String)),
    exit_code Nullable(Int32),
    signal LowCardinality(Nullable(String)),
    lifetime_ns Nullable(UInt64),
    cgroup_id UInt64,
    cgroup Nullable(String),
    container_id Nullable(String),
    pid_ns UInt32,
    ns_pid UInt32,
    argv_truncated Bool,
    count UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(time)
ORDER BY (comm, time)
TTL toDateTime(time) + INTERVAL 30 DAY;
