// CO-RE: a field that the kernel does not have, read without a guard.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int no_such_field; } __attribute__((preserve_access_index));
__u64 out;

SEC("raw_tp/sys_enter")
int reached(void *ctx)
{
	out = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), no_such_field);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
