/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The members of kernel structures that the tracers read. CO-RE finds where they are on the running kernel, so only their
 * names and types matter here. A flavour (___name) is another kernel's, or another architecture's, idea of a structure.
 */
#ifndef PUREBPF_KERNEL_H
#define PUREBPF_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define COMM_LEN 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct fs_struct {
	struct path root, pwd;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct kernfs_node {
	struct kernfs_node *parent; /* until 6.14 */
	const char *name;
	__u64 id;
};

struct kernfs_node___rcu {
	struct kernfs_node *__parent; /* from 6.15 */
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
	int group_exit_code;
	unsigned int flags;
};

struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
};

struct thread_info {
	unsigned long flags;
};

struct thread_info___x86 {
	__u32 status;
};

typedef struct {
	__u32 val;
} kuid_t;

struct task_struct {
	struct thread_info thread_info;
	int pid, tgid, exit_code;
	char comm[COMM_LEN];
	struct task_struct *real_parent, *group_leader;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct pid *thread_pid;
	struct fs_struct *fs;
	kuid_t loginuid;
	__u64 start_time; /* CLOCK_MONOTONIC nanoseconds */
};

struct linux_binprm {
	const char *filename, *interp, *fdpath;
	int argc;
};

struct pt_regs___x86 {
	unsigned long di, si, dx, cx, bx, r10, orig_ax;
};

struct pt_regs___arm64 {
	__u64 orig_x0;
	int syscallno;
};

/* arm64's first member is an anonymous union of this and of the registers themselves. */
struct user_pt_regs___arm64 {
	__u64 regs[31];
};

struct psw___s390 {
	unsigned long mask;
};

struct pt_regs___s390 {
	struct psw___s390 psw; /* program status word */
	unsigned long gprs[16], orig_gpr2;
	unsigned int int_code;
};

struct pt_regs___powerpc {
	unsigned long gpr[32], orig_gpr3;
};

struct pt_regs___riscv {
	unsigned long a1, a7, orig_a0; /* a1 to a7 are neighbours */
};

#pragma clang attribute pop

static __always_inline int on_x86(void)
{
	return bpf_core_field_exists(struct pt_regs___x86, orig_ax);
}

static __always_inline int on_arm64(void)
{
	return bpf_core_field_exists(struct pt_regs___arm64, syscallno);
}

static __always_inline int on_s390(void)
{
	return bpf_core_field_exists(struct pt_regs___s390, orig_gpr2);
}

static __always_inline int on_powerpc(void)
{
	return bpf_core_field_exists(struct pt_regs___powerpc, orig_gpr3);
}

static __always_inline int on_riscv(void)
{
	return bpf_core_field_exists(struct pt_regs___riscv, orig_a0);
}

#endif
