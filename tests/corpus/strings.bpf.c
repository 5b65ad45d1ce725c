// String literals, which lie in .rodata.str1.1 without BTF.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("raw_tp/sys_enter")
int strings(void *ctx)
{
	char text[32];

	bpf_probe_read_kernel_str(text, sizeof(text), "some text");
	bpf_printk("text %s %d", text, 5);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
