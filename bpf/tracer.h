/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What every tracer has: a ring that wakes its reader seldom, counted losses, filters, and the head of an event.
 * purebpf/tracing/ is the other side: a tool includes this, fills an event, and has all options of the others.
 */
#ifndef PUREBPF_TRACER_H
#define PUREBPF_TRACER_H

#include "kernel.h"

/* ---- the ring ---------------------------------------------------------------------------------------------- */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} events SEC(".maps");

/* The kernel counts no losses: who gets an error from reserve or output must (Documentation/bpf/ringbuf.rst). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Waking a reader takes ten times as long as writing a record, so it says when it wants to be: at the next record when it
 * has nothing to do, at `wake_at` bytes when it sleeps to let records gather, not at all while it reads.
 * With `wake_at` 0 the kernel decides, as it does for readers that know nothing of this.
 */
enum { BUSY, AT_ONCE, WHEN_FULLER };
const volatile __u64 wake_at = 0;
__u32 wanted_wakeup = BUSY;

static __always_inline __u64 wakeup(void)
{
	__u32 wanted = wanted_wakeup;

	if (!wake_at)
		return 0;
	if (wanted == BUSY || (wanted == WHEN_FULLER && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < wake_at))
		return BPF_RB_NO_WAKEUP;
	wanted_wakeup = BUSY;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline int count_lost(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

static __always_inline int send(void *event, __u64 size)
{
	return bpf_ringbuf_output(&events, event, size, wakeup()) ? count_lost() : 0;
}

/* ---- filters ----------------------------------------------------------------------------------------------- */

enum wish_kind { PID, PPID, UID };

struct wish {
	__u64 value;
	__u64 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct wish);
	__type(value, __u8);
} wishes SEC(".maps");

/* The processes of a tree: those that it was given, and what they fork. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} tree SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} cgroups SEC(".maps");

#define MAX_CGROUPS 16
const volatile __u8 by_pid = 0, by_ppid = 0, by_uid = 0, by_tree = 0;
const volatile __u32 cgroup_count = 0;
__u64 untracked = 0; /* processes that the tree had no room for */

static __always_inline int wished(__u64 kind, __u64 value)
{
	struct wish wish = {.value = value, .kind = kind};

	return bpf_map_lookup_elem(&wishes, &wish) != NULL;
}

static __always_inline int in_cgroups(void)
{
	for (__u32 i = 0; i < MAX_CGROUPS && i < cgroup_count; i++)
		if (bpf_current_task_under_cgroup(&cgroups, i) == 1)
			return 1;
	return 0;
}

/* Is the current process one that is asked for? What is not asked costs nothing: the verifier removes it. */
static __always_inline int asked_for(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (by_pid && !wished(PID, pid))
		return 0;
	if (by_uid && !wished(UID, (__u32)bpf_get_current_uid_gid()))
		return 0;
	if (by_tree && !bpf_map_lookup_elem(&tree, &pid))
		return 0;
	if (cgroup_count && !in_cgroups())
		return 0;
	return 1;
}

/* ---- the head of an event ---------------------------------------------------------------------------------- */

struct head {
	__u64 time; /* CLOCK_MONOTONIC nanoseconds, as is start: when the process was forked */
	__u64 start;
	__u64 cgroup_id;
	__u32 kind;
	__u32 pid, tid, ppid;
	__u32 uid, gid, loginuid;
	__u32 pid_ns, ns_pid;
	__u32 cgroup_size; /* bytes of the names, each with its NUL, from the process's cgroup towards the root */
	char comm[COMM_LEN], parent_comm[COMM_LEN];
};

#define NONE ((__u32)-1)

/* What helpers tell, on any kernel. */
static __always_inline void begin(struct head *head, __u32 kind)
{
	__u64 pid = bpf_get_current_pid_tgid(), uid = bpf_get_current_uid_gid();

	head->time = bpf_ktime_get_ns();
	head->start = 0;
	head->cgroup_id = 0;
	head->kind = kind;
	head->pid = pid >> 32;
	head->tid = (__u32)pid;
	head->ppid = 0;
	head->uid = (__u32)uid;
	head->gid = uid >> 32;
	head->loginuid = NONE;
	head->pid_ns = 0;
	head->ns_pid = 0;
	head->cgroup_size = 0;
	head->parent_comm[0] = 0;
	bpf_get_current_comm(head->comm, COMM_LEN);
}

/* The innermost of the process's numbers, one for each namespace that it is in. */
static __always_inline void pid_in_namespace(struct head *head, struct task_struct *leader)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	struct upid *number = numbers + level * bpf_core_type_size(struct upid);

	head->ns_pid = BPF_CORE_READ(number, nr);
	head->pid_ns = BPF_CORE_READ(number, ns, ns.inum);
}

