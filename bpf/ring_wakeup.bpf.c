// SPDX-License-Identifier: MIT OR GPL-2.0
/* BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP: who wakes the reader, and when.
 *
 * With flags 0 the kernel notifies for a record that the reader has caught up to, and leaves it alone while it is busy.
 * A reader that keeps up is then woken for nearly every event, which costs the program more than the event itself
 * (an interrupt to its own CPU). A program with many events may decide for itself: NO_WAKEUP for each until the ring
 * holds a good batch, then FORCE_WAKEUP, which notifies wherever the reader stands. What comes after the last batch
 * wakes nobody, so the reader must wait with a time-out and look (`ring.poll(0.1)`).
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

const volatile __u64 threshold = 32 * 1024; /* bytes in the ring that are worth waking the reader; set before loading */
__u64 lost; /* events that found no room */

/* The record that is about to be committed counts, for it has been reserved. */
static __always_inline __u64 wakeup_flags(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= threshold ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

SEC("raw_tp/sched_process_exit")
int wakeup(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, wakeup_flags());
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
