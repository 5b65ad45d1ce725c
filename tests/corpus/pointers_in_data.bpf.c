// Several data sections of one kind, aligned variables, and offsets into arrays and structs of them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct row { __u64 a; __u32 b[6]; } rows[8] SEC(".data.rows");
__u8 bytes[100] __attribute__((aligned(64)));
__u8 odd = 1;
__u64 aligned __attribute__((aligned(32))) = 2;
const volatile __u16 table[5] SEC(".rodata.table") = { 1, 2, 3, 4, 5 };
const volatile __u32 more[2] SEC(".rodata.more") = { 6, 7 };
__u32 at;

SEC("raw_tp/sys_enter")
int pointers(void *ctx)
{
	rows[3].b[2] = table[4] + more[1];
	rows[at & 7].b[1] = bytes[99] + odd;
	bytes[at & 63] = table[at & 3] + aligned;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
