// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_ringbuf_output: copy an event that already lies somewhere into the ring, in one call.
 *
 * Use it when the bytes are there anyway (on the stack, in a map, in a packet), or when their number is known at run
 * time only: the size may be a variable here, and must be a constant for bpf_ringbuf_reserve. The price is the copy,
 * and that the event must fit on the stack (512 bytes) or have a map to lie in. It returns 0, or -EAGAIN where the ring
 * has no room: the kernel counts no losses, so the program does (Documentation/bpf/ringbuf.rst).
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 pid;
	char comm[16]; /* the name of the thread that ends, NUL included */
};

/* What is used through local pointers only does not get into BTF; a global one has its type kept for the reader. */
const struct event *unused __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

__u64 lost; /* events that found no room */

SEC("raw_tp/sched_process_exit")
int output(void *ctx)
{
	struct event event = {};

	event.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	if (bpf_ringbuf_output(&events, &event, sizeof(event), 0))
		__sync_fetch_and_add(&lost, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
