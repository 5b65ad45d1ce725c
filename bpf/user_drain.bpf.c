// SPDX-License-Identifier: MIT OR GPL-2.0
/* Drains a user ring and keeps what the callback was given, for user space to look at: `purebpf ring user --kernel`.
 *
 * bpf_user_ringbuf_drain has a callback run for each record (user_ring.bpf.c tells more). A dynptr says how large it is
 * to those who ask beyond its end: each byte is read until one is refused. Linux 6.1; run by BPF_PROG_TEST_RUN.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MESSAGES 16
#define LARGEST 60

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 64 * 1024);
} messages SEC(".maps");

struct message {
	__u32 size; /* LARGEST at most */
	__u8 bytes[LARGEST];
};

struct message taken[MESSAGES];
__u32 count; /* of messages since user space has set it to 0; what is more than MESSAGES is not kept */

static long take(struct bpf_dynptr *dynptr, void *context)
{
	__u32 number = count++, size;

	if (number >= MESSAGES)
		return 0;
	for (size = 0; size < LARGEST; size++)
		if (bpf_dynptr_read(&taken[number].bytes[size], 1, dynptr, size, 0))
			break;
	taken[number].size = size;
	return 0;
}

struct context {
	__u64 flags;
};

/* Returns what the helper does. */
SEC("syscall")
int drain(struct context *context)
{
	return bpf_user_ringbuf_drain(&messages, take, NULL, context->flags);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
