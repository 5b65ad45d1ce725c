// One callback that two programs and a function of .text use.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} table SEC(".maps");
__u64 sum;

static __noinline __u64 twice(__u64 n)
{
	return n * 2;
}

static long each(void *map, __u32 *key, __u64 *value, void *ctx)
{
	sum += twice(*value);
	return 0;
}

static __noinline int walk(void)
{
	return bpf_for_each_map_elem(&table, each, 0, 0);
}

SEC("raw_tp/sys_enter")
int direct(void *ctx)
{
	return bpf_for_each_map_elem(&table, each, 0, 0) > 100;
}

SEC("raw_tp/sys_exit")
int by_function(void *ctx)
{
	return walk() > 100;
}

char LICENSE[] SEC("license") = "GPL";
