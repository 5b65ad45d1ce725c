// CO-RE: bit-fields that lie elsewhere and have other widths; byte offset, size, sign and both shifts.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	int in_execve;                 /* one bit there */
	unsigned sched_migrated : 7;   /* one bit there */
	unsigned no_such_bit : 2;
	int sched_contributes_to_load : 9;
} __attribute__((preserve_access_index));
struct sock { unsigned short sk_type : 3; __u32 sk_protocol : 12; } __attribute__((preserve_access_index));
__u64 out[16];

SEC("tp_btf/sys_enter")
int bits(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct sock *sock = 0;

	out[0] = BPF_CORE_READ_BITFIELD(task, in_execve);
	out[1] = BPF_CORE_READ_BITFIELD_PROBED(task, sched_migrated);
	out[2] = BPF_CORE_READ_BITFIELD_PROBED(task, sched_contributes_to_load);
	if (bpf_core_field_exists(task->no_such_bit))
		out[3] = BPF_CORE_READ_BITFIELD(task, no_such_bit);
	out[4] = __builtin_preserve_field_info(task->sched_migrated, BPF_FIELD_BYTE_OFFSET);
	out[5] = __builtin_preserve_field_info(task->sched_migrated, BPF_FIELD_BYTE_SIZE);
	out[6] = __builtin_preserve_field_info(task->sched_contributes_to_load, BPF_FIELD_SIGNED);
	out[7] = __builtin_preserve_field_info(task->sched_migrated, BPF_FIELD_LSHIFT_U64);
	out[8] = __builtin_preserve_field_info(task->sched_migrated, BPF_FIELD_RSHIFT_U64);
	out[9] = __builtin_preserve_field_info(sock->sk_protocol, BPF_FIELD_LSHIFT_U64);
	out[10] = __builtin_preserve_field_info(sock->sk_type, BPF_FIELD_RSHIFT_U64);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
