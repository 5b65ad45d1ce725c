// Static variables: two of one name in two functions, one zero, one constant, and formats of bpf_printk.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static volatile int calls;

static __noinline int one(void)
{
	static volatile int counter = 100;

	return ++counter;
}

static __noinline int two(void)
{
	static volatile int counter = 200;
	static const volatile int step = 3;

	return counter += step;
}

SEC("raw_tp/sys_enter")
int statics(void *ctx)
{
	calls++;
	bpf_printk("%d %d", one(), two());
	bpf_printk("second");
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
