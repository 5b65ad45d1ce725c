// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_ringbuf_discard: give up an event that has been reserved.
 *
 * For what turns out only once the record has been filled: here the name of the thread, which is compared in place.
 * What can be asked before should be, for a discarded record is not undone. It stays in the ring with a bit set in its
 * header, takes up room until the reader has passed over it, and may wake a reader that then finds nothing.
 * BPF_RB_NO_WAKEUP saves that, but can delay others: records that were committed behind this one while it was busy have
 * not notified, and rely on it to do so. So pass 0 when in doubt.
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
char ignored[16]; /* threads of this name, padded with NUL, are not reported; to be set by user space at any time */

SEC("raw_tp/sched_process_exit")
int discard(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	int different = 0;

	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	for (int i = 0; i < sizeof(event->comm); i++)
		different |= event->comm[i] ^ ignored[i];
	if (different)
		bpf_ringbuf_submit(event, 0);
	else
		bpf_ringbuf_discard(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
