// Numbers as __ulong writes them (an enum): map_extra of a Bloom filter; and a NUMA node.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef __ulong
#define __ulong(name, value) enum { ___unique_##name = value } name
#endif

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__type(value, __u32);
	__uint(max_entries, 100);
	__ulong(map_extra, 5);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NUMA_NODE);
	__uint(numa_node, 0);
} near SEC(".maps");

SEC("raw_tp/sys_enter")
int extra(void *ctx)
{
	__u32 key = 7;

	bpf_map_lookup_elem(&near, &key);
	return bpf_map_push_elem(&bloom, &key, 0);
}

char LICENSE[] SEC("license") = "GPL";
