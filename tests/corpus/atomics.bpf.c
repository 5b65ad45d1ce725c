// Atomic operations (-mcpu=v3) and 32-bit arithmetic.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 a, b;
__u32 c;

SEC("raw_tp/sys_enter")
int atomics(void *ctx)
{
	b = __sync_fetch_and_add(&a, 2) + __sync_val_compare_and_swap(&a, 5, 6) + __sync_lock_test_and_set(&c, 3);
	__sync_fetch_and_or(&a, 8);
	c = (c / 3) ^ (c % 7);
	return c > b;
}

char LICENSE[] SEC("license") = "GPL";
