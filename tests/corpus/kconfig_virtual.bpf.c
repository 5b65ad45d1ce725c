// Externs of .kconfig that the loader makes up, of several widths, and weak ones of every type that are missing.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern __u64 LINUX_KERNEL_VERSION __kconfig;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern __u16 CONFIG_HZ __kconfig;
extern signed char CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_NO_SUCH_TRISTATE __kconfig __weak;
extern _Bool CONFIG_NO_SUCH_BOOL __kconfig __weak;
extern char CONFIG_NO_SUCH_STRING[7] __kconfig __weak;
extern char CONFIG_DEFAULT_INIT[4] __kconfig __weak;
extern __u64 CONFIG_NO_SUCH_NUMBER __kconfig __weak;
__u64 out[9];

SEC("raw_tp/sys_enter")
int config(void *ctx)
{
	out[0] = LINUX_KERNEL_VERSION;
	out[2] = CONFIG_HZ;
	out[3] = CONFIG_BPF;
	out[4] = CONFIG_NO_SUCH_TRISTATE;
	out[5] = CONFIG_NO_SUCH_BOOL;
	out[6] = CONFIG_NO_SUCH_STRING[0] + CONFIG_DEFAULT_INIT[0];
	out[7] = CONFIG_NO_SUCH_NUMBER;
	if (LINUX_HAS_BPF_COOKIE)
		out[1] = 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
