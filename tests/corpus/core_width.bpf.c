// CO-RE: loads of unsigned fields that have another width in the kernel; bit-fields.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	unsigned long long flags;  /* unsigned int there */
	unsigned int start_time;   /* u64 there */
	unsigned sched_reset_on_fork : 1;
	unsigned in_execve : 1;
	unsigned short policy;     /* unsigned int there */
} __attribute__((preserve_access_index));
__u64 out[6];

SEC("tp_btf/sys_enter")
int width(unsigned long long *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	out[0] = task->flags;
	out[1] = task->start_time;
	out[2] = task->policy;
	out[3] = BPF_CORE_READ_BITFIELD(task, sched_reset_on_fork);
	out[4] = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
