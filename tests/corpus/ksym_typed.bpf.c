// A typed variable of the kernel in .ksyms; the kernel itself wants it in kallsyms (CONFIG_KALLSYMS_ALL).
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct rq { int cpu; };
extern const struct rq runqueues __ksym;
__u64 present;

SEC("raw_tp/sys_enter")
int typed(void *ctx)
{
	present = bpf_per_cpu_ptr(&runqueues, 0) != 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
