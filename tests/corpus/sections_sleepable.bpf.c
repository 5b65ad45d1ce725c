// Sections whose programs may sleep, and others of libbpf's table that this kernel's verifier takes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define P(name, section) \
	SEC(section)     \
	int name(void *ctx) { return 0; }
P(a, "uprobe.s//bin/true:main")
P(b, "uretprobe.s//bin/true:main+4")
P(c, "kretprobe.multi/vfs_*")
P(d, "iter.s/task")
P(e, "syscall")
P(f, "usdt//bin/true:provider:name")
P(h, "kprobe/do_exit+0x4")
P(i, "tp")
P(j, "raw_tp")
P(k, "socket")
P(l, "xdp")
P(m, "tc")
P(n, "cgroup_skb/egress")
P(o, "classifier")

char LICENSE[] SEC("license") = "GPL";
