// Values with fields that the kernel knows by their types: a spin lock, a timer and its callback.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct locked { struct bpf_spin_lock lock; int count; };
struct timed { struct bpf_timer timer; int fired; };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct locked);
	__uint(max_entries, 1);
} locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct timed);
	__uint(max_entries, 1);
} timers SEC(".maps");

static int fire(void *map, __u32 *key, struct timed *value)
{
	value->fired++;
	return 0;
}

SEC("syscall")
int arm(void *ctx)
{
	__u32 zero = 0;
	struct locked *locked = bpf_map_lookup_elem(&locks, &zero);
	struct timed *timed = bpf_map_lookup_elem(&timers, &zero);

	if (!locked || !timed)
		return 1;
	bpf_spin_lock(&locked->lock);
	locked->count++;
	bpf_spin_unlock(&locked->lock);
	bpf_timer_init(&timed->timer, &timers, 1);
	bpf_timer_set_callback(&timed->timer, fire);
	return bpf_timer_start(&timed->timer, 0, 0);
}

char LICENSE[] SEC("license") = "GPL";
