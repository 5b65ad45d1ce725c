// A program that calls another program of another section, by name.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int seen;

SEC("raw_tp/sys_exit")
__noinline int called(void *ctx)
{
	seen++;
	return 0;
}

SEC("raw_tp/sys_enter")
int calling(void *ctx)
{
	return called(ctx) > 5;
}

char LICENSE[] SEC("license") = "GPL";
