// Storage for each task, and a user ring buffer: maps without entries of their own.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} entered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} commands SEC(".maps");

__u64 taken;

static long take(struct bpf_dynptr *record, void *ctx)
{
	taken++;
	return 0;
}

SEC("tp_btf/sys_enter")
int store(void *ctx)
{
	__u64 *value = bpf_task_storage_get(&entered, (void *)bpf_get_current_task_btf(), 0, 1);

	if (value)
		*value += 1;
	return bpf_user_ringbuf_drain(&commands, take, 0, 0) > 100;
}

char LICENSE[] SEC("license") = "GPL";
