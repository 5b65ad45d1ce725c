// Several programs in one section, one that is not loaded unasked, and one of an unknown kind.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("raw_tp/sys_enter")
int one(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int two(void *ctx)
{
	return 0;
}

SEC("?raw_tp/sys_enter")
int asleep(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
