// The older declaration of maps: struct bpf_map_def in SEC("maps").
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct bpf_map_def SEC("maps") counts = { BPF_MAP_TYPE_HASH, 4, 8, 16, BPF_F_NO_PREALLOC };
struct bpf_map_def SEC("maps") slots = { BPF_MAP_TYPE_ARRAY, 4, 4, 3 };

SEC("raw_tp/sys_enter")
int legacy(void *ctx)
{
	__u32 key = 1, *slot = bpf_map_lookup_elem(&slots, &key);
	__u64 one = 1;

	bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
	return slot ? *slot : 0;
}

char LICENSE[] SEC("license") = "GPL";
