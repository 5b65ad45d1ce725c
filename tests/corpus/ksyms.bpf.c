// Externs of .ksyms: addresses and functions; weak ones that are missing.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern const void schedule __ksym;
extern const void no_such_symbol __ksym __weak;
extern int no_such_function(int) __ksym __weak;
__u64 addresses[2];

SEC("raw_tp/sys_enter")
int symbols(void *ctx)
{
	addresses[0] = (__u64)&schedule;
	addresses[1] = (__u64)&no_such_symbol;
	if (no_such_function)
		return no_such_function(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
