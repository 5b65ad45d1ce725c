// A hash of maps whose template is anonymous; stack traces; names longer than the kernel's.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 5);
	__type(key, __u64);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 9);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__type(key, __u32);
		__type(value, __u64);
	});
} a_map_with_a_very_long_name SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, 4);
	__uint(value_size, 127 * 8);
	__uint(max_entries, 16);
} stacks SEC(".maps");

SEC("tp/sched/sched_switch")
int a_program_with_a_very_long_name(void *ctx)
{
	__u64 key = 1;
	void *map = bpf_map_lookup_elem(&a_map_with_a_very_long_name, &key);

	if (map)
		bpf_map_lookup_elem(map, &(__u32){ 1 });
	return bpf_get_stackid(ctx, &stacks, 0) > 0;
}

char LICENSE[] SEC("license") = "GPL";
