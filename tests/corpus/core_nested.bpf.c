// CO-RE: anonymous structs and unions, arrays of structs, elements, flexible arrays, pointers to pointers.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct rlimit { unsigned long rlim_max, rlim_cur; } __attribute__((preserve_access_index));
struct signal_struct { struct rlimit rlim[16]; struct { int group_exit_code; }; } __attribute__((preserve_access_index));
struct qstr { const unsigned char *name; union { struct { __u32 len; __u32 hash; }; }; } __attribute__((preserve_access_index));
struct dentry { struct dentry *d_parent; struct qstr d_name; } __attribute__((preserve_access_index));
struct cgroup { int level; struct cgroup *ancestors[]; } __attribute__((preserve_access_index));
struct task_struct {
	struct signal_struct *signal;
	struct { int pid; union { int tgid; }; };
	struct { unsigned long sig[1]; } blocked;
	char comm[16];
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));
struct page { unsigned long flags; union { struct { unsigned long private; }; }; } __attribute__((preserve_access_index));
__u64 out[16];

SEC("raw_tp/sys_enter")
int nested(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *array = task;
	struct cgroup *cgroup = 0;
	struct dentry *dentry = 0;
	struct page *page = 0;

	out[0] = BPF_CORE_READ(task, tgid);
	out[1] = BPF_CORE_READ(task, signal, rlim[7].rlim_cur);
	out[2] = BPF_CORE_READ(task, signal, rlim[3].rlim_max);
	out[3] = BPF_CORE_READ(task, real_parent, real_parent, pid);
	out[4] = (__u64)&cgroup->ancestors[3];
	out[5] = (__u64)&dentry->d_name.hash;
	out[6] = (__u64)&page->private;
	out[7] = (__u64)&array[2].comm[5] - (__u64)array;
	out[8] = bpf_core_field_size(task->signal->rlim[2]);
	out[9] = bpf_core_field_exists(task->comm[15]);
	out[10] = bpf_core_field_offset(task->blocked);
	BPF_CORE_READ_STR_INTO(&out[12], task, real_parent, comm);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