/* What the kernel's structures tell. 0: the parent is not one that is asked for. */
static __always_inline int complete(struct head *head)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);

	head->ppid = BPF_CORE_READ(parent, tgid);
	if (by_ppid && !wished(PPID, head->ppid))
		return 0;
	BPF_CORE_READ_INTO(&head->parent_comm, parent, comm);
	head->start = BPF_CORE_READ(leader, start_time);
	if (bpf_core_field_exists(task->loginuid))
		head->loginuid = BPF_CORE_READ(task, loginuid.val);
	pid_in_namespace(head, leader);
	return 1;
}

/* ---- events of any size ------------------------------------------------------------------------------------ */

#define PATH_MAX 4096

/* Of a map where an event is put together, for its size is not known before: one value of `size` bytes a CPU. */
#define BUFFERS(size)                                                                                                  \
	__uint(type, BPF_MAP_TYPE_ARRAY);                                                                              \
	__uint(max_entries, 1024);                                                                                     \
	__type(key, __u32);                                                                                            \
	__uint(value_size, size)

static __always_inline void *buffer(void *map)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(map, &cpu);
}

static __always_inline __u64 at_most(__u64 size, __u64 limit)
{
	barrier_var(size); /* the verifier must see this comparison, not what the compiler makes of it, */
	size = size < limit ? size : limit;
	barrier_var(size); /* and what is used must be what was compared: older verifiers do not know that two registers are equal */
	return size;
}

/* bpf_probe_read_user_str() as it is since Linux 6.2: an empty string has one byte, its NUL. Older kernels write that, too, but
 * say 0 (mm/maccess.c, strncpy_from_user_nofault). Without a branch, of which the verifier of 5.10 would follow too many.
 */
static __always_inline long read_user_string(char *to, __u32 size, const void *from)
{
	long length = bpf_probe_read_user_str(to, size, from), sign = length | -length;

	asm volatile("" : "+r"(sign)); /* or clang would see the branch in it */
	return length + ((__u64)sign >> 63 ^ 1);
}

static __always_inline __u64 positive(long length)
{
	return length > 0 ? length : 0;
}

/* The verifier follows each value of a running size apart, and multiplies what follows by their number. Out of its sight, in
 * a map, they become one: any value, to be bounded anew.
 */
static __always_inline __u64 forget(volatile __u32 *place, __u64 size, __u64 limit)
{
	*place = size;
	return at_most(*place, limit);
}

#define CGROUP_LEVELS 12
#define CGROUP_NAME 256
#define CGROUP_SIZE 1024

static __always_inline struct kernfs_node *above(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->parent))
		return BPF_CORE_READ(node, parent);
	return BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
}

/* Put the names of the process's cgroup, and of those above it, into `to`; an empty one at last if there are more. Their
 * size. (The root's own name is empty, and is left out.)
 */
static __always_inline __u64 cgroup_names(struct head *head, char *to)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct kernfs_node *node, *parent;
	__u64 size = 0;

	head->cgroup_size = 0;
	if (!bpf_core_field_exists(task->cgroups))
		return 0;
	node = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	head->cgroup_id = BPF_CORE_READ(node, id);
	for (int i = 0; i < CGROUP_LEVELS && size < CGROUP_SIZE - CGROUP_NAME; i++) {
		parent = above(node);
		if (!parent)
			return size;
		size += positive(bpf_probe_read_kernel_str(to + size, CGROUP_NAME, BPF_CORE_READ(node, name)));
		size = forget(&head->cgroup_size, size, CGROUP_SIZE - 1);
		node = parent;
	}
	to[size] = 0;
	return forget(&head->cgroup_size, size + 1, CGROUP_SIZE);
}

/* The process has ended: another may have its number soon. */
static __always_inline int leave_tree(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (by_tree)
		bpf_map_delete_elem(&tree, &pid);
	return 0;
}

#endif
