// The names of sections of tracing programs that load anywhere.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define P(name, section) \
	SEC(section)     \
	int name(void *ctx) { return 0; }
P(a, "tp/sched/sched_switch")
P(b, "tracepoint/sched/sched_wakeup")
P(c, "raw_tp/sched_switch")
P(d, "raw_tracepoint/sched_wakeup")
P(e, "tp_btf/sched_process_exit")
P(f, "kprobe/do_exit")
P(g, "kretprobe/do_exit")
P(h, "ksyscall/openat")
P(i, "kretsyscall/openat")
P(j, "uprobe//bin/true:main")
P(k, "uretprobe//bin/true:main")
P(l, "perf_event")
P(m, "iter/task")
P(n, "raw_tp.w/nbd_send_request")
P(o, "kprobe.multi/vfs_*")
P(p, "uprobe")

char LICENSE[] SEC("license") = "GPL";
