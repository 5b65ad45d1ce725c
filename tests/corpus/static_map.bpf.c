// A static map, which libbpf refuses; and a section .bss.x, which it leaves out.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} numbers SEC(".maps");
__u32 at SEC(".bss.own");

SEC("raw_tp/sys_enter")
int look(void *ctx)
{
	__u64 *value = bpf_map_lookup_elem(&numbers, &at);

	at = 1;
	return value ? *value : 0;
}

char LICENSE[] SEC("license") = "GPL";
