// CO-RE: stores, of registers and of constants, to fields that are wider or narrower in the kernel.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct cpu_itimer { __u32 expires, incr; } __attribute__((preserve_access_index)); /* two u64 there */
struct timespec64 { __u64 tv_nsec; __s64 tv_sec; } __attribute__((preserve_access_index));
struct kuid { __u64 val; };
struct sched_rt_entity { __u64 timeout; __u32 watchdog_stamp; __u64 on_rq; } __attribute__((preserve_access_index));
__u64 out[12];

SEC("raw_tp/sys_enter")
int stores(void *ctx)
{
	struct sched_rt_entity *entity = (void *)&out[4];
	struct cpu_itimer *timer = (void *)out;

	timer->expires = bpf_get_smp_processor_id() | 0xfff0;
	timer->incr = 7;
	entity->watchdog_stamp = 0x1234;
	entity->on_rq = 3;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
