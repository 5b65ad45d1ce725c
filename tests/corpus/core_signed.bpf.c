// CO-RE: loads of signed fields of another width, which no load can replace, in dead code.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { long long prio; short static_prio; } __attribute__((preserve_access_index));
volatile const int dead = 0;
__u64 out[2];

SEC("tp_btf/sys_enter")
int guarded(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (dead)
		out[0] = task->prio;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
