// Producers of the stress test, run through BPF_PROG_RUN. What a record holds is a function of its producer and its
// sequence number: `plan` says how long it is, whether it stays busy for long and whether it is discarded, `noise` is
// what fills it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PLAN 65536
#define NOISE 65536
#define LONGEST 4095
#define LINGERING 0x4000
#define DISCARDED 0x8000
#define LINGER 20000 // nanoseconds, at least
#define PRODUCERS 1024
enum { MORE, DONE, FULL };

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

// What became of a producer's records: attempted is the sum of the others.
struct account {
	unsigned long long attempted, submitted, discarded, lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PRODUCERS);
	__type(key, unsigned int);
	__type(value, struct account);
} accounts SEC(".maps");

const volatile unsigned short plan[PLAN];
const volatile unsigned char noise[NOISE + LONGEST];

// The start of a record; `lost` and `discarded` are the producer's until then, so sequence - lost - discarded is the
// number of its records that were submitted before.
struct head {
	unsigned int producer, length;
	unsigned long long sequence;
	unsigned int lost, discarded;
};

// What a run does: `count` records at most, up to the first that finds no room, until `share` have been submitted.
struct order {
	unsigned int producer, count;
	unsigned long long share;
};

struct run {
	struct account account;
	unsigned long long share;
	unsigned int producer, state;
};

static long until(unsigned int i, unsigned long long *end)
{
	return bpf_ktime_get_ns() >= *end;
}

static void linger(unsigned int times)
{
	unsigned long long end = bpf_ktime_get_ns() + LINGER * times;

	bpf_loop(1 << 20, until, &end, 0);
}

static long planned(unsigned int i, struct run *run)
{
	unsigned long long sequence = run->account.attempted++;
	unsigned int what = plan[(sequence + run->producer * 31337) & (PLAN - 1)];
	unsigned int tail = what & LONGEST;
	unsigned int start = (unsigned int)sequence * 2654435761u >> 16 & (NOISE - 1);
	struct bpf_dynptr record;
	struct head *head;

	if (bpf_ringbuf_reserve_dynptr(&events, sizeof(*head) + tail, 0, &record))
		goto full;
	head = bpf_dynptr_data(&record, 0, sizeof(*head));
	if (!head)
		goto full;
	head->producer = run->producer;
	head->length = sizeof(*head) + tail;
	head->sequence = sequence;
	head->lost = run->account.lost;
	head->discarded = run->account.discarded;
	bpf_dynptr_write(&record, sizeof(*head), (void *)noise + start, tail, 0);
	if (what & LINGERING)
		linger(1 << (start & 7));
	if (what & DISCARDED) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		run->account.discarded++;
		return 0;
	}
	bpf_ringbuf_submit_dynptr(&record, 0);
	run->account.submitted++;
	run->state = run->account.submitted >= run->share ? DONE : MORE;
	return run->state;
full:
	bpf_ringbuf_discard_dynptr(&record, 0);
	run->account.lost++;
	run->state = FULL;
	return 1;
}

static long empty(unsigned int i, struct run *run)
{
	void *record = bpf_ringbuf_reserve(&events, 0, 0);

	run->account.attempted++;
	if (!record) {
		run->account.lost++;
		run->state = FULL;
		return 1;
	}
	bpf_ringbuf_submit(record, 0);
	run->account.submitted++;
	run->state = run->account.submitted >= run->share ? DONE : MORE;
	return run->state;
}

#define PROGRAM(name, callback)                                                                                        \
	SEC("syscall") int name(struct order *order)                                                                   \
	{                                                                                                              \
		struct run run = {.share = order->share, .producer = order->producer};                                 \
		struct account *account = bpf_map_lookup_elem(&accounts, &run.producer);                               \
                                                                                                                       \
		if (!account)                                                                                          \
			return -1;                                                                                     \
		run.account = *account;                                                                                \
		bpf_loop(order->count, callback, &run, 0);                                                             \
		*account = run.account;                                                                                \
		return run.state;                                                                                      \
	}

PROGRAM(produce_planned, planned)
PROGRAM(produce_empty, empty)

char LICENSE[] SEC("license") = "GPL";
