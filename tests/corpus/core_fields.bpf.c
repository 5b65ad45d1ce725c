// CO-RE relocations of fields: offset, size, existence, sign; nested, arrays, anonymous.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct list { void *next, *prev; } __attribute__((preserve_access_index));
struct mm_struct {
	unsigned long start_code, arg_start;
} __attribute__((preserve_access_index));
struct task_struct {
	int prio;
	struct { int tgid; };
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct list tasks;
	char comm[16];
	unsigned int flags;
	int no_such_member;
} __attribute__((preserve_access_index));
struct no_such_struct { int x; } __attribute__((preserve_access_index));
__u64 out[12];

SEC("raw_tp/sys_enter")
int fields(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	out[0] = BPF_CORE_READ(task, tgid);
	out[1] = BPF_CORE_READ(task, group_leader, prio);
	out[2] = BPF_CORE_READ(task, comm[3]);
	out[3] = (__u64)BPF_CORE_READ(task, tasks.prev);
	out[4] = bpf_core_field_size(task->comm);
	out[5] = bpf_core_field_exists(task->no_such_member);
	out[6] = bpf_core_field_exists(task->flags);
	out[7] = bpf_core_type_size(struct task_struct);
	out[8] = bpf_core_type_exists(struct no_such_struct);
	out[9] = BPF_CORE_READ(task, mm, arg_start);
	out[10] = __builtin_preserve_field_info(task->prio, 3);
	if (bpf_core_field_exists(task->no_such_member))
		out[11] = BPF_CORE_READ(task, no_such_member);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
