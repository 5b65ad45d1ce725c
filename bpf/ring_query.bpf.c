// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_ringbuf_query: how the ring stands, as the program sees it.
 *
 *   BPF_RB_AVAIL_DATA  bytes between the positions: committed and not yet consumed, or still busy; headers included
 *   BPF_RB_RING_SIZE   bytes of the data area
 *   BPF_RB_CONS_POS    bytes that the reader has handed back since the ring was made
 *   BPF_RB_PROD_POS    bytes that have been reserved since the ring was made
 *
 * Each is a snapshot, and old by the time it returns: other CPUs reserve and the reader reads meanwhile. Good for
 * statistics, and for deciding whether to wake the reader (ring_wakeup.bpf.c) or to send less; no promise that the next
 * reserve succeeds. A reader has the same numbers in its mapped pages.
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

struct state {
	__u64 available;
	__u64 size;
	__u64 consumer_position;
	__u64 producer_position;
};

struct state state; /* of the ring, after the last event; CPUs that run this at the same time may mix theirs */
__u64 highest; /* the most that has ever been available: how close the ring came to being full */
__u64 lost; /* events that found no room */

SEC("raw_tp/sched_process_exit")
int query(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (event) {
		event->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		bpf_ringbuf_submit(event, 0);
	} else {
		__sync_fetch_and_add(&lost, 1);
	}
	state.available = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	state.size = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
	state.consumer_position = bpf_ringbuf_query(&events, BPF_RB_CONS_POS);
	state.producer_position = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);
	if (state.available > highest)
		highest = state.available;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
