// CO-RE in functions that programs call, so that relocations move along with the code.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int pid, tgid; struct task_struct *group_leader; } __attribute__((preserve_access_index));
__u64 out[4];

static __noinline int leader(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, pid);
}

__noinline int own_tgid(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, tgid) + bpf_core_field_size(task->pid);
}

SEC("raw_tp/sys_enter")
int functions(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	out[0] = leader(task);
	out[1] = own_tgid();
	out[2] = BPF_CORE_READ(task, pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
