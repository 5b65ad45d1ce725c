// A static function in a section of programs, which libbpf refuses.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int seen;

static __noinline __attribute__((section("raw_tp/sys_enter"))) int helper(int n)
{
	seen = n;
	return n + 1;
}

SEC("raw_tp/sys_enter")
int beside(void *ctx)
{
	return helper(3) > 1000;
}

char LICENSE[] SEC("license") = "GPL";
