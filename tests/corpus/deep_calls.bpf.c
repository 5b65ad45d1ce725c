// Functions that call one another in several orders, so that each is appended once.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int seen;

static __noinline int c(int n) { return n + seen; }
static __noinline int b(int n) { return c(n) * 3; }
static __noinline int a(int n) { return b(n) + c(n + 1); }
static __noinline int unused_by_first(int n) { return a(n) + 7 * b(n); }

SEC("raw_tp/sys_enter")
int first(void *ctx)
{
	seen = c(1) + a(2);
	return 0;
}

SEC("raw_tp/sys_exit")
int second(void *ctx)
{
	seen = unused_by_first(3) + b(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
