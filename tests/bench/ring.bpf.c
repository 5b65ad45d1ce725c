// Producers for the ring benchmarks, run through BPF_PROG_RUN: they write as fast as one core can, and wake nobody.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	unsigned int pid;
	char filename[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
	__type(value, struct event);
} events SEC(".maps");

struct counts {
	unsigned long long sent, lost, sum;
};

// What a run does: at most so many records. What it did is added to `total`.
unsigned int wanted;
struct counts total;
unsigned int seed = 1;
unsigned char noise[256];

static void add(struct counts *run)
{
	total.sent += run->sent;
	total.lost += run->lost;
	total.sum += run->sum;
}

static long one(unsigned int i, struct counts *run)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		run->lost++;
		return 0;
	}
	event->pid = i;
	__builtin_memcpy(event->filename, "/usr/bin/python", 16);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	run->sent++;
	run->sum += i;
	return 0;
}

SEC("syscall")
int same(void *ctx)
{
	struct counts run = {};

	bpf_loop(wanted, one, &run, 0);
	add(&run);
	return 0;
}

static long any(unsigned int i, struct counts *run)
{
	unsigned long long length;

	seed = seed * 1664525 + 1013904223;
	length = 1 + (seed >> 16 & 127) + (seed >> 23 & 63); // 1 to 191: what the verifier can bound
	if (bpf_ringbuf_output(&events, noise, length, BPF_RB_NO_WAKEUP)) {
		run->lost++;
		return 1;
	}
	run->sent++;
	run->sum += length;
	return 0;
}

SEC("syscall")
int mixed(void *ctx)
{
	struct counts run = {};

	bpf_loop(wanted, any, &run, 0);
	add(&run);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
