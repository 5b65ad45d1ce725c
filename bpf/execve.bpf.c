// SPDX-License-Identifier: MIT OR GPL-2.0
/* Reports every execve(2) as it is entered: the process id and the file name asked for. The shortest program that is of use
 * with a ring, to learn from and to try the library with; the tool is trace_exec.bpf.c.
 *
 * A record is a struct exec_event followed by `size` bytes of file name, NUL included.
 * Names of up to SHORT_NAME bytes travel in a small record, so that a burst of ordinary
 * execs does not fill the ring; only a longer one takes a record that holds a whole PATH_MAX.
 * (bpf_ringbuf_reserve wants a constant size: kernel/bpf/verifier.c, ARG_CONST_ALLOC_SIZE_OR_ZERO.)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SHORT_NAME 248
#define PATH_MAX 4096

/* The layout of /sys/kernel/tracing/events/syscalls/sys_enter_execve/format. */
struct execve_args {
	__u64 common;
	__u64 syscall_nr;
	const char *filename;
};

struct exec_event {
	__u32 pid;
	__s32 size; /* bytes of the name, NUL included; -errno when it could not be read */
};

struct short_event {
	struct exec_event head;
	char filename[SHORT_NAME];
};

struct long_event {
	struct exec_event head;
	char filename[PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} events SEC(".maps");

/* The kernel counts no losses: whoever gets NULL from reserve must (Documentation/bpf/ringbuf.rst). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline int count_lost(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		*count += 1;
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int trace_execve(struct execve_args *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct short_event *event;
	struct long_event *whole;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return count_lost();
	event->head.pid = pid;
	event->head.size = bpf_probe_read_user_str(event->filename, SHORT_NAME, ctx->filename);
	if (event->head.size != SHORT_NAME) {
		bpf_ringbuf_submit(event, 0);
		return 0;
	}
	/* The name fills the small record to the last byte, so it may have been cut. */
	bpf_ringbuf_discard(event, 0);
	whole = bpf_ringbuf_reserve(&events, sizeof(*whole), 0);
	if (!whole)
		return count_lost();
	whole->head.pid = pid;
	whole->head.size = bpf_probe_read_user_str(whole->filename, PATH_MAX, ctx->filename);
	bpf_ringbuf_submit(whole, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
