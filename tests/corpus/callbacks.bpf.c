// Addresses of functions: callbacks of bpf_for_each_map_elem and bpf_loop.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} numbers SEC(".maps");
__u64 sum;

static long add(void *map, __u32 *key, __u64 *value, void *ctx)
{
	sum += *value;
	return 0;
}

static int step(__u32 index, void *ctx)
{
	sum += index;
	return 0;
}

SEC("raw_tp/sys_enter")
int iterate(void *ctx)
{
	bpf_for_each_map_elem(&numbers, add, 0, 0);
	bpf_loop(10, step, 0, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
