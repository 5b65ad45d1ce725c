// A strong extern of .kconfig that no configuration has.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int CONFIG_NO_SUCH_OPTION __kconfig;
int out;

SEC("raw_tp/sys_enter")
int strong(void *ctx)
{
	out = CONFIG_NO_SUCH_OPTION;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
