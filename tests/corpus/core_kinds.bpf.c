// CO-RE relocations of types and enumerators, flavours and candidates.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum pid_type { PIDTYPE_PID, PIDTYPE_SID = 99, PIDTYPE_NO_SUCH = 7 };
enum bpf_link_type___other { BPF_LINK_TYPE_ITER___other };
struct task_struct___old { long state; int pid; } __attribute__((preserve_access_index));
struct task_struct___new { unsigned int __state; } __attribute__((preserve_access_index));
typedef int pid_t;
__u64 out[10];

SEC("raw_tp/sys_enter")
int kinds(void *ctx)
{
	void *task = (void *)bpf_get_current_task();

	out[0] = bpf_core_enum_value(enum pid_type, PIDTYPE_SID);
	out[1] = bpf_core_enum_value_exists(enum pid_type, PIDTYPE_NO_SUCH);
	out[2] = bpf_core_enum_value_exists(enum bpf_link_type___other, BPF_LINK_TYPE_ITER___other);
	out[3] = bpf_core_type_id_kernel(struct task_struct___old);
	out[4] = bpf_core_type_exists(pid_t);
	out[5] = bpf_core_type_size(struct task_struct___new);
	if (bpf_core_field_exists(((struct task_struct___old *)task)->state))
		out[6] = BPF_CORE_READ((struct task_struct___old *)task, state);
	else
		out[6] = BPF_CORE_READ((struct task_struct___new *)task, __state);
	out[7] = BPF_CORE_READ((struct task_struct___old *)task, pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
