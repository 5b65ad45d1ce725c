// 32-bit registers and jumps (-mcpu=v3).
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__s32 numbers[4];
__u64 result;

SEC("raw_tp/sys_enter")
int jumps(void *ctx)
{
	__s32 a = numbers[0], b = numbers[1];

	if (a < b && (__u32)numbers[2] <= 7)
		result = (__u32)(a * b) >> (numbers[3] & 31);
	else
		result = a >> 3;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
