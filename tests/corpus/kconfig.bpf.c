// Externs of .kconfig of all types: weak and strong, there and missing.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig;
extern char CONFIG_NET __kconfig;
extern int CONFIG_NO_SUCH_OPTION __kconfig __weak;
long long result;

SEC("raw_tp/sys_enter")
int config(void *ctx)
{
	result = LINUX_KERNEL_VERSION + CONFIG_HZ + CONFIG_BPF + CONFIG_BPF_SYSCALL + CONFIG_DEFAULT_HOSTNAME[1] +
		 CONFIG_NET + CONFIG_NO_SUCH_OPTION;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
