/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The system call that is about to return, for programs on raw_tp/sys_exit: its registers still have its number and its
 * arguments, and what these point to has just been read by the kernel, so it is in memory.
 */
#ifndef PUREBPF_SYSCALLS_H
#define PUREBPF_SYSCALLS_H

#include "kernel.h"

#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT (1 << 22) /* arch/arm64/include/asm/thread_info.h */
#define PSW_MASK_EA (1ULL << 32) /* arch/s390/include/uapi/asm/ptrace.h: addresses of 64 bits */
#define NO_CALL (-0x7fffffff) /* where an architecture has no such call; -1 stands for one that was skipped */

/* Its number. */
static __always_inline int syscall_of(struct pt_regs *regs)
{
	if (on_x86())
		return BPF_CORE_READ((struct pt_regs___x86 *)regs, orig_ax);
	if (on_arm64())
		return BPF_CORE_READ((struct pt_regs___arm64 *)regs, syscallno);
	if (on_s390())
		return BPF_CORE_READ((struct pt_regs___s390 *)regs, int_code) & 0xffff;
	if (on_powerpc())
		return BPF_CORE_READ((struct pt_regs___powerpc *)regs, gpr[0]);
	if (on_riscv())
		return BPF_CORE_READ((struct pt_regs___riscv *)regs, a7);
	return 0;
}

/* Is it a 32-bit program's (on s390 of 31 bits)? These have numbers and, on x86, registers of their own. */
static __always_inline int of_32_bits(struct pt_regs *regs)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (on_x86())
		return BPF_CORE_READ((struct thread_info___x86 *)&task->thread_info, status) & TS_COMPAT;
	if (on_arm64())
		return !!(BPF_CORE_READ(task, thread_info.flags) & TIF_32BIT);
	if (on_s390())
		return !(BPF_CORE_READ((struct pt_regs___s390 *)regs, psw.mask) & PSW_MASK_EA);
	return 0;
}

/* Is `number` this call? `narrow` says of_32_bits(). A call has a number in each of arch/x86/entry/syscalls/ (64, 32),
 * include/uapi/asm-generic/unistd.h (arm64, riscv), arch/arm64/tools/syscall_32.tbl, arch/s390 and arch/powerpc/kernel/syscalls/.
 * Programs of 31 bits, which Linux 7 does not run any more, are not looked for.
 */
static __always_inline int is_call(int number, int narrow, int x86, int x86_32, int generic, int arm_32, int s390, int powerpc)
{
	if (on_x86())
		return number == (narrow ? x86_32 : x86);
	if (on_s390())
		return !narrow && number == s390;
	if (on_powerpc())
		return number == powerpc;
	return number == (narrow ? arm_32 : generic);
}

/* The register of this index among those that begin at `offset`. */
static __always_inline __u64 register_at(struct pt_regs *regs, __u64 offset, int index)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)regs + offset + index * sizeof(value));
	return value;
}

static __always_inline __u64 x86_argument(struct pt_regs___x86 *regs, int narrow, int index)
{
	if (index == 0)
		return narrow ? BPF_CORE_READ(regs, bx) : BPF_CORE_READ(regs, di);
	if (index == 1)
		return narrow ? BPF_CORE_READ(regs, cx) : BPF_CORE_READ(regs, si);
	if (index == 2)
		return BPF_CORE_READ(regs, dx);
	return narrow ? BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
}

/* The first one, where the result has been written to its register. */
static __always_inline __u64 first_argument(struct pt_regs *regs)
{
	if (on_arm64())
		return BPF_CORE_READ((struct pt_regs___arm64 *)regs, orig_x0);
	if (on_s390())
		return BPF_CORE_READ((struct pt_regs___s390 *)regs, orig_gpr2);
	if (on_powerpc())
		return BPF_CORE_READ((struct pt_regs___powerpc *)regs, orig_gpr3);
	return BPF_CORE_READ((struct pt_regs___riscv *)regs, orig_a0);
}

/* The argument of this index, 0 to 3. */
static __always_inline __u64 argument(struct pt_regs *regs, int narrow, int index)
{
	if (on_x86())
		return x86_argument((void *)regs, narrow, index);
	if (index == 0)
		return first_argument(regs);
	if (on_arm64())
		return register_at(regs, bpf_core_field_offset(struct user_pt_regs___arm64, regs), index);
	if (on_s390())
		return register_at(regs, bpf_core_field_offset(struct pt_regs___s390, gprs), 2 + index);
	if (on_powerpc())
		return register_at(regs, bpf_core_field_offset(struct pt_regs___powerpc, gpr), 3 + index);
	return register_at(regs, bpf_core_field_offset(struct pt_regs___riscv, a1), index - 1);
}

#endif
