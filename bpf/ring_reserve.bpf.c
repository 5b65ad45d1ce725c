// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_ringbuf_reserve and bpf_ringbuf_submit: build the event in the ring itself.
 *
 * The usual way: nothing is copied, the event may be larger than the stack, and where the ring is full the program
 * knows before it has done the work. The size must be a constant. Between the two calls the record is busy: readers
 * see neither it nor what others reserved after it, so keep the time short. What reserve returns is not cleared; fill
 * every byte. The verifier insists that each reserved record is submitted or discarded on every path.
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

/* Events that found no room, for each CPU: no two write to the same counter, so it needs no atomic instruction. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		*count += 1;
}

SEC("raw_tp/sched_process_exit")
int reserve(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count_lost();
		return 0;
	}
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
