// Maps of maps with a template and initial values, and a program array filled by name.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &first, [2] = &second } };

int tail(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = &tail } };

SEC("raw_tp/sys_enter")
int tail(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int look(void *ctx)
{
	__u32 two = 2;
	void *map = bpf_map_lookup_elem(&outer, &two);

	if (map)
		bpf_map_lookup_elem(map, &two);
	bpf_tail_call(ctx, &programs, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
