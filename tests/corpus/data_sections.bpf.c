// Global variables of many types in .rodata, .data, .bss and sections of their own.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum mode { OFF, ON = 5 };
struct point { int x, y; };

const volatile int limit = 7;
const volatile char name[16] = "purebpf";
const volatile struct point origin = { 3, -4 };
const volatile enum mode mode = ON;
const volatile unsigned long long big = 1ULL << 40;
int counter = 11;
unsigned char bytes[4] = { 1, 2, 3, 4 };
long long total;
struct point seen[2];
_Bool enabled = 1;
const volatile int special SEC(".rodata.special") = 21;
int other SEC(".data.other") = 31;
static volatile int hidden_count = 41;
__hidden int hidden_value = 51;

SEC("raw_tp/sys_enter")
int globals(void *ctx)
{
	if (mode == ON && enabled)
		total += limit + origin.x + special + other + hidden_count + hidden_value + (int)big;
	seen[1].x = bytes[2] + name[0];
	counter++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
