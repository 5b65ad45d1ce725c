// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_user_ringbuf_drain: the ring the other way round. User space produces, the program consumes (Linux 6.1).
 *
 * Writing a message costs user space no system call, but nothing runs this program for it either: messages wait for the
 * next time it runs, here for the next process that ends, or for a BPF_PROG_RUN. The callback gets each message as a
 * dynptr, because user space chose its length: reading it checks the bounds. It returns 0 for the next one, 1 to stop.
 * Draining stops before a message that is still busy, passes over discarded ones, and takes 131,072 at most. If there
 * were any, producers that wait for room are notified (not with BPF_RB_NO_WAKEUP, always with BPF_RB_FORCE_WAKEUP).
 * While one CPU drains, the others are told -EBUSY; what they would have taken is taken by the one, or the next time.
 *
 * Here the messages are names that user space gives to processes.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct message {
	__u32 pid;
	char name[16];
};

/* What is used through local pointers only does not get into BTF; a global one has its type kept for the writer. */
const struct message *unused __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 64 * 1024);
} messages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, char[16]);
} names SEC(".maps");

/* Messages that are too short, or for which `names` has no room. Only one CPU drains at a time: no atomic is needed. */
__u64 refused;

static long take(struct bpf_dynptr *dynptr, void *context)
{
	struct message message;

	if (bpf_dynptr_read(&message, sizeof(message), dynptr, 0, 0) ||
	    bpf_map_update_elem(&names, &message.pid, message.name, BPF_ANY))
		refused++;
	return 0;
}

/* Returns how many messages there were, those refused included, or a negative errno. */
SEC("raw_tp/sched_process_exit")
int drain(void *ctx)
{
	return bpf_user_ringbuf_drain(&messages, take, NULL, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
