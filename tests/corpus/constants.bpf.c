// Constants of many types, and a branch that they make dead.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct inner { char tag; __u64 number; };
struct outer {
	struct inner pair[2];
	union { __u32 whole; __u8 bytes[4]; };
	unsigned low : 3, high : 5;
	const char *text;
};
enum signed_kind { MINUS = -3, PLUS = 3 };
typedef unsigned long long big_t;

const volatile _Bool yes = 1, no = 0;
const volatile signed char small = -5;
const volatile short medium = -300;
const volatile unsigned char letters[3] = "abc";
const volatile enum signed_kind kind = MINUS;
const volatile struct outer nested = { { { 'x', 1ULL << 63 }, { 'y', 2 } }, { 0x04030201 }, 5, 17 };
const volatile int matrix[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
const volatile big_t big = ~0ULL;
const volatile __int128 huge = -1;
const volatile void *pointer;
__u64 out;

SEC("raw_tp/sys_enter")
int constants(void *ctx)
{
	if (no)
		return *(volatile int *)0x10;
	if (yes && kind == MINUS)
		out = nested.pair[1].number + nested.bytes[2] + nested.high + matrix[1][2] + (letters[2] == 'c') + small +
		      medium + (big >> 60) + (__u64)huge + (pointer != 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
