// Instructions of an older processor (-mcpu=v1): no 32-bit registers, no jumps on less-than.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__s32 numbers[4];
__u64 result;

SEC("raw_tp/sys_enter")
int alu(void *ctx)
{
	__s32 a = numbers[0], b = numbers[1];

	if (a < b && (__u32)numbers[2] <= 7)
		result = (__u64)(a * b) << (numbers[3] & 31);
	else
		result = (__s64)a >> 3;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
