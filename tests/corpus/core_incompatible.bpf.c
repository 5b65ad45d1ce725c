// CO-RE: fields of the kernel's name and another kind: not there, so the guarded branch is dead.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	struct { int x; } pid;            /* a number there */
	int *prio;                        /* a number there */
	char comm[64];                    /* shorter there */
	unsigned long mm;                 /* a pointer there */
	struct { long a, b; } tasks;      /* another struct there */
} __attribute__((preserve_access_index));
__u64 out[8];

SEC("raw_tp/sys_enter")
int incompatible(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	out[0] = bpf_core_field_exists(task->pid);
	out[1] = bpf_core_field_exists(task->prio);
	out[2] = bpf_core_field_exists(task->comm[40]);
	out[3] = bpf_core_field_exists(task->mm);
	out[4] = bpf_core_field_exists(task->tasks);
	if (bpf_core_field_exists(task->mm))
		out[5] = BPF_CORE_READ(task, mm);
	if (bpf_core_field_exists(task->comm[40]))
		out[6] = BPF_CORE_READ(task, comm[40]);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
