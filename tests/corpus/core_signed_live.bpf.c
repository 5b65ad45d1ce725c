// CO-RE: a load of a signed field of another width, which is reached.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { long long prio; } __attribute__((preserve_access_index));
__u64 out;

SEC("tp_btf/sys_enter")
int reached(void *ctx)
{
	out = ((struct task_struct *)bpf_get_current_task_btf())->prio;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
