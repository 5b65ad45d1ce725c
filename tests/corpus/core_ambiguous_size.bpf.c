// CO-RE: the size of a type of which the kernel has two of different sizes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct console { short flags; } __attribute__((preserve_access_index));
__u64 out;

SEC("raw_tp/sys_enter")
int ambiguous(void *ctx)
{
	out = bpf_core_type_size(struct console);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
