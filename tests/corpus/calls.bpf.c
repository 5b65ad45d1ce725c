// Calls between functions: static, global and weak, in .text.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int count;

static __noinline int inner(int n)
{
	count += n;
	return n * 3;
}

__noinline int global_function(int n)
{
	return inner(n) + 1;
}

__weak __noinline int weak_function(int n)
{
	return n + count;
}

SEC("raw_tp/sys_enter")
int first(void *ctx)
{
	return inner(2) + global_function(3) + weak_function(4) > 1000;
}

SEC("raw_tp/sys_exit")
int second(void *ctx)
{
	return global_function(5) > 1000;
}

char LICENSE[] SEC("license") = "GPL";
