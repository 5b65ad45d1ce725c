// CO-RE: a type of which the kernel has two that differ.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct console { short flags; } __attribute__((preserve_access_index));
__u64 out;

SEC("raw_tp/sys_enter")
int ambiguous(void *ctx)
{
	out = bpf_core_field_exists(((struct console *)0)->flags);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
