// CO-RE: values of enumerators: moved, missing and guarded, negative, of a typedef.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum bpf_map_type___local { BPF_MAP_TYPE_HASH___local = 77, BPF_MAP_TYPE_NO_SUCH___local = 78 };
enum hrtimer_mode { HRTIMER_MODE_REL = 55 };
typedef enum { ZS_NO_SUCH } no_such_t;
enum pid_type { PIDTYPE_PGID = -2, PIDTYPE_TID };
enum bpf_attach_type___x { BPF_TRACE_ITER___x };
__u64 out[8];

SEC("raw_tp/sys_enter")
int enums(void *ctx)
{
	out[0] = bpf_core_enum_value(enum bpf_map_type___local, BPF_MAP_TYPE_HASH___local);
	out[1] = bpf_core_enum_value_exists(enum bpf_map_type___local, BPF_MAP_TYPE_NO_SUCH___local);
	if (bpf_core_enum_value_exists(enum bpf_map_type___local, BPF_MAP_TYPE_NO_SUCH___local))
		out[2] = bpf_core_enum_value(enum bpf_map_type___local, BPF_MAP_TYPE_NO_SUCH___local);
	out[3] = bpf_core_enum_value(enum hrtimer_mode, HRTIMER_MODE_REL);
	out[4] = bpf_core_enum_value_exists(no_such_t, ZS_NO_SUCH);
	out[5] = bpf_core_enum_value(enum pid_type, PIDTYPE_PGID);
	out[6] = bpf_core_enum_value(enum bpf_attach_type___x, BPF_TRACE_ITER___x);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
