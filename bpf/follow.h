/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Keeps `tree` what it is while its processes fork and exit. To be included last: programs of one hook run in the order
 * in which they stand in the object, and a process must not leave the tree before its exit has been reported.
 */
#ifndef PUREBPF_FOLLOW_H
#define PUREBPF_FOLLOW_H

#include "tracer.h"

SEC("raw_tp/sched_process_fork")
int follow_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (void *)ctx->args[1];
	__u32 parent = bpf_get_current_pid_tgid() >> 32;
	__u32 pid = BPF_CORE_READ(child, tgid);
	__u8 yes = 1;

	if (pid != parent && bpf_map_lookup_elem(&tree, &parent) && bpf_map_update_elem(&tree, &pid, &yes, BPF_ANY))
		__sync_fetch_and_add(&untracked, 1);
	return 0;
}

/* Not beside a program that reports exits and calls leave_tree() itself: of two threads that end at once, the first would see
 * the second's end here, and take the process away before the second reports it.
 */
SEC("raw_tp/sched_process_exit")
int follow_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	return BPF_CORE_READ(task, signal, live.counter) ? 0 : leave_tree();
}

#endif
