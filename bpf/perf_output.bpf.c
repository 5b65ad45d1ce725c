// SPDX-License-Identifier: MIT OR GPL-2.0
/* bpf_perf_event_output, as programs sent events before there were ring buffers: `purebpf ring perf --kernel`.
 *
 * Each CPU has a ring of its own, and the helper copies the event into that of the CPU on which the program runs. What is
 * sent is `content`, as many bytes of it as the program is told by its first argument: it is to be run by
 * BPF_PROG_TEST_RUN with BPF_F_TEST_RUN_ON_CPU (Linux 5.10), not attached.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

char content[16 * 1024];

/* Returns what the helper does, or -E2BIG. */
SEC("raw_tp/sched_process_exit")
int output(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 size = ctx->args[0];

	return size > sizeof(content) ? -7 : bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, content, size);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
