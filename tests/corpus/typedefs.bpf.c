// A map declared through a typedef, with keys and values behind const, volatile and typedef.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

typedef struct { __u32 low, high; } pair;
typedef const volatile pair constant_pair;
typedef struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, constant_pair);
	__type(value, const __u64);
	__uint(max_entries, 4);
} table_type;

table_type table SEC(".maps");

SEC("raw_tp/sys_enter")
int typedefs(void *ctx)
{
	pair key = { 1, 2 };

	return bpf_map_lookup_elem(&table, &key) != 0;
}

char LICENSE[] SEC("license") = "GPL";
