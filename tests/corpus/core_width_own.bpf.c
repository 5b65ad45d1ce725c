// CO-RE: loads of unsigned fields of another width, of the process that runs the program.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	__u64 flags;          /* unsigned int there */
	__u32 start_boottime; /* u64 there */
	__u8 policy;          /* unsigned int there */
} __attribute__((preserve_access_index));
__u64 out[3];

SEC("raw_tp/sys_enter")
int width(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	out[0] = task->flags;
	out[1] = task->start_boottime;
	out[2] = task->policy;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
