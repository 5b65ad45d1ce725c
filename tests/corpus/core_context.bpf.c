// CO-RE on a tracepoint's context, and on a typedef's and a union's fields.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct trace_event_raw_sched_switch { int next_pid; int prev_prio; char prev_comm[16]; } __attribute__((preserve_access_index));
typedef struct { int counter; } __attribute__((preserve_access_index)) atomic_t;
union bpf_attr___x { struct { __u32 prog_type; __u32 insn_cnt; }; } __attribute__((preserve_access_index));
__u64 out[4];

SEC("tp/sched/sched_switch")
int context(struct trace_event_raw_sched_switch *ctx)
{
	out[0] = ctx->next_pid;
	out[1] = ctx->prev_comm[2];
	out[2] = bpf_core_field_offset(((atomic_t *)0)->counter);
	out[3] = bpf_core_field_offset(((union bpf_attr___x *)0)->insn_cnt);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
