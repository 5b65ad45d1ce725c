// A strong untyped symbol that the kernel does not have.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern const void no_such_symbol __ksym;
__u64 address;

SEC("raw_tp/sys_enter")
int strong(void *ctx)
{
	address = (__u64)&no_such_symbol;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
