// Every member of a BTF-defined map: sizes, types, flags, extra, entries.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key { __u32 a; __u16 b; };
struct value { __u64 counts[3]; char name[16]; };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key);
	__type(value, struct value);
	__uint(max_entries, 128);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(key_size, 12);
	__uint(value_size, 20);
	__uint(max_entries, 64);
} sized SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__type(value, __u32);
	__uint(max_entries, 100);
	__uint(map_extra, 3);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(key_size, 8);
	__uint(value_size, 4);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, __u64);
	__uint(max_entries, 4);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} percpu SEC(".maps");

SEC("raw_tp/sys_enter")
int members(void *ctx)
{
	struct key key = {};
	struct value *value = bpf_map_lookup_elem(&typed, &key);
	__u64 item = 1;
	__u32 zero = 0, small[3] = {};

	bpf_map_push_elem(&queue, &item, 0);
	bpf_map_lookup_elem(&sized, small);
	bpf_map_lookup_elem(&trie, small);
	bpf_map_lookup_elem(&percpu, &zero);
	return value ? value->counts[1] + bpf_map_peek_elem(&bloom, &zero) : 0;
}

char LICENSE[] SEC("license") = "GPL";
