/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The system call that is about to return, for programs on raw_tp/sys_exit: its registers still have its number and its
 * arguments, and what these point to has just been read by the kernel, so it is in memory.
 */
#ifndef PUREBPF_SYSCALLS_H
#define PUREBPF_SYSCALLS_H

#include "kernel.h"

#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT (1 << 22) /* arch/arm64/include/asm/thread_info.h */
#define NO_CALL (-0x7fffffff) /* where an architecture has no such call; -1 stands for one that was skipped */

/* Its number. */
static __always_inline int syscall_of(struct pt_regs *regs)
{
	if (on_x86())
		return BPF_CORE_READ((struct pt_regs___x86 *)regs, orig_ax);
	if (bpf_core_field_exists(struct pt_regs___arm64, syscallno))
		return BPF_CORE_READ((struct pt_regs___arm64 *)regs, syscallno);
	return 0;
}

/* Is it a 32-bit program's? These have numbers and, on x86, registers of their own. */
static __always_inline int of_32_bits(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (on_x86())
		return BPF_CORE_READ((struct thread_info___x86 *)&task->thread_info, status) & TS_COMPAT;
	return !!(BPF_CORE_READ(task, thread_info.flags) & TIF_32BIT);
}

/* Is `number` this call? `narrow` says of_32_bits(). A call has one in each of arch/x86/entry/syscalls/ (64, 32), include/uapi/asm-generic/unistd.h and
 * arch/arm64/tools/syscall_32.tbl.
 */
static __always_inline int is_call(int number, int narrow, int x86, int x86_32, int arm64, int arm_32)
{
	if (on_x86())
		return number == (narrow ? x86_32 : x86);
	return number == (narrow ? arm_32 : arm64);
}

/* The argument of this index, 0 to 3. arm64 has overwritten the first register with the result. */
static __always_inline __u64 argument(struct pt_regs *regs, int narrow, int index)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	__u64 value = 0, offset;

	if (!on_x86()) {
		if (index == 0)
			return BPF_CORE_READ((struct pt_regs___arm64 *)regs, orig_x0);
		offset = bpf_core_field_offset(struct user_pt_regs___arm64, regs) + index * sizeof(value);
		bpf_probe_read_kernel(&value, sizeof(value), (void *)regs + offset);
		return value;
	}
	if (index == 0)
		return narrow ? BPF_CORE_READ(x86, bx) : BPF_CORE_READ(x86, di);
	if (index == 1)
		return narrow ? BPF_CORE_READ(x86, cx) : BPF_CORE_READ(x86, si);
	if (index == 2)
		return BPF_CORE_READ(x86, dx);
	return narrow ? BPF_CORE_READ(x86, si) : BPF_CORE_READ(x86, r10);
}

#endif
